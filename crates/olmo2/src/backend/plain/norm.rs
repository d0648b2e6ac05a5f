//! RMS norms in f32, cast back afterwards.

use burn::prelude::*;
use burn::tensor::DType;

use crate::backend::request::Norm;
use crate::backend::rotation::Rotation;

pub(in crate::backend) fn rms_norm<B: Backend, const D: usize>(
    x: Tensor<B, D>,
    norm: &Norm<B>,
    residual: Option<Tensor<B, D>>,
) -> Tensor<B, D> {
    let dtype = x.dtype();
    let x = x.cast(DType::F32);
    let mean_square = x.clone().square().mean_dim(D - 1);
    let weight = norm.weight.clone().cast(DType::F32).unsqueeze();
    let normed = (x * (mean_square + norm.eps).sqrt().recip() * weight).cast(dtype);
    match residual {
        Some(residual) => residual + normed,
        None => normed,
    }
}

pub(in crate::backend) fn norm_rotate<B: Backend>(
    x: &Tensor<B, 3>,
    norm: &Norm<B>,
    rotation: &Rotation<B>,
) -> Tensor<B, 4> {
    let [_, tokens, width] = x.dims();
    let heads = width / rotation.head_dim();
    let normed = rms_norm(x.clone(), norm, None);
    rotation.apply(normed.reshape([1, tokens, heads, rotation.head_dim()]))
}
