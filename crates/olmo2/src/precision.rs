//! What the model computes in, which is not what its weights are stored in.
//!
//! Norms, rotation, softmax and logits are f32 in every precision. What a precision means on a
//! backend is for its [`Capabilities`](crate::Capabilities) to say:
//!
//! | `Precision` | burn-flex, by own kernels | any other backend, and `F16` anywhere |
//! |---|---|---|
//! | weights | as they are stored, floats or quantized blocks | widened or narrowed to the compute dtype, once, at load |
//! | activations between operations | f32 | the compute dtype |
//! | matmuls | in f32, or with activations rounded to bf16 and sums in f32; activations are quantized to 8 bits for quantized weights either way | in the compute dtype |

use burn::tensor::DType;
use thiserror::Error;

use crate::hint::Hint;

/// What the model computes in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    /// Single precision: what logits are trusted in.
    #[default]
    F32,
    /// bfloat16, where the backend has it. On burn-flex matmuls alone round their input to it, and
    /// everything between them stays f32.
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

impl Hint for PrecisionError {
    fn hint(&self) -> Option<String> {
        Some("choose another precision; f32 runs everywhere".into())
    }
}

impl Precision {
    /// The precisions by their names.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::F16];

    /// The dtype that gives the precision its name.
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
}
