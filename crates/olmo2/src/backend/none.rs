//! A build without own kernels: burn's operations do everything.

use burn::prelude::*;
use burn::tensor::DType;
use olmo2_kernels::Activations;

use crate::cache::KvCache;
use crate::forward::batch::Row;
use crate::nn::Linear;

pub(crate) fn reads_in_place<B: Backend>() -> bool {
    false
}

pub(crate) fn project<B: Backend, const N: usize>(
    _x: &Tensor<B, 2>,
    _rounding: Activations,
    _linears: [&Linear<B>; N],
) -> Option<[Tensor<B, 2>; N]> {
    None
}

pub(crate) fn project_gated<B: Backend>(
    _x: &Tensor<B, 2>,
    _rounding: Activations,
    _linears: [&Linear<B>; 2],
) -> Option<Tensor<B, 2>> {
    None
}

pub(crate) fn attend<B: Backend>(
    _cache: &mut KvCache<B>,
    _layer: usize,
    _rows: &[Row],
    _qkv: [&Tensor<B, 4>; 3],
) -> Option<Tensor<B, 3>> {
    None
}

pub(crate) fn rms_norm<B: Backend, const D: usize>(
    _x: &Tensor<B, D>,
    _weight: &Tensor<B, 1>,
    _eps: f64,
    _residual: Option<&Tensor<B, D>>,
) -> Option<Tensor<B, D>> {
    None
}

pub(crate) fn norm_rotate<B: Backend>(
    _x: &Tensor<B, 3>,
    _weight: &Tensor<B, 1>,
    _eps: f64,
    _table: [&Tensor<B, 4>; 2],
) -> Option<Tensor<B, 4>> {
    None
}

pub(crate) fn zeros<B: Backend, const D: usize>(
    _shape: [usize; D],
    _dtype: DType,
) -> Option<Tensor<B, D>> {
    None
}

pub(crate) fn int_zeros<B: Backend, const D: usize>(
    _shape: [usize; D],
    _dtype: DType,
) -> Option<Tensor<B, D, Int>> {
    None
}
