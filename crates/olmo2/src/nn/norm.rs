//! RMS norm in the order of transformers since 4.52 and of OLMo-core.

use burn::module::Param;
use burn::nn::Initializer;
use burn::prelude::*;

use crate::backend::{self, Norm};

/// `x / sqrt(mean(x^2) + eps) * weight` over the last dimension: normalized in f32, multiplied by
/// the weight in f32, then cast to the dtype of `x`.
///
/// burn's own `RmsNorm` casts before it multiplies by the weight; OLMo 2 casts after it
/// (transformers#38131), which differs in bf16.
#[derive(Module, Debug)]
pub struct RmsNorm<B: Backend> {
    /// `[width]`.
    pub weight: Param<Tensor<B, 1>>,
    eps: f64,
}

impl<B: Backend> RmsNorm<B> {
    /// A norm of ones.
    pub fn new(width: usize, eps: f64, device: &B::Device) -> Self {
        Self {
            weight: Initializer::Ones.init([width], device),
            eps,
        }
    }

    /// The norm of `x`.
    ///
    /// # Shapes
    /// - `x`: `[.., width]`, returned in the same shape and dtype
    pub fn forward<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        backend::rms_norm(x, &self.as_norm(), None)
    }

    /// `residual + forward(x)`.
    ///
    /// # Shapes
    /// - `residual`, `x`: `[.., width]`, returned in the same shape and dtype
    pub fn forward_onto<const D: usize>(
        &self,
        residual: Tensor<B, D>,
        x: Tensor<B, D>,
    ) -> Tensor<B, D> {
        backend::rms_norm(x, &self.as_norm(), Some(residual))
    }

    /// What the seam is given of this norm.
    pub(crate) fn as_norm(&self) -> Norm<B> {
        Norm {
            weight: self.weight.val(),
            eps: self.eps,
        }
    }
}
