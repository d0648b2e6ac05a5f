//! Checkpoints of the Hugging Face hub: one `model.safetensors`, or shards with an index.

mod read;

pub use read::from_bytes;
pub(crate) use read::open;
