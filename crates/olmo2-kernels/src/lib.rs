//! CPU kernels on plain slices, with no tensor library in sight: products with weights as they
//! lie in the file, floats or blocks, and the quantizers that make blocks; attention over a KV
//! cache; norms, alone, with a residual or a rotation; `silu(gate) * up`, alone or at the end of its
//! products; the thread pool they run on, the file map, and the machine's [`limits`]. Each kernel is
//! one generic function, instantiated for AVX-512, AVX2 and portable code ([`level`] picks at run
//! time; with AMX, prefills of bf16 and more than 8 rows of blocks have one more, and fewer read blocks in
//! another order), and is tested against [`mod@reference`].
//!
//! This crate holds the project's only `unsafe` code; every module that needs it says so.
#![deny(unsafe_op_in_unsafe_fn)]
#![warn(missing_docs)]
#![allow(
    clippy::needless_range_loop,
    reason = "register tiles are arrays walked in step with memory"
)]

mod activation;
mod attention;
mod buffer;
pub mod level;
pub mod limits;
mod map;
mod memory;
mod norm;
pub mod pool;
mod product;
mod q4_scales;
pub mod quant;
pub mod reference;
mod simd;

pub use activation::silu_mul;
pub use attention::{
    AttentionShape, AttentionStep, CACHE_BLOCK, CacheMut, CacheRef, attend, cache_blocks, store,
};
pub use map::map_file;
pub use memory::keep_freed_memory;
pub use norm::{RotationTable, rms_norm, rms_norm_rotate};
pub use product::{Activations, DECODE_ROWS, WeightData, WeightRef, matmul, matmul_gated};
