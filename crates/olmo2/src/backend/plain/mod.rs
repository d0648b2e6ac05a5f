//! The last link: burn's own operations, which every backend has.

mod attention;
mod matmul;
mod norm;

use burn::prelude::*;
use burn::tensor::DType;

use crate::cache::{CacheDtype, KEY_BUCKET};

use super::capabilities::{self, Capabilities};

pub(super) use attention::attention;
pub(super) use matmul::{matmul, matmul_gated};
pub(super) use norm::{norm_rotate, rms_norm};

pub(super) fn capabilities<B: Backend>(device: &B::Device) -> Capabilities {
    let mut cache_dtypes = vec![CacheDtype::F32];
    if B::supports_dtype(device, DType::BF16) {
        cache_dtypes.push(CacheDtype::Bf16);
    }
    Capabilities {
        backend: B::name(device),
        precisions: capabilities::precisions::<B>(device),
        cache_dtypes,
        kernels: None,
        cache_bucket: KEY_BUCKET,
    }
}

pub(super) fn zeros<B: Backend>(
    shape: [usize; 4],
    dtype: DType,
    device: &B::Device,
) -> Tensor<B, 4> {
    Tensor::zeros(shape, (device, dtype))
}

pub(super) fn int_zeros<B: Backend>(
    shape: [usize; 4],
    dtype: DType,
    device: &B::Device,
) -> Tensor<B, 4, Int> {
    Tensor::zeros(shape, (device, dtype))
}
