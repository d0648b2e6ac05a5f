//! Names of the types and formats in which weights are stored.

use burn::tensor::DType;
use serde::{Deserialize, Serialize};

use super::packed::QuantFormat;

/// Name of the receipt that makes a folder a record.
pub const RECEIPT: &str = "olmo2-record.json";

/// A type in which weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoredDtype {
    /// 32-bit floats.
    F32,
    /// Brain floats: 8 bits of exponent, 8 of precision.
    Bf16,
    /// IEEE half floats; the largest is 65504.
    F16,
}

impl StoredDtype {
    /// The types by their names.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::F16];

    /// The name in receipts and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    pub(crate) fn of(dtype: DType) -> Self {
        match dtype {
            DType::BF16 => Self::Bf16,
            DType::F16 => Self::F16,
            _ => Self::F32,
        }
    }
}

impl From<StoredDtype> for DType {
    fn from(dtype: StoredDtype) -> Self {
        match dtype {
            StoredDtype::F32 => Self::F32,
            StoredDtype::Bf16 => Self::BF16,
            StoredDtype::F16 => Self::F16,
        }
    }
}

/// What the weights of a tensor are stored in: floats or quantized blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoredFormat {
    /// 32-bit floats.
    F32,
    /// Brain floats.
    Bf16,
    /// IEEE half floats.
    F16,
    /// [`QuantFormat::Q8`].
    Q8,
    /// [`QuantFormat::Q4`].
    Q4,
}

impl StoredFormat {
    /// The formats by their names.
    pub const ALL: [Self; 5] = [Self::F32, Self::Bf16, Self::F16, Self::Q8, Self::Q4];

    /// The name in receipts.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => StoredDtype::F32.name(),
            Self::Bf16 => StoredDtype::Bf16.name(),
            Self::F16 => StoredDtype::F16.name(),
            Self::Q8 => QuantFormat::Q8.name(),
            Self::Q4 => QuantFormat::Q4.name(),
        }
    }

    pub(crate) fn of(dtype: DType) -> Self {
        StoredDtype::of(dtype).into()
    }
}

impl From<StoredDtype> for StoredFormat {
    fn from(dtype: StoredDtype) -> Self {
        match dtype {
            StoredDtype::F32 => Self::F32,
            StoredDtype::Bf16 => Self::Bf16,
            StoredDtype::F16 => Self::F16,
        }
    }
}

impl From<QuantFormat> for StoredFormat {
    fn from(format: QuantFormat) -> Self {
        match format {
            QuantFormat::Q8 => Self::Q8,
            QuantFormat::Q4 => Self::Q4,
        }
    }
}
