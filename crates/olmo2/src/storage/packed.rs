//! Matrices in quantized blocks as they lie in a record: a few arrays of bytes, shared and mapped.

use std::fmt;

use burn::tensor::{Bytes, DType, TensorData};
use half::f16;
use olmo2_kernels::WeightData;
use olmo2_kernels::quant::{BLOCK, LEAST_TOP, Q4, Q8, blocks};
use serde::{Deserialize, Serialize};

use super::element;

/// A format in which a matrix is stored in blocks of 32 along `in`.
///
/// [`olmo2_kernels::quant`] defines both. Where `in` is no multiple of 32, each row's last block
/// is padded with zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QuantFormat {
    /// 8.5 bits a weight: 8-bit numbers and a scale.
    Q8,
    /// 4.5 bits a weight: 4-bit codes of one of 256 tables, and a scale.
    Q4,
}

/// One of the arrays that a matrix in blocks is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// What stands behind the matrix's name, after a dot.
    pub(crate) name: &'static str,
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
}

impl Piece {
    /// Bytes of the array, `u64::MAX` where it does not fit.
    pub(crate) fn len(&self) -> u64 {
        let multiply = |product: u64, &dim: &usize| product.checked_mul(dim as u64);
        let size = self.dtype.size() as u64;
        self.shape
            .iter()
            .try_fold(size, multiply)
            .unwrap_or(u64::MAX)
    }
}

impl QuantFormat {
    /// The formats by their names.
    pub const ALL: [Self; 2] = [Self::Q8, Self::Q4];

    /// The name in receipts and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q8 => "q8",
            Self::Q4 => "q4",
        }
    }

    /// Bytes of a matrix `[out, in]`.
    pub fn bytes(self, shape: [usize; 2]) -> u64 {
        let pieces = self.pieces(shape);
        pieces.iter().map(Piece::len).fold(0, u64::saturating_add)
    }

    /// The largest magnitude that can be stored.
    pub(crate) fn largest(self) -> f32 {
        match self {
            Self::Q8 => 127.0 * f16::MAX.to_f32(),
            Self::Q4 => f32::MAX,
        }
    }

    /// The arrays of a matrix `[out, in]`, in the order in which a record holds them.
    pub(crate) fn pieces(self, [out, input]: [usize; 2]) -> Vec<Piece> {
        let blocks = blocks(input);
        let piece = |name, dtype, shape: &[usize]| Piece {
            name,
            dtype,
            shape: shape.to_vec(),
        };
        match self {
            Self::Q8 => vec![
                piece("quants", DType::I8, &[out, blocks.saturating_mul(BLOCK)]),
                piece("scales", DType::F16, &[out, blocks]),
            ],
            Self::Q4 => vec![
                piece("quants", DType::U8, &[out, blocks, BLOCK / 2]),
                piece("scales", DType::U8, &[out, blocks]),
                piece("selectors", DType::U8, &[out, blocks]),
                piece("top", DType::F32, &[1]),
            ],
        }
    }
}

impl fmt::Display for QuantFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A matrix in quantized blocks. Clones share its memory.
#[derive(Clone)]
pub struct Packed {
    shape: [usize; 2],
    arrays: Arrays,
}

#[derive(Clone)]
enum Arrays {
    Q8 {
        quants: bytes::Bytes,
        scales: bytes::Bytes,
    },
    Q4 {
        quants: bytes::Bytes,
        scales: bytes::Bytes,
        selectors: bytes::Bytes,
        top: f32,
    },
}

/// What is wrong with one of the arrays of a matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PieceFault {
    pub(crate) piece: &'static str,
    pub(crate) what: &'static str,
    pub(crate) expected: String,
    pub(crate) found: String,
}

impl Packed {
    /// A matrix `[out, in]` of its arrays, in the order of [`QuantFormat::pieces`].
    pub(crate) fn new(
        format: QuantFormat,
        shape: [usize; 2],
        arrays: Vec<bytes::Bytes>,
    ) -> Result<Self, PieceFault> {
        let pieces = format.pieces(shape);
        for (i, piece) in pieces.iter().enumerate() {
            let found = arrays.get(i).map_or(0, |bytes| bytes.len() as u64);
            if found != piece.len() {
                return Err(PieceFault {
                    piece: piece.name,
                    what: "size",
                    expected: format!("{} bytes", piece.len()),
                    found: format!("{found} bytes"),
                });
            }
        }
        let mut arrays = arrays.into_iter();
        let mut next = || arrays.next().unwrap_or_default();
        let arrays = match format {
            QuantFormat::Q8 => Arrays::Q8 {
                quants: next(),
                scales: aligned(next()),
            },
            QuantFormat::Q4 => Arrays::Q4 {
                quants: next(),
                scales: next(),
                selectors: next(),
                top: top(&next())?,
            },
        };
        Ok(Self { shape, arrays })
    }

    /// The format.
    pub fn format(&self) -> QuantFormat {
        match self.arrays {
            Arrays::Q8 { .. } => QuantFormat::Q8,
            Arrays::Q4 { .. } => QuantFormat::Q4,
        }
    }

    /// `[out, in]`.
    pub fn shape(&self) -> &[usize; 2] {
        &self.shape
    }

