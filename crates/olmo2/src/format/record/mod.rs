//! The record: a model's weights in burnpack files that are mapped as they are, and a receipt.
//!
//! One part holds embedding, final norm and head (`head.bpk`), and one each layer
//! (`layer-000.bpk`, ...), in the order and under the names of the
//! [layout](crate::weights::layout). Parts hold tensors only, so that the same weights give the same
//! bytes whatever their source; the receipt, `olmo2-record.json`, names the source.
//!
//! Floats have their own name. A matrix in quantized blocks is a few arrays:
//! `NAME.quants` (I8 `[out, in padded to 32]` for q8, U8 `[out, blocks, 16]` for q4),
//! `NAME.scales` (F16 or U8 `[out, blocks]`), and for q4 `NAME.selectors` (U8 `[out, blocks]`) and
//! `NAME.top` (F32 `[1]`). [`olmo2_kernels::quant`] defines them.

mod atomic;
mod burnpack;
mod check;
mod error;
mod part;
mod progress;
mod read;
mod receipt;
mod write;

pub use crate::storage::{StoredDtype, StoredFormat};
pub use crate::weights::layout::RECEIPT;
pub(crate) use atomic::{UNFINISHED, write as write_atomically};
pub(crate) use check::hash;
pub use check::{Checked, check};
pub use error::RecordError;
pub use progress::{ConvertEvent, ConvertProgress};
pub(crate) use read::open;
pub(crate) use receipt::{COPIED, Formats};
pub use receipt::{
    CopiedFile, FORMAT_VERSION, PartReceipt, Receipt, Source, SourceFile, TensorReceipt,
};
pub use write::Written;
pub(crate) use write::{begin, check_source, lock, source, write};
