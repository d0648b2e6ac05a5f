//! Checkpoints of the Hugging Face hub: one `model.safetensors`, or shards with an index.

mod read;
mod write;

pub use read::from_bytes;
pub(crate) use read::open;
pub use write::{SafetensorsError, write};
