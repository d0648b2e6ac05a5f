//! The forms in which tensors are stored: floats of some dtype, or quantized blocks.

pub(crate) mod blocks;
pub(crate) mod element;
mod format;
pub(crate) mod name;
mod packed;
mod weight;

pub use blocks::QuantFormat;
pub use format::{StoredDtype, StoredFormat};
pub use name::UnknownFormat;
pub use packed::Packed;
pub use weight::Weight;
