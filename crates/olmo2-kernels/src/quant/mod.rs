//! Quantized weights, `[out, in]`, in blocks of 32 along `in`, with quants and scales in separate
//! arrays, the same for every machine. If `in` is no multiple of 32, the last block of each row is
//! padded with zeros.
//!
//! - [`Q8`], 8.5 bits a weight: `w = scale * quant`, an f16 scale for each block.
//! - [`Q4`], 4.5 bits a weight: `w = scale * codebook[selector][code]`. Each block selects one of
//!   256 tables of 16 values ([`codebook`]) and one of 256 scales, 1/32 of an octave apart, from
//!   the tensor's `max_scale` down.

pub mod codebook;
mod parallel;
mod q4;
mod q8;

pub use q4::{q4_max_scale, quantize_q4};
pub use q8::quantize_q8;

pub use crate::q4_scales::{MIN_MAX_SCALE, Q4Scales};
use half::f16;

/// Weights in a block.
pub const BLOCK: usize = 32;

/// Blocks in a row of `in_features` weights.
pub const fn blocks(in_features: usize) -> usize {
    in_features.div_ceil(BLOCK)
}

/// A matrix in 8-bit blocks.
#[derive(Clone, Copy, Debug)]
pub struct Q8<'a> {
    /// `[out, blocks * 32]`. The quantizer makes -127 ..= 127; -128 in a file is exact as well.
    pub quants: &'a [i8],
    /// `[out, blocks]`.
    pub scales: &'a [f16],
}

/// A matrix in 4-bit blocks with selected codebooks.
#[derive(Clone, Copy, Debug)]
pub struct Q4<'a> {
    /// `[out, blocks, 16]`: byte `j` is `code[j] | code[j + 16] << 4`.
    pub quants: &'a [u8],
    /// `[out, blocks]`: a block's scale is `max_scale * 2^(-scale / 32)`, rounded as [`Q4Scales`]
    /// defines.
    pub scales: &'a [u8],
    /// `[out, blocks]`: the selected table of the codebook.
    pub selectors: &'a [u8],
    /// The largest scale of the tensor.
    pub max_scale: f32,
}

impl Q8<'_> {
    /// Writes the weights of one row to `out`.
    ///
    /// # Panics
    /// The matrix has no such row, or `out` is not `in_features` long.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        let blocks = blocks(out.len());
        let quants = self.quants[row * blocks * BLOCK..][..blocks * BLOCK].chunks_exact(BLOCK);
        let scales = &self.scales[row * blocks..][..blocks];
        for ((out, quants), scale) in out.chunks_mut(BLOCK).zip(quants).zip(scales) {
            let scale = scale.to_f32();
            for (out, &quant) in out.iter_mut().zip(quants) {
                *out = scale * f32::from(quant);
            }
        }
    }
}

impl Q4<'_> {
    /// Writes the weights of one row to `out`.
    ///
    /// # Panics
    /// The matrix has no such row, or `out` is not `in_features` long.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        let blocks = blocks(out.len());
        let range = row * blocks..(row + 1) * blocks;
        let (scales, selectors) = (&self.scales[range.clone()], &self.selectors[range.clone()]);
        let quants = self.quants[range.start * 16..range.end * 16].chunks_exact(16);
        let steps = Q4Scales::new(self.max_scale);
        for (i, (out, quants)) in out.chunks_mut(BLOCK).zip(quants).enumerate() {
            let (scale, table) = (steps.get(scales[i]), codebook::table(selectors[i]));
            for (j, out) in out.iter_mut().enumerate() {
                let code = quants[j % 16] >> (j / 16 * 4) & 15;
                *out = scale * f32::from(table[usize::from(code)]);
            }
        }
    }
}

#[cfg(test)]
mod tests;
