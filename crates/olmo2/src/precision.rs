//! What weights are stored in and what the model computes in: two things, decided here.
//!
//! Norms, rotation, softmax and logits are f32 whatever is chosen.

use burn::prelude::*;
use burn::tensor::DType;
use thiserror::Error;

/// The dtype of activations between operations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    /// Single precision: what logits are trusted in.
    #[default]
    F32,
    /// bfloat16, where the backend has it.
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
    /// The dtype of activations.
    pub fn compute(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
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

    /// The dtype in which a weight stored as `stored` is held in memory.
    ///
    /// A backend with kernels that read the stored form keeps it, so that loading copies nothing;
    /// elsewhere the weight is held in the compute dtype, converted once, at load.
    pub(crate) fn held<B: Backend>(self, stored: DType) -> DType {
        match crate::cast::reads_in_place::<B>() {
            true => stored,
            false => self.compute(),
        }
    }
}
