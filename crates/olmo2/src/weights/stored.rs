//! Weights as files store them: floats or quantized blocks.

use burn::tensor::{AllocationProperty, Bytes, DType, TensorData};

use crate::storage::{Packed, StoredFormat, element};

/// A tensor of floats, as a file stores it.
#[derive(Debug, Clone)]
pub struct StoredTensor {
    /// `F32`, `BF16` or `F16`.
    pub dtype: DType,
    /// Dimensions; a projection is `[out, in]`.
    pub shape: Vec<usize>,
    /// Little-endian elements in row-major order, usually a slice of a mapped file.
    pub bytes: bytes::Bytes,
}

impl StoredTensor {
    /// Whether the bytes are aligned for their dtype.
    pub fn is_aligned(&self) -> bool {
        self.bytes.as_ptr().addr().is_multiple_of(self.dtype.size())
    }

    /// Writes row `index` of a matrix `[out, in]` to `out`, `[in]`, in f32.
    ///
    /// # Panics
    /// The matrix has no such row, or not one of this length.
    pub fn row(&self, index: usize, out: &mut [f32]) {
        let len = out.len() * self.dtype.size();
        element::widen(&self.bytes[index * len..][..len], self.dtype, out);
    }

    /// Whether two tensors have the same shape and values; their dtypes may differ.
    pub(crate) fn equals(&self, other: &Self) -> bool {
        if self.shape != other.shape {
            return false;
        }
        if self.dtype == other.dtype {
            return self.bytes == other.bytes;
        }
        let width = self.shape.last().copied().unwrap_or(1).max(1);
        let rows = self.shape.iter().product::<usize>() / width;
        let (mut a, mut b) = (vec![0.0; width], vec![0.0; width]);
        (0..rows).all(|row| {
            self.row(row, &mut a);
            other.row(row, &mut b);
            a == b
        })
    }

    /// The elements in `dtype`. They share memory with `self` if the dtype stays, and are copied if
    /// it changes or if they are not aligned, since burn would panic on those.
    pub(crate) fn to_data(&self, dtype: DType) -> TensorData {
        let bytes = if dtype == self.dtype && self.is_aligned() {
            Bytes::from_shared(self.bytes.clone(), AllocationProperty::File)
        } else {
            element::cast_to_bytes(&self.bytes, self.dtype, dtype)
        };
        TensorData::from_bytes(bytes, self.shape.clone(), dtype)
    }
}

/// The weights of one tensor.
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

    /// The format in which the weights are stored.
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

    /// The floats; `None` for quantized blocks.
    pub fn float(&self) -> Option<&StoredTensor> {
        match self {
            Self::Float(tensor) => Some(tensor),
            Self::Packed(_) => None,
        }
    }

    /// The quantized blocks; `None` for floats.
    pub fn packed(&self) -> Option<&Packed> {
        match self {
            Self::Float(_) => None,
            Self::Packed(packed) => Some(packed),
        }
    }

    /// The elements in `dtype`; blocks are widened.
    pub(crate) fn to_data(&self, dtype: DType) -> TensorData {
        match self {
            Self::Float(tensor) => tensor.to_data(dtype),
            Self::Packed(packed) => packed.widen(dtype),
        }
    }
}
