//! The dtypes and formats in which weights are stored.

use burn::tensor::DType;

use super::blocks::QuantFormat;
use super::name::by_name;

/// A dtype in which weights are stored as floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredDtype {
    /// 32-bit floats.
    F32,
    /// Brain floats: 8 bits of exponent, 8 of precision.
    Bf16,
    /// IEEE half floats; the largest is 65504.
    F16,
}

impl StoredDtype {
    /// Every dtype.
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

by_name!(StoredDtype, Self::ALL);

impl From<StoredDtype> for DType {
    fn from(dtype: StoredDtype) -> Self {
        match dtype {
            StoredDtype::F32 => Self::F32,
            StoredDtype::Bf16 => Self::BF16,
            StoredDtype::F16 => Self::F16,
        }
    }
}

/// The format in which the weights of a tensor are stored: floats or quantized blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredFormat {
    /// Floats of a dtype.
    Float(StoredDtype),
    /// Quantized blocks.
    Packed(QuantFormat),
}

impl StoredFormat {
    /// Every format.
    pub const ALL: [Self; StoredDtype::ALL.len() + QuantFormat::ALL.len()] = {
        let mut all =
            [Self::Float(StoredDtype::F32); StoredDtype::ALL.len() + QuantFormat::ALL.len()];
        let mut i = 0;
        while i < all.len() {
            all[i] = match i.checked_sub(StoredDtype::ALL.len()) {
                None => Self::Float(StoredDtype::ALL[i]),
                Some(i) => Self::Packed(QuantFormat::ALL[i]),
            };
            i += 1;
        }
        all
    };

    /// The name in receipts: that of the dtype or of the quantized format.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float(dtype) => dtype.name(),
            Self::Packed(format) => format.name(),
        }
    }

    pub(crate) fn of(dtype: DType) -> Self {
        Self::Float(StoredDtype::of(dtype))
    }
}

by_name!(StoredFormat, Self::ALL);

impl From<StoredDtype> for StoredFormat {
    fn from(dtype: StoredDtype) -> Self {
        Self::Float(dtype)
    }
}

impl From<QuantFormat> for StoredFormat {
    fn from(format: QuantFormat) -> Self {
        Self::Packed(format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Receipts hold the names as JSON strings.
    #[test]
    fn formats_are_serialized_by_their_names() {
        for format in StoredFormat::ALL {
            let text = format!("\"{}\"", format.name());
            assert_eq!(serde_json::to_string(&format).unwrap(), text);
            assert_eq!(serde_json::from_str::<StoredFormat>(&text).unwrap(), format);
        }
        let error = serde_json::from_str::<StoredFormat>("\"f8\"").expect_err("no such format");
        let expected = "expected f32, bf16, f16, q8 or q4, found `f8`";
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}
