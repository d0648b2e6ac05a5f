//! Weights as files hold them: floats, or quantized blocks.

use burn::tensor::{AllocationProperty, Bytes, DType, TensorData};

use crate::storage::{Packed, StoredFormat, element};

/// The weights of one tensor, as a file holds them.
#[derive(Debug, Clone)]
pub struct StoredTensor {
    /// `F32`, `BF16` or `F16`.
    pub dtype: DType,
    /// Dimensions; a projection is `[out, in]`.
    pub shape: Vec<usize>,
    /// Little-endian elements, row by row: usually a slice of a mapped file.
    pub bytes: bytes::Bytes,
}

impl StoredTensor {
    /// Whether the bytes lie in memory as a slice of their elements may.
    pub fn is_aligned(&self) -> bool {
        self.bytes.as_ptr().addr().is_multiple_of(self.dtype.size())
    }

    /// One row of a matrix, in f32, as long as `out`.
    ///
    /// # Panics
    /// There is no such row.
    pub fn row(&self, index: usize, out: &mut [f32]) {
        let len = out.len() * self.dtype.size();
        element::widen(&self.bytes[index * len..][..len], self.dtype, out);
    }

    /// Elements as burn takes them: the same memory where the type stays, converted otherwise.
    ///
    /// Bytes that are not aligned are copied, since burn would panic on them.
    pub(crate) fn to_data(&self, dtype: DType) -> TensorData {
        let bytes = if dtype == self.dtype && self.is_aligned() {
            Bytes::from_shared(self.bytes.clone(), AllocationProperty::File)
        } else {
            element::cast_to_bytes(&self.bytes, self.dtype, dtype)
        };
        TensorData::from_bytes(bytes, self.shape.clone(), dtype)
    }
}

/// The weights of one name.
#[derive(Debug, Clone)]
pub enum StoredWeight {
    /// Floats of any shape.
    Float(StoredTensor),
    /// A matrix in quantized blocks.
    Packed(Packed),
}

impl StoredWeight {
    /// Dimensions; a projection is `[out, in]`.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Float(tensor) => &tensor.shape,
            Self::Packed(packed) => packed.shape(),
        }
    }

    /// What the weights are stored in.
    pub fn format(&self) -> StoredFormat {
        match self {
            Self::Float(tensor) => StoredFormat::of(tensor.dtype),
            Self::Packed(packed) => packed.format().into(),
        }
    }

    /// Bytes of the weights.
    pub fn byte_len(&self) -> u64 {
        match self {
            Self::Float(tensor) => tensor.bytes.len() as u64,
            Self::Packed(packed) => packed.byte_len(),
        }
    }

    /// The floats, if it is made of them.
    pub fn float(&self) -> Option<&StoredTensor> {
        match self {
            Self::Float(tensor) => Some(tensor),
            Self::Packed(_) => None,
        }
    }

    /// The blocks, if it is made of them.
    pub fn packed(&self) -> Option<&Packed> {
        match self {
            Self::Float(_) => None,
            Self::Packed(packed) => Some(packed),
        }
    }

    /// Elements as burn takes them, in `dtype`.
    pub(crate) fn to_data(&self, dtype: DType) -> TensorData {
        match self {
            Self::Float(tensor) => tensor.to_data(dtype),
            Self::Packed(packed) => packed.widen(dtype),
        }
    }
}
