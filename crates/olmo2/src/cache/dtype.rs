//! What keys and values are stored in.

use std::fmt;

use burn::tensor::DType;
use olmo2_kernels::cache_blocks;
use thiserror::Error;

use crate::hint::Hint;

/// What a cache stores keys and values in. Attention computes in the model's precision whatever
/// this is; on burn-flex in f32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CacheDtype {
    /// Single precision. Where a model's activations have 16 bits, these 16 bits: nothing is lost
    /// either way.
    #[default]
    F32,
    /// bfloat16, rounded to nearest: half the memory, where the backend has it.
    Bf16,
    /// 8 bits with a bf16 scale for each 32 elements of a head: 8.5 bits an element. On burn-flex.
    Q8,
}

/// A cache type that a backend does not have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("backend `{backend}` has no cache in `{dtype}`")]
pub struct CacheDtypeError {
    /// The backend's name.
    pub backend: String,
    /// The type asked for.
    pub dtype: CacheDtype,
    /// Those that it has.
    pub supported: Vec<CacheDtype>,
}

impl Hint for CacheDtypeError {
    fn hint(&self) -> Option<String> {
        let supported = self.supported.iter().map(|dtype| format!("`{dtype}`"));
        let supported = supported.collect::<Vec<_>>().join(", ");
        Some(format!("choose a type that it has: {supported}"))
    }
}

impl CacheDtype {
    /// The types by their names.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::Q8];

    /// As the CLI spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Q8 => "q8",
        }
    }

    /// Bytes of a head's key or value, `head_dim` elements, in a model whose activations are
    /// `activations`.
    pub fn head_bytes(self, head_dim: usize, activations: DType) -> usize {
        match self {
            Self::F32 => head_dim * activations.size(),
            Self::Bf16 => head_dim * DType::BF16.size(),
            Self::Q8 => head_dim + cache_blocks(head_dim) * DType::BF16.size(),
        }
    }
}

impl fmt::Display for CacheDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
