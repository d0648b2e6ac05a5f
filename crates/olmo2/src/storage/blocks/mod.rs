//! Formats of quantized blocks: one file each in this folder, and one line each in the list of
//! [`QuantFormat`].
//!
//! A format's file says how a matrix is laid out, quantized and viewed by kernels; everything else
//! (records, receipts, loading, conversion, the command line) goes through [`QuantFormat`]. The
//! arithmetic of a format is in [`olmo2_kernels::quant`].

mod q4;
mod q8;

use burn::tensor::DType;
use olmo2_kernels::WeightData;

use super::name::by_name;

/// Declares [`QuantFormat`]: for each format its variant and the [`BlockFormat`] behind it.
macro_rules! formats {
    ($($(#[$doc:meta])* $variant:ident => $format:expr,)*) => {
        /// A format that stores a matrix in blocks of 32 weights along `in`.
        ///
        /// Where `in` is no multiple of 32, the last block of each row is padded with zeros.
        /// [`olmo2_kernels::quant`] defines the arithmetic.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum QuantFormat {
            $($(#[$doc])* $variant,)*
        }

        impl QuantFormat {
            /// Every format.
            pub const ALL: [Self; [$(stringify!($variant)),*].len()] = [$(Self::$variant),*];

            fn format(self) -> &'static dyn BlockFormat {
                match self {
                    $(Self::$variant => &$format,)*
                }
            }
        }
    };
}

formats! {
    /// 8.5 bits a weight: 8-bit integers, and an f16 scale for each block.
    Q8 => q8::Q8,
    /// 4.5 bits a weight: 4-bit codes into one of 256 tables, and an 8-bit scale for each block.
    Q4 => q4::Q4,
}

by_name!(QuantFormat, Self::ALL);

/// A format of blocks.
trait BlockFormat {
    /// The name in receipts and on the command line.
    fn name(&self) -> &'static str;

    /// The largest magnitude that can be stored.
    fn max_abs(&self) -> f32;

    /// The arrays of a matrix `[out, in]`, in the order in which a record holds them. The first is
    /// the largest, which a quantizer writes as it goes; no other format has its name and dtype.
    fn arrays(&self, shape: [usize; 2]) -> Vec<ArraySpec>;

    /// Checks the values of arrays that have the sizes of [`arrays`](Self::arrays).
    fn check(&self, _arrays: &[bytes::Bytes]) -> Result<(), ArrayFault> {
        Ok(())
    }

    /// The matrix as kernels read it, from arrays that were checked and are aligned.
    fn view<'a>(&self, arrays: &'a [bytes::Bytes]) -> WeightData<'a>;

    /// Whether the quantizer needs the largest magnitude of the matrix before its first row.
    fn needs_max_abs(&self) -> bool {
        false
    }

    /// A quantizer of one matrix `[out, in]`; `max_abs` is used only if
    /// [`needs_max_abs`](Self::needs_max_abs).
    fn quantizer(&self, shape: [usize; 2], max_abs: f32) -> Box<dyn BlockQuantizer>;
}

/// Quantizes one matrix, some rows at a time.
pub(crate) trait BlockQuantizer {
    /// Quantizes the next rows, `[rows, in]`, and returns their bytes of the first array.
    fn rows(&mut self, values: &[f32]) -> &[u8];

    /// The other arrays, once all rows are quantized.
    fn finish(self: Box<Self>) -> Vec<Vec<u8>>;
}

impl QuantFormat {
    /// The name in receipts and on the command line.
    pub fn name(self) -> &'static str {
        self.format().name()
    }

    /// Bytes of a matrix `[out, in]`; `u64::MAX` if they do not fit.
    pub fn bytes(self, shape: [usize; 2]) -> u64 {
        let lens = self.arrays(shape).into_iter().map(|array| array.byte_len());
        lens.fold(0, u64::saturating_add)
    }

    /// The largest magnitude that can be stored.
    pub(crate) fn max_abs(self) -> f32 {
        self.format().max_abs()
    }

    /// The arrays of a matrix `[out, in]`, in the order in which a record holds them.
    pub(crate) fn arrays(self, shape: [usize; 2]) -> Vec<ArraySpec> {
        self.format().arrays(shape)
    }

    /// Name and dtype of the first array, by which a record tells formats apart; its shape is that
    /// of an empty matrix.
    pub(crate) fn first_array(self) -> ArraySpec {
        self.arrays([0, 0]).remove(0)
    }

    /// Whether the quantizer needs the largest magnitude of the matrix before its first row.
    pub(crate) fn needs_max_abs(self) -> bool {
        self.format().needs_max_abs()
    }

    /// A quantizer of one matrix `[out, in]`; `max_abs` is used only if
    /// [`needs_max_abs`](Self::needs_max_abs).
    pub(crate) fn quantizer(self, shape: [usize; 2], max_abs: f32) -> Box<dyn BlockQuantizer> {
        self.format().quantizer(shape, max_abs)
    }

    /// Checks the values of arrays that have the sizes of [`arrays`](Self::arrays).
    pub(super) fn check(self, arrays: &[bytes::Bytes]) -> Result<(), ArrayFault> {
        self.format().check(arrays)
    }

    /// The matrix as kernels read it, from arrays that were checked and are aligned.
    pub(super) fn view(self, arrays: &[bytes::Bytes]) -> WeightData<'_> {
        self.format().view(arrays)
    }
}

