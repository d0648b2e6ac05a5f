//! CPU kernels on plain slices; the crate knows no tensor library. It has matmuls with weights as
//! the file stores them, floats or blocks, and the quantizers that make blocks; attention over a KV
//! cache; norms, alone, with a residual or with a rotation; `silu(gate) * up`, alone or as the
//! epilogue of its matmuls; the thread pool, the file map, and the machine's [`limits`].
//!
//! Each kernel is one generic function, compiled for AVX-512, AVX2 and portable code, and tested
//! against [`mod@reference`]. [`level`] chooses at run time. AMX adds tile kernels for bf16 prefill
//! and for quantized weights with more than 8 rows; with 8 or fewer it only changes the order in
//! which blocks are read.
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
    AttentionShape, AttentionStep, CACHE_BLOCK, CacheMut, CacheRef, NO_WINDOW, attend,
    cache_blocks, store,
};
pub use map::map_file;
pub use memory::keep_freed_memory;
pub use norm::{RotationTable, rms_norm, rms_norm_rotate};
pub use product::{Activations, DECODE_ROWS, WeightData, WeightRef, matmul, matmul_gated};
