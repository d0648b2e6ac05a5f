//! Keys or values of one layer, as they lie in memory.

use burn::prelude::*;
use burn::tensor::{DType, Numeric};
use olmo2_kernels::attention::cache_blocks;

use super::CacheDtype;
use crate::backend;

/// `[slots, kv_heads, positions, head_dim]`.
#[derive(Debug, Clone)]
pub(crate) enum Stored<B: Backend> {
    /// Floats.
    Float(Tensor<B, 4>),
    /// What own kernels write and read.
    Q8 {
        /// I8.
        quants: Tensor<B, 4, Int>,
        /// BF16, `[slots, kv_heads, positions, blocks of 32]`.
        scales: Tensor<B, 4>,
    },
}

impl<B: Backend> Stored<B> {
    /// Zeros of `shape`, for a model whose activations are `activations`.
    pub(super) fn zeros(
        shape: [usize; 4],
        dtype: CacheDtype,
        activations: DType,
        device: &B::Device,
    ) -> Self {
        let float = |dtype| float_zeros(shape, dtype, device);
        match dtype {
            CacheDtype::F32 => Self::Float(float(activations)),
            CacheDtype::Bf16 => Self::Float(float(DType::BF16)),
            CacheDtype::Q8 => {
                let [slots, heads, positions, dim] = shape;
                let blocks = [slots, heads, positions, cache_blocks(dim)];
                Self::Q8 {
                    quants: int_zeros(shape, DType::I8, device),
                    scales: float_zeros(blocks, DType::BF16, device),
                }
            }
        }
    }

    /// The same with room for `positions`.
    pub(super) fn grown(self, positions: usize) -> Self {
        match self {
            Self::Float(x) => Self::Float(grown(x, positions, float_zeros)),
            Self::Q8 { quants, scales } => Self::Q8 {
                quants: grown(quants, positions, int_zeros),
                scales: grown(scales, positions, float_zeros),
            },
        }
    }

    /// The same with the first `len` positions of slot `to` made those of slot `from`.
    pub(super) fn with_prefix(self, from: usize, to: usize, len: usize) -> Self {
        match self {
            Self::Float(x) => Self::Float(with_prefix(x, from, to, len)),
            Self::Q8 { quants, scales } => Self::Q8 {
                quants: with_prefix(quants, from, to, len),
                scales: with_prefix(scales, from, to, len),
            },
        }
    }

    /// # Panics
    /// In 8 bits, which only backends have whose kernels read them.
    pub(super) fn into_float(self) -> Tensor<B, 4> {
        match self {
            Self::Float(x) => x,
            Self::Q8 { .. } => panic!("an 8-bit cache is read by own kernels alone"),
        }
    }
}

fn float_zeros<B: Backend>(shape: [usize; 4], dtype: DType, device: &B::Device) -> Tensor<B, 4> {
    backend::zeros(shape, dtype).unwrap_or_else(|| Tensor::zeros(shape, (device, dtype)))
}

fn int_zeros<B: Backend>(shape: [usize; 4], dtype: DType, device: &B::Device) -> Tensor<B, 4, Int> {
    backend::int_zeros(shape, dtype).unwrap_or_else(|| Tensor::zeros(shape, (device, dtype)))
}

fn grown<B: Backend, K: Numeric<B>>(
    old: Tensor<B, 4, K>,
    positions: usize,
    zeros: impl Fn([usize; 4], DType, &B::Device) -> Tensor<B, 4, K>,
) -> Tensor<B, 4, K> {
    let [slots, heads, held, dim] = old.dims();
    let new = zeros([slots, heads, positions, dim], old.dtype(), &old.device());
    new.slice_assign([0..slots, 0..heads, 0..held, 0..dim], old)
}

fn with_prefix<B: Backend, K: Numeric<B>>(
    x: Tensor<B, 4, K>,
    from: usize,
    to: usize,
    len: usize,
) -> Tensor<B, 4, K> {
    let [_, heads, _, dim] = x.dims();
    let part = x.clone().slice([from..from + 1, 0..heads, 0..len, 0..dim]);
    x.slice_assign([to..to + 1, 0..heads, 0..len, 0..dim], part)
}
