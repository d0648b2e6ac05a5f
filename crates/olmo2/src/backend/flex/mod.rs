//! The link for burn-flex: the CPU kernels of `olmo2-kernels` on the slices that its tensors hold.
//!
//! It computes in f32; with activations of another dtype it declines.

mod attention;
mod matmul;
mod norm;
mod tensor;

use burn::prelude::*;
use burn::tensor::DType;

use crate::cache::CacheDtype;
use crate::precision::Precision;
use crate::storage::StoredFormat;

use super::capabilities::{self, Capabilities, Kernels};

pub(super) use attention::attention;
pub(super) use matmul::{matmul, matmul_gated};
pub(super) use norm::{norm_rotate, rms_norm};

pub(super) fn capabilities<B: Backend>(device: &B::Device) -> Option<Capabilities> {
    tensor::is_flex::<B>().then(|| Capabilities {
        backend: B::name(device),
        precisions: capabilities::precisions::<B>(device),
        cache_dtypes: CacheDtype::ALL.to_vec(),
        kernels: Some(Kernels {
            precisions: &[Precision::F32, Precision::Bf16],
            activations: DType::F32,
            formats: &StoredFormat::ALL,
            cache_dtypes: &CacheDtype::ALL,
        }),
        cache_bucket: 1,
    })
}

/// Zeros as the allocator gives them, untouched in new memory: `Tensor::zeros` of burn-flex copies
/// them once more, into an allocation of greater alignment.
pub(super) fn zeros<B: Backend>(
    shape: [usize; 4],
    dtype: DType,
    _device: &B::Device,
) -> Option<Tensor<B, 4>> {
    tensor::is_flex::<B>().then(|| tensor::from_flex(tensor::untouched(shape, dtype)))
}

/// The same of integers.
pub(super) fn int_zeros<B: Backend>(
    shape: [usize; 4],
    dtype: DType,
    _device: &B::Device,
) -> Option<Tensor<B, 4, Int>> {
    tensor::is_flex::<B>()
        .then(|| Tensor::from_primitive(tensor::same(tensor::untouched(shape, dtype))))
}

#[cfg(test)]
mod tests {
    use burn_flex::Flex;

    use super::*;

    #[test]
    fn zeros_are_those_of_burn() {
        let device = Default::default();
        let shape = [1, 1, 3, 5];
        for dtype in [DType::F32, DType::BF16, DType::F16, DType::F64] {
            let right = Tensor::<Flex, 4>::zeros(shape, (&device, dtype));
            let zeros = zeros::<Flex>(shape, dtype, &device).expect("the backend is Flex");
            assert_eq!(zeros.into_data(), right.into_data());
        }
        let right = Tensor::<Flex, 4, Int>::zeros(shape, (&device, DType::I8));
        let zeros = int_zeros::<Flex>(shape, DType::I8, &device).expect("the backend is Flex");
        assert_eq!(zeros.into_data(), right.into_data());
    }
}
