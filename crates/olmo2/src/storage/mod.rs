//! What tensors are stored in: floats of some type, or quantized blocks.

pub(crate) mod element;
mod format;
mod packed;
mod weight;

pub use format::{RECEIPT, StoredDtype, StoredFormat};
pub(crate) use packed::Piece;
pub use packed::{Packed, QuantFormat};
pub use weight::Weight;
