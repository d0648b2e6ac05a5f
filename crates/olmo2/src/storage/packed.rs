//! A matrix in quantized blocks, as a record stores it: a few arrays of bytes, shared or mapped.

use std::fmt;
use std::sync::Arc;

use burn::tensor::{Bytes, DType, TensorData};
use olmo2_kernels::WeightData;

use super::blocks::{ArrayFault, QuantFormat};
use super::element;

/// A matrix in quantized blocks. Clones share its memory.
#[derive(Clone)]
pub struct Packed {
    format: QuantFormat,
    shape: [usize; 2],
    /// Checked and aligned, in the order of [`QuantFormat::arrays`].
    arrays: Arc<[bytes::Bytes]>,
}

impl Packed {
    /// A matrix `[out, in]` from its arrays, in the order of [`QuantFormat::arrays`].
    pub(crate) fn new(
        format: QuantFormat,
        shape: [usize; 2],
        arrays: Vec<bytes::Bytes>,
    ) -> Result<Self, ArrayFault> {
        let specs = format.arrays(shape);
        for (i, spec) in specs.iter().enumerate() {
            let found = arrays.get(i).map_or(0, |bytes| bytes.len() as u64);
            if found != spec.byte_len() {
                return Err(ArrayFault {
                    array: spec.name,
                    what: "size",
                    expected: format!("{} bytes", spec.byte_len()),
                    found: format!("{found} bytes"),
                });
            }
        }
        format.check(&arrays)?;
        let arrays = arrays.into_iter().zip(specs);
        let arrays = arrays.map(|(bytes, spec)| aligned(bytes, spec.dtype));
        Ok(Self {
            format,
            shape,
            arrays: arrays.collect(),
        })
    }

    /// The format.
    pub fn format(&self) -> QuantFormat {
        self.format
    }

    /// `[out, in]`.
    pub fn shape(&self) -> &[usize; 2] {
        &self.shape
    }

    /// Bytes of all arrays.
    pub fn byte_len(&self) -> u64 {
        self.format.bytes(self.shape)
    }

    /// The arrays, in the order in which a record holds them. Each comes with the end of its name
    /// there: a record holds the array `quants` of the matrix `NAME` as `NAME.quants`.
    pub fn arrays(&self) -> Vec<(&'static str, bytes::Bytes)> {
        let names = self.format.arrays(self.shape).into_iter();
        let names = names.map(|spec| spec.name);
        names.zip(self.arrays.iter().cloned()).collect()
    }

    /// Writes the weights of row `index` to `out`, `[in]`.
    ///
    /// # Panics
    /// `index` is `out` of [`shape`](Self::shape) or more, or `out` does not have length `in`.
    pub fn row(&self, index: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.shape[1], "a row has `in` weights");
        self.data().row(index, out);
    }

    /// The matrix as kernels read it.
    pub(crate) fn data(&self) -> WeightData<'_> {
        self.format.view(&self.arrays)
    }

    /// The weights as floats `[out, in]`, for a backend without kernels for blocks.
    pub(crate) fn widen(&self, dtype: DType) -> TensorData {
        let [out, input] = self.shape;
        let mut wide = match dtype.size() {
            2 => Bytes::from_elems(vec![0_u16; out * input]),
            _ => Bytes::from_elems(vec![0_f32; out * input]),
        };
        let (data, mut row) = (self.data(), vec![0.0; input]);
        for (i, wide) in wide.chunks_exact_mut(input * dtype.size()).enumerate() {
            data.row(i, &mut row);
            element::narrow(&row, dtype, wide);
        }
        TensorData::from_bytes(wide, self.shape, dtype)
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (format, shape) = (self.format, self.shape);
        write!(f, "Packed {{ format: {format}, shape: {shape:?} }}")
    }
}

/// The same bytes, at an address that is aligned for `dtype`. Arrays of a record are aligned and
/// stay where they are; one that was made in memory may need a copy.
fn aligned(bytes: bytes::Bytes, dtype: DType) -> bytes::Bytes {
    if bytes.as_ptr().addr().is_multiple_of(dtype.size()) {
        return bytes;
    }
    let mut words = vec![0; bytes.len().div_ceil(size_of::<u64>())];
    let len = bytes.len();
    bytemuck::cast_slice_mut(&mut words)[..len].copy_from_slice(&bytes);
    bytes::Bytes::from_owner(AlignedBytes { words, len })
}

struct AlignedBytes {
    words: Vec<u64>,
    len: usize,
}

impl AsRef<[u8]> for AlignedBytes {
    fn as_ref(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    fn arrays(format: QuantFormat, shape: [usize; 2]) -> Vec<bytes::Bytes> {
        let specs = format.arrays(shape);
        let bytes = specs.iter().map(|spec| match spec.name {
            "top" => 1.0_f32.to_le_bytes().to_vec().into(),
            _ => vec![0; spec.byte_len() as usize].into(),
        });
        bytes.collect()
    }

    #[test]
    fn an_array_of_another_length_and_an_odd_largest_scale_are_named() {
        let (shape, q4) = ([2, 40], QuantFormat::Q4);
        let mut short = arrays(q4, shape);
        short[2] = short[2].slice(1..);
        let fault = Packed::new(q4, shape, short).expect_err("too short");
        assert_eq!((fault.array, fault.what), ("selectors", "size"));
        for max_scale in [f32::NAN, f32::INFINITY, -1.0, 1e-35] {
            let mut odd = arrays(q4, shape);
            odd[3] = max_scale.to_le_bytes().to_vec().into();
            let fault = Packed::new(q4, shape, odd).expect_err("no scale");
            assert_eq!((fault.array, fault.found), ("top", max_scale.to_string()));
        }
    }

    #[test]
    fn scales_at_an_odd_address_are_moved() {
        let (shape, q8) = ([1, 32], QuantFormat::Q8);
        let mut odd = arrays(q8, shape);
        odd[0] = vec![2; 32].into();
        let buffer: bytes::Bytes = [[0; 4], [0, 0x3c, 0, 0x3c]].concat().into();
        let start = 5 - usize::from(buffer.as_ptr().addr().is_multiple_of(2));
        // 0x3c00 is 1 and 0x003c is small: the product tells whether the bytes kept their order.
        odd[1] = buffer.slice(start..start + 2);
        let expected = f16::from_le_bytes([odd[1][0], odd[1][1]]).to_f32() * 2.0;
        let mut row = [0.0; 32];
        Packed::new(q8, shape, odd).expect("whole").row(0, &mut row);
        assert_eq!(row, [expected; 32]);
    }
}
