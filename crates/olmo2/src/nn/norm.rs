//! RMS norm in the order of transformers since 4.52 and of OLMo-core.

use burn::module::Param;
use burn::nn::Initializer;
use burn::prelude::*;
use burn::tensor::DType;

use crate::backend;
use crate::nn::rope::Rotation;

/// `x / sqrt(mean(x^2) + eps) * weight` over the last dimension.
///
/// burn's own `RmsNorm` casts before the weight is multiplied; OLMo 2 casts after it
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

    /// Normalizes in f32, multiplies by the weight in f32, then casts to the dtype of `x`.
    ///
    /// # Shapes
    /// - `x`: `[.., width]`, returned in the same shape and dtype
    pub fn forward<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        backend::rms_norm(&x, &self.weight.val(), self.eps, None).unwrap_or_else(|| self.normed(x))
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
        backend::rms_norm(&x, &self.weight.val(), self.eps, Some(&residual))
            .unwrap_or_else(|| residual + self.normed(x))
    }

    /// [`forward`](Self::forward), then the rotation of each head.
    ///
    /// # Shapes
    /// - `x`: `[batch, seq, heads * head_dim]`
    /// - returns: `[batch, seq, heads, head_dim]` in the same dtype
    pub(crate) fn forward_rotated(&self, x: Tensor<B, 3>, rotation: &Rotation<B>) -> Tensor<B, 4> {
        let own = backend::norm_rotate(&x, &self.weight.val(), self.eps, rotation.tables());
        own.unwrap_or_else(|| rotation.apply(rotation.heads(self.normed(x))))
    }

    /// The norm in burn's operations.
    fn normed<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        let dtype = x.dtype();
        let x = x.cast(DType::F32);
        let mean_square = x.clone().square().mean_dim(D - 1);
        let weight = self.weight.val().cast(DType::F32).unsqueeze();
        (x * (mean_square + self.eps).sqrt().recip() * weight).cast(dtype)
    }
}
