//! What weights are stored in and what the model computes in: two things, decided here.
//!
//! Norms, rotation, softmax and logits are f32 whatever is chosen.
//!
//! | `Precision` | burn-flex, by own kernels | any other backend, and `F16` anywhere |
//! |---|---|---|
//! | weights | as they are stored, floats or quantized blocks | widened or narrowed to the compute dtype, once, at load |
//! | activations between operations | f32 | the compute dtype |
//! | products | of f32, or of activations that are rounded to bf16, with sums in f32; quantized weights meet activations in 8 bits either way | in the compute dtype |

use burn::prelude::*;
use burn::tensor::DType;
use olmo2_kernels::Activations;
use thiserror::Error;

use crate::backend;

/// What the model computes in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    /// Single precision: what logits are trusted in.
    #[default]
    F32,
    /// bfloat16, where the backend has it. On burn-flex only products round their input to it,
    /// and all that lies between them stays f32.
    Bf16,
    /// Half precision, where the backend has it. OLMo 2 1B overflows in it.
    F16,
}

/// A precision that a backend does not have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("backend `{backend}` does not compute in `{precision}`")]
pub struct PrecisionError {
    /// The backend's name.
    pub backend: String,
    /// The precision asked for.
    pub precision: &'static str,
}

impl Precision {
    /// The dtype that gives the precision its name.
    pub fn compute(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        }
    }

    /// The dtype of activations between operations on backend `B`, and of a cache.
    pub fn activations<B: Backend>(self) -> DType {
        match self.is_by_kernels::<B>() {
            true => DType::F32,
            false => self.compute(),
        }
    }

    /// As the CLI spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// Checks that backend `B` computes in this precision on `device`.
    ///
    /// # Errors
    /// It does not.
    pub fn check<B: Backend>(self, device: &B::Device) -> Result<(), PrecisionError> {
        match B::supports_dtype(device, self.compute()) {
            true => Ok(()),
            false => Err(PrecisionError {
                backend: B::name(device),
                precision: self.name(),
            }),
        }
    }

    /// Whether own kernels do the products on backend `B`, from weights as they are stored.
    pub(crate) fn is_by_kernels<B: Backend>(self) -> bool {
        backend::reads_in_place::<B>() && self != Self::F16
    }

    /// What own kernels round activations to.
    pub(crate) fn rounding(self) -> Activations {
        match self {
            Self::Bf16 => Activations::Bf16,
            Self::F32 | Self::F16 => Activations::F32,
        }
    }

    /// The dtype in which floats stored as `stored` are held in memory.
    pub(crate) fn held<B: Backend>(self, stored: DType) -> DType {
        match self.is_by_kernels::<B>() {
            true => stored,
            false => self.compute(),
        }
    }
}