    /// Bytes of all arrays.
    pub fn byte_len(&self) -> u64 {
        self.format().bytes(self.shape)
    }

    /// The arrays by the names that stand behind the matrix's in a record.
    pub fn arrays(&self) -> Vec<(&'static str, bytes::Bytes)> {
        match &self.arrays {
            Arrays::Q8 { quants, scales } => {
                vec![("quants", quants.clone()), ("scales", scales.clone())]
            }
            Arrays::Q4 {
                quants,
                scales,
                selectors,
                top,
            } => vec![
                ("quants", quants.clone()),
                ("scales", scales.clone()),
                ("selectors", selectors.clone()),
                ("top", top.to_le_bytes().to_vec().into()),
            ],
        }
    }

    /// The weights of one row, `[in]`.
    ///
    /// # Panics
    /// There is no such row, or `out` is not `in` long.
    pub fn row(&self, index: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.shape[1], "a row has `in` weights");
        self.data().row(index, out);
    }

    /// The matrix as kernels take it.
    pub(crate) fn data(&self) -> WeightData<'_> {
        match &self.arrays {
            Arrays::Q8 { quants, scales } => WeightData::Q8(Q8 {
                quants: bytemuck::cast_slice(quants),
                scales: bytemuck::cast_slice(scales),
            }),
            Arrays::Q4 {
                quants,
                scales,
                selectors,
                top,
            } => WeightData::Q4(Q4 {
                quants,
                scales,
                selectors,
                top: *top,
            }),
        }
    }

    /// The weights `[out, in]` as floats, for a backend that has no kernel for blocks.
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
        let (format, shape) = (self.format(), self.shape);
        write!(f, "Packed {{ format: {format}, shape: {shape:?} }}")
    }
}

/// Bytes where f16 may lie: the same, but for an array that was made in memory at an odd address.
fn aligned(bytes: bytes::Bytes) -> bytes::Bytes {
    match bytes.as_ptr().addr().is_multiple_of(align_of::<f16>()) {
        true => bytes,
        false => bytes::Bytes::from_owner(Halves(bytemuck::pod_collect_to_vec(&bytes))),
    }
}

struct Halves(Vec<f16>);

impl AsRef<[u8]> for Halves {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

fn top(bytes: &[u8]) -> Result<f32, PieceFault> {
    let top = bytemuck::pod_read_unaligned(bytes);
    if top == 0.0 || (LEAST_TOP..=f32::MAX).contains(&top) {
        return Ok(top);
    }
    Err(PieceFault {
        piece: "top",
        what: "value",
        expected: format!("0 or a number from {LEAST_TOP:e} on"),
        found: top.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrays(format: QuantFormat, shape: [usize; 2]) -> Vec<bytes::Bytes> {
        let bytes = |piece: &Piece| match piece.name {
            "top" => 1.0_f32.to_le_bytes().to_vec().into(),
            _ => vec![0; piece.len() as usize].into(),
        };
        format.pieces(shape).iter().map(bytes).collect()
    }

    #[test]
    fn bits_a_weight_are_those_of_the_format() {
        let shape = [64, 2048];
        assert_eq!(QuantFormat::Q8.bytes(shape) * 16, 64 * 2048 * 17);
        assert_eq!((QuantFormat::Q4.bytes(shape) - 4) * 16, 64 * 2048 * 9);
        // 33 weights in a row are two blocks.
        assert_eq!(QuantFormat::Q8.bytes([3, 33]), 3 * 2 * 34);
    }

    #[test]
    fn an_array_of_another_length_and_an_odd_top_are_named() {
        let (shape, q4) = ([2, 40], QuantFormat::Q4);
        let mut short = arrays(q4, shape);
        short[2] = short[2].slice(1..);
        let fault = Packed::new(q4, shape, short).expect_err("too short");
        assert_eq!((fault.piece, fault.what), ("selectors", "size"));
        for top in [f32::NAN, f32::INFINITY, -1.0, 1e-35] {
            let mut odd = arrays(q4, shape);
            odd[3] = top.to_le_bytes().to_vec().into();
            let fault = Packed::new(q4, shape, odd).expect_err("no scale");
            assert_eq!((fault.piece, fault.found), ("top", top.to_string()));
        }
    }

    #[test]
    fn scales_at_an_odd_address_are_moved() {
        let (shape, q8) = ([1, 32], QuantFormat::Q8);
        let mut odd = arrays(q8, shape);
        odd[0] = vec![2; 32].into();
        let buffer: bytes::Bytes = [[0; 4], [0, 0x3c, 0, 0x3c]].concat().into();
        let start = 5 - usize::from(buffer.as_ptr().addr().is_multiple_of(2));
        // 0x3c00 is 1 and 0x003c is small: which is read tells whether bytes were kept in order.
        odd[1] = buffer.slice(start..start + 2);
        let expected = f16::from_le_bytes([odd[1][0], odd[1][1]]).to_f32() * 2.0;
        let mut row = [0.0; 32];
        Packed::new(q8, shape, odd).expect("whole").row(0, &mut row);
        assert_eq!(row, [expected; 32]);
    }
}
