//! Scaled dot-product attention in burn's operations, for every backend.

use burn::prelude::*;
use burn::tensor::{DType, activation::softmax};

/// Attention is over a multiple of this many keys; the mask hides those that are not there.
///
/// Shapes repeat, and with them compiled kernels. And some products of cubek 0.2, to which burn 0.21
/// is bound, are right over an even number of stages only (ARCHITECTURE.md); stages are powers of two,
/// at most 128.
pub(crate) const KEY_BUCKET: usize = 256;

/// How many keys to attend over where there are `len`.
pub(crate) fn attended_keys(len: usize) -> usize {
    len.next_multiple_of(KEY_BUCKET)
}

/// Keys or values `[batch, kv_heads, len, head_dim]`, with zeros behind them.
pub(crate) fn pad_keys<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    let len = x.dims()[2];
    match attended_keys(len) - len {
        0 => x,
        missing => x.pad([(0, missing), (0, 0)], 0.0),
    }
}

/// `softmax(q k^T / sqrt(head_dim)) v`, the softmax in f32; heads of a group share keys and values
/// without a copy of them.
///
/// burn's `module::attention` is left aside: its fallback takes the softmax in the model's dtype.
///
/// # Shapes
/// - `q`: `[batch, seq, heads, head_dim]`
/// - `k`, `v`: `[batch, kv_heads, keys, head_dim]`
/// - `mask`: `[batch or 1, 1, seq, keys]`, true where a key is hidden
/// - returns: `[batch, seq, heads * head_dim]`
pub(crate) fn attention<B: Backend>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    mask: Option<Tensor<B, 4, Bool>>,
) -> Tensor<B, 3> {
    let dtype = q.dtype();
    let [batch, seq, heads, head_dim] = q.dims();
    let [_, kv_heads, keys, _] = k.dims();
    let grouped = [batch, kv_heads, heads / kv_heads * seq, head_dim];
    let (k, v) = (k.cast(dtype), v.cast(dtype));

    let q = q.swap_dims(1, 2).reshape(grouped);
    let scores = q.matmul(k.swap_dims(2, 3)).cast(DType::F32) * (head_dim as f64).powf(-0.5);
    let scores = scores.reshape([batch, heads, seq, keys]);
    let scores = match mask {
        // The least finite number: a row of padding, which sees nothing, must not become NaN.
        Some(mask) => scores.mask_fill(mask.expand([batch, heads, seq, keys]), f32::MIN),
        None => scores,
    };
    let weights = softmax(scores, 3).cast(dtype);

    let mixed = weights
        .reshape([batch, kv_heads, heads / kv_heads * seq, keys])
        .matmul(v);
    let mixed = mixed.reshape([batch, heads, seq, head_dim]);
    mixed
        .swap_dims(1, 2)
        .reshape([batch, seq, heads * head_dim])
}
