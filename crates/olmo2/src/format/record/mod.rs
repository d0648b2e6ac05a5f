//! The record: a model's weights as burnpack files that are mapped as they lie, and a receipt.
//!
//! One part for embedding, final norm and head (`head.bpk`), one for each layer
//! (`layer-000.bpk`, ...), in the order and under the names of the [layout](crate::weights::layout). Parts
//! hold nothing but tensors, so the same weights give the same bytes wherever they came from;
//! where that was stands in the receipt, `olmo2-record.json`.
//!
//! A tensor in floats lies under its own name. A matrix in quantized blocks is a few arrays:
//! `NAME.quants` (I8 `[out, in padded to 32]` for q8, U8 `[out, blocks, 16]` for q4),
//! `NAME.scales` (F16 or U8 `[out, blocks]`), and for q4 `NAME.selectors` (U8 `[out, blocks]`) and
//! `NAME.top` (F32 `[1]`). [`olmo2_kernels::quant`] says what they mean.

mod atomic;
mod burnpack;
mod error;
mod part;
mod progress;
mod read;
mod receipt;
mod verify;
mod write;

pub use crate::storage::{StoredDtype, StoredFormat};
pub use crate::weights::layout::RECEIPT;
pub(crate) use atomic::{UNFINISHED, write as write_atomically};
pub use error::RecordError;
pub use progress::{ConvertEvent, ConvertProgress};
pub(crate) use read::open;
pub(crate) use receipt::{COPIED, Formats};
pub use receipt::{
    CopiedFile, FORMAT_VERSION, PartReceipt, Receipt, Source, SourceFile, TensorReceipt,
};
pub(crate) use verify::hash;
pub use verify::{Verified, verify};
pub use write::Written;
pub(crate) use write::{begin, check, lock, source, write};
