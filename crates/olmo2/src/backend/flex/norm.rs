//! burn-flex: norms, with the residual or the rotation that follows them, on all threads.

use burn::prelude::*;
use burn::tensor::DType;
use olmo2_kernels::{RotationTable, owned};

use super::matmul::{computes, contiguous, f32s, from_vec};

/// `x / sqrt(mean(x^2) + eps) * weight`, plus `residual` if there is one; f32 only.
pub(crate) fn rms_norm<B: Backend, const D: usize>(
    x: &Tensor<B, D>,
    weight: &Tensor<B, 1>,
    eps: f64,
    residual: Option<&Tensor<B, D>>,
) -> Option<Tensor<B, D>> {
    if !computes(x) || residual.is_some_and(|residual| !computes(residual)) {
        return None;
    }
    let shape = x.dims();
    let weight = contiguous(&weight.clone().cast(DType::F32));
    let (x, residual) = (contiguous(x), residual.map(contiguous));
    let residual = residual.as_ref().map(f32s);
    let out = owned::rms_norm(f32s(&x), f32s(&weight), eps as f32, residual);
    Some(from_vec(out, shape))
}

/// The norm over whole rows, then the rotation of their heads; f32 only.
///
/// # Shapes
/// - `x`: `[batch, seq, heads * head_dim]`
/// - `cos`, `sin`: `[batch or 1, seq, 1, head_dim]`, the first half of `sin` negated
/// - returns: `[batch, seq, heads, head_dim]`
pub(crate) fn norm_rotate<B: Backend>(
    x: &Tensor<B, 3>,
    weight: &Tensor<B, 1>,
    eps: f64,
    [cos, sin]: [&Tensor<B, 4>; 2],
) -> Option<Tensor<B, 4>> {
    if !computes(x) {
        return None;
    }
    let ([batch, seq, width], head_dim) = (x.dims(), cos.dims()[3]);
    let weight = contiguous(&weight.clone().cast(DType::F32));
    let (x, cos, sin) = (contiguous(x), contiguous(cos), contiguous(sin));
    let table = RotationTable {
        cos: f32s(&cos),
        sin: f32s(&sin),
        head_dim,
    };
    let out = owned::norm_rotate(f32s(&x), f32s(&weight), eps as f32, &table);
    Some(from_vec(out, [batch, seq, width / head_dim, head_dim]))
}