/// One of the arrays that a matrix in blocks is stored in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArraySpec {
    /// The end of its name in a record, after the matrix's name and a dot.
    pub(crate) name: &'static str,
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
}

impl ArraySpec {
    fn new(name: &'static str, dtype: DType, shape: &[usize]) -> Self {
        Self {
            name,
            dtype,
            shape: shape.to_vec(),
        }
    }

    /// Bytes of the array; `u64::MAX` if they do not fit.
    pub(crate) fn byte_len(&self) -> u64 {
        let multiply = |product: u64, &dim: &usize| product.checked_mul(dim as u64);
        let size = self.dtype.size() as u64;
        self.shape
            .iter()
            .try_fold(size, multiply)
            .unwrap_or(u64::MAX)
    }
}

/// An array that is not as its format says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArrayFault {
    /// The array's name.
    pub(crate) array: &'static str,
    /// `size` or `value`.
    pub(crate) what: &'static str,
    pub(crate) expected: String,
    pub(crate) found: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_a_weight_are_those_of_the_format() {
        let shape = [64, 2048];
        assert_eq!(QuantFormat::Q8.bytes(shape) * 16, 64 * 2048 * 17);
        assert_eq!((QuantFormat::Q4.bytes(shape) - 4) * 16, 64 * 2048 * 9);
        // 33 weights in a row are two blocks.
        assert_eq!(QuantFormat::Q8.bytes([3, 33]), 3 * 2 * 34);
    }

    #[test]
    fn each_format_has_a_name_and_a_first_array_of_its_own() {
        for format in QuantFormat::ALL {
            assert_eq!(format.name().parse(), Ok(format));
            let same = |other: &&QuantFormat| other.first_array() == format.first_array();
            assert_eq!(QuantFormat::ALL.iter().filter(same).count(), 1);
        }
        let error = "q5".parse::<QuantFormat>().expect_err("no such format");
        assert_eq!(error.to_string(), "expected q8 or q4, found `q5`");
    }

    /// What a quantizer writes has the size that the format says, and is near what went in.
    #[test]
    fn each_format_quantizes_to_its_arrays_and_back() {
        let shape = [3, 40];
        let values: Vec<f32> = (0..120).map(|i| (i as f32 * 0.7).sin()).collect();
        for format in QuantFormat::ALL {
            let mut quantizer = format.quantizer(shape, 1.0);
            let (first, last) = values.split_at(40);
            let quants = [
                quantizer.rows(first).to_vec(),
                quantizer.rows(last).to_vec(),
            ]
            .concat();
            let arrays = std::iter::once(quants).chain(quantizer.finish());
            let arrays: Vec<bytes::Bytes> = arrays.map(Into::into).collect();
            let lens = format
                .arrays(shape)
                .into_iter()
                .map(|array| array.byte_len());
            assert!(
                lens.eq(arrays.iter().map(|array| array.len() as u64)),
                "{format}"
            );
            format.check(&arrays).expect("values of the quantizer");
            let mut row = [0.0; 40];
            format.view(&arrays).row(2, &mut row);
            let near = |(a, b): (&f32, &f32)| (a - b).abs() < 0.1;
            assert!(row.iter().zip(&values[80..]).all(near), "{format}");
        }
    }
}
