//! The seam between the model and a backend: each operation goes down a chain of links, flex, then
//! plain, and the first that has it answers.
//!
//! A link answers or declines (`None`); [`plain`], in burn's operations, always answers, so that a
//! backend that this library does not know computes right without extra code. A link recognizes its
//! backend's tensors by a safe `Any` cast of the primitive: the public bound stays `B: Backend`,
//! and `Autodiff<Flex>`, which is another type, goes to plain. A cast costs tens of nanoseconds; an
//! extension trait would sit in every signature, and a user could not implement it for a foreign
//! backend.
//!
//! What a backend can do is one value, [`Capabilities`].

use burn::prelude::*;
use burn::tensor::DType;

use crate::cache::{Allocator, LayerStorage};

mod capabilities;
#[cfg(test)]
mod counting;
#[cfg(feature = "flex")]
mod flex;
mod plain;
mod request;
mod rotation;
#[cfg(all(test, feature = "flex"))]
mod tests;

pub use capabilities::Capabilities;
pub(crate) use request::{Attention, AttentionShape, DECODE_TOKENS, Matmul, MatmulWeight, Norm};
pub(crate) use rotation::Rotation;

/// The answer of the first link that has one. A new link is a line here and a module beside. Plain
/// may be given other arguments: values, since burn's operations reuse the memory of tensors that
/// have one owner.
macro_rules! first_answer {
    ($call:ident($($arg:expr),*)) => {
        first_answer!($call($($arg),*), or plain($($arg),*))
    };
    ($call:ident($($arg:expr),*), or plain($($owned:expr),*)) => {{
        #[cfg(test)]
        if let Some(answer) = counting::$call($($arg),*) {
            return answer;
        }
        #[cfg(feature = "flex")]
        if let Some(answer) = flex::$call($($arg),*) {
            return answer;
        }
        plain::$call($($owned),*)
    }};
}

impl Capabilities {
    /// What backend `B` can do on `device`.
    pub fn of<B: Backend>(device: &B::Device) -> Self {
        #[cfg(feature = "flex")]
        if let Some(capabilities) = flex::capabilities::<B>(device) {
            return capabilities;
        }
        plain::capabilities::<B>(device)
    }
}

/// Multiplies one input by several weights, in one pass over memory where a link has kernels.
///
/// # Shapes
/// - `matmul.x`: `[rows, in]`
/// - returns: `[rows, out]` for each weight, in the dtype of `x`
pub(crate) fn matmul<B: Backend, const N: usize>(
    matmul: &Matmul<B>,
    weights: &[MatmulWeight<'_, B>; N],
) -> [Tensor<B, 2>; N] {
    first_answer!(matmul(matmul, weights))
}

/// `silu(gate(x)) * up(x)`; `weights` are gate and up.
///
/// # Shapes
/// As [`matmul`], with one output.
pub(crate) fn matmul_gated<B: Backend>(
    matmul: &Matmul<B>,
    weights: &[MatmulWeight<'_, B>; 2],
) -> Tensor<B, 2> {
    first_answer!(matmul_gated(matmul, weights))
}

/// The norm of `x`, plus `residual` where there is one.
///
/// # Shapes
/// - `x`, `residual`: `[.., width]`, returned in the same shape and dtype
pub(crate) fn rms_norm<B: Backend, const D: usize>(
    x: Tensor<B, D>,
    norm: &Norm<B>,
    residual: Option<Tensor<B, D>>,
) -> Tensor<B, D> {
    first_answer!(rms_norm(&x, norm, residual.as_ref()), or plain(x, norm, residual))
}

/// The norm over the full width, then the rotation of each head.
///
/// # Shapes
/// - `x`: `[1, tokens, heads * head_dim]`
/// - returns: `[1, tokens, heads, head_dim]` in the same dtype
fn norm_rotate<B: Backend>(
    x: &Tensor<B, 3>,
    norm: &Norm<B>,
    rotation: &Rotation<B>,
) -> Tensor<B, 4> {
    first_answer!(norm_rotate(x, norm, rotation))
}

/// Norms and rotates queries and keys, stores keys and values, and attends: each run over its
/// slot, or, without storage, over its own tokens.
///
/// # Shapes
/// - returns: `[1, tokens, heads * head_dim]` in the dtype of `q`
pub(crate) fn attention<B: Backend>(
    attention: Attention<'_, B>,
    mut storage: Option<&mut LayerStorage<B>>,
) -> Tensor<B, 3> {
    first_answer!(attention(&attention, &mut storage), or plain(attention, &mut storage))
}

/// How the backend makes the tensors of a cache.
fn allocator<B: Backend>() -> Allocator<B> {
    Allocator {
        floats: zeros::<B>,
        ints: int_zeros::<B>,
    }
}

fn zeros<B: Backend>(shape: [usize; 4], dtype: DType, device: &B::Device) -> Tensor<B, 4> {
    first_answer!(zeros(shape, dtype, device))
}

fn int_zeros<B: Backend>(shape: [usize; 4], dtype: DType, device: &B::Device) -> Tensor<B, 4, Int> {
    first_answer!(int_zeros(shape, dtype, device))
}
