//! Norms, with the residual or the rotation that follows them, on all threads.

use burn::prelude::*;
use burn::tensor::DType;
use olmo2_kernels::RotationTable;

use super::tensor::{computes, contiguous, f32s, from_vec};
use crate::backend::request::Norm;
use crate::backend::rotation::Rotation;

pub(in crate::backend) fn rms_norm<B: Backend, const D: usize>(
    x: &Tensor<B, D>,
    norm: &Norm<B>,
    residual: Option<&Tensor<B, D>>,
) -> Option<Tensor<B, D>> {
    if !computes(x) || residual.is_some_and(|residual| !computes(residual)) {
        return None;
    }
    let weight = contiguous(&norm.weight.clone().cast(DType::F32));
    let (values, residual) = (contiguous(x), residual.map(contiguous));
    let residual = residual.as_ref().map(f32s);
    let out = olmo2_kernels::rms_norm(f32s(&values), f32s(&weight), norm.eps as f32, residual);
    Some(from_vec(out, x.dims()))
}

pub(in crate::backend) fn norm_rotate<B: Backend>(
    x: &Tensor<B, 3>,
    norm: &Norm<B>,
    rotation: &Rotation<B>,
) -> Option<Tensor<B, 4>> {
    let [_, tokens, width] = x.dims();
    let head_dim = rotation.head_dim();
    let out = normed_and_rotated(x, norm, rotation)?;
    Some(from_vec(out, [1, tokens, width / head_dim, head_dim]))
}

/// The values of [`norm_rotate`].
pub(super) fn normed_and_rotated<B: Backend>(
    x: &Tensor<B, 3>,
    norm: &Norm<B>,
    rotation: &Rotation<B>,
) -> Option<Vec<f32>> {
    if !computes(x) {
        return None;
    }
    let weight = contiguous(&norm.weight.clone().cast(DType::F32));
    let x = contiguous(x);
    let [cos, sin] = rotation.tables();
    let table = RotationTable {
        cos,
        sin,
        head_dim: rotation.head_dim(),
    };
    let eps = norm.eps as f32;
    Some(olmo2_kernels::rms_norm_rotate(
        f32s(&x),
        f32s(&weight),
        eps,
        &table,
    ))
}
