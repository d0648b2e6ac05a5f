//! What the links of the chain are given.

use burn::prelude::*;

use crate::cache::Run;
use crate::precision::Precision;
use crate::storage::Weight;

use super::rotation::Rotation;

/// Tokens that a run has at most to go through the decode kernels; longer runs are prefill.
pub(crate) const DECODE_TOKENS: usize = olmo2_kernels::DECODE_ROWS;

/// The input of a matmul.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "flex"),
    expect(
        dead_code,
        reason = "plain computes all rows alike, in the dtype of the input"
    )
)]
pub(crate) struct Matmul<B: Backend> {
    /// `[rows, in]`.
    pub(crate) x: Tensor<B, 2>,
    /// The first rows, those of runs of at most [`DECODE_TOKENS`]: the order of their sums does not
    /// depend on how many there are, nor does that of the others.
    pub(crate) decode_rows: usize,
    /// What the matmul computes in.
    pub(crate) precision: Precision,
}

/// A weight `[out, in]` with its bias `[out]`.
#[derive(Debug)]
pub(crate) struct MatmulWeight<'a, B: Backend> {
    pub(crate) weight: &'a Weight<B>,
    pub(crate) bias: Option<Tensor<B, 1>>,
}

/// `x / sqrt(mean(x^2) + eps) * weight`.
#[derive(Debug, Clone)]
pub(crate) struct Norm<B: Backend> {
    /// `[width]`.
    pub(crate) weight: Tensor<B, 1>,
    pub(crate) eps: f64,
}

/// Heads of a layer's attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AttentionShape {
    /// Heads of queries, a multiple of `kv_heads`.
    pub(crate) heads: usize,
    /// Heads of keys and values.
    pub(crate) kv_heads: usize,
    /// Elements of a head.
    pub(crate) head_dim: usize,
}

/// The mask of some runs over a number of keys.
pub(crate) type MaskOf<'a, B> = dyn Fn(&[Run], usize) -> Option<Tensor<B, 4, Bool>> + 'a;

/// The attention of one layer: queries, keys and values as the projections leave them.
#[derive(Clone)]
pub(crate) struct Attention<'a, B: Backend> {
    /// `[1, tokens, heads * head_dim]`.
    pub(crate) q: Tensor<B, 3>,
    /// `[1, tokens, kv_heads * head_dim]`.
    pub(crate) k: Tensor<B, 3>,
    /// `[1, tokens, kv_heads * head_dim]`.
    pub(crate) v: Tensor<B, 3>,
    pub(crate) q_norm: Norm<B>,
    pub(crate) k_norm: Norm<B>,
    pub(crate) shape: AttentionShape,
    /// The rotation of the layer's kind.
    pub(crate) rotation: &'a Rotation<B>,
    /// Their tokens lie one after the other.
    pub(crate) runs: &'a [Run],
    /// Positions that a query sees at most, its own among them; `None` for all.
    #[cfg_attr(
        not(feature = "flex"),
        expect(dead_code, reason = "burn's operations have it in the mask")
    )]
    pub(crate) window: Option<usize>,
    /// The mask `[runs or 1, 1, tokens of a run, keys]` of runs of one length over `keys` keys,
    /// true where a key is hidden; `None` where every query sees every key. Kernels that know the
    /// causal rule and the window do without.
    pub(crate) mask: &'a MaskOf<'a, B>,
}
