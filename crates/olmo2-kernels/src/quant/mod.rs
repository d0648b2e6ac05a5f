//! Quantized weights, `[out, in]`, in blocks of 32 along `in`: quants and scales in separate
//! arrays, the same for every machine. Where `in` is no multiple of 32 the last block of each row
//! is padded with zeros.
//!
//! - [`Q8`], 8.5 bits a weight: `w = scale * quant`, an f16 scale for each block.
//! - [`Q4`], 4.5 bits a weight: `w = scale * codebook[selector][code]`; each block picks one of
//!   256 tables of 16 numbers ([`codebook`]) and one of 256 scales, 1/32 of an octave apart, below
//!   the tensor's `top`.

pub mod codebook;
mod parallel;
mod q4;
mod q8;

pub use q4::{q4_top, quantize_q4};
pub use q8::quantize_q8;

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
    /// `[out, blocks * 32]`; the quantizer makes -127 ..= 127, and a file's -128 is exact as well.
    pub quants: &'a [i8],
    /// `[out, blocks]`.
    pub scales: &'a [f16],
}

/// A matrix in 4-bit blocks with selected codebooks.
#[derive(Clone, Copy, Debug)]
pub struct Q4<'a> {
    /// `[out, blocks, 16]`: byte `j` is `code[j] | code[j + 16] << 4`.
    pub quants: &'a [u8],
    /// `[out, blocks]`: a block's scale is `top * 2^(-scale / 32)`, rounded as [`Q4Scales`] says.
    pub scales: &'a [u8],
    /// `[out, blocks]`: which table of the codebook.
    pub selectors: &'a [u8],
    /// The largest scale of the tensor.
    pub top: f32,
}

impl Q8<'_> {
    /// The weights of one row.
    ///
    /// # Panics
    /// There is no such row, or `out` is not `in_features` long.
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
    /// The weights of one row.
    ///
    /// # Panics
    /// There is no such row, or `out` is not `in_features` long.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        let blocks = blocks(out.len());
        let range = row * blocks..(row + 1) * blocks;
        let (scales, selectors) = (&self.scales[range.clone()], &self.selectors[range.clone()]);
        let quants = self.quants[range.start * 16..range.end * 16].chunks_exact(16);
        let steps = Q4Scales::new(self.top);
        for (i, (out, quants)) in out.chunks_mut(BLOCK).zip(quants).enumerate() {
            let (scale, table) = (steps.get(scales[i]), codebook::table(selectors[i]));
            for (j, out) in out.iter_mut().enumerate() {
                let code = quants[j % 16] >> (j / 16 * 4) & 15;
                *out = scale * f32::from(table[usize::from(code)]);
            }
        }
    }
}

/// 2^-100: what is below would leave the range of f32 by the least scale.
pub const LEAST_TOP: f32 = f32::from_bits((127 - 100) << 23);

/// The scales of a tensor in 4 bits: `top * 2^(-s / 32)`, in parts that kernels may look up. `top`
/// times the power of the lower three bits of `s`, and the power of the next two bits, are each
/// rounded to f32, and so is their product; each octave of the upper three is exactly a half.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Q4Scales {
    octave: [f32; 32],
    mantissas: [i32; 32],
    eighths: [f32; 8],
    quarters: [f32; 8],
}

impl Q4Scales {
    /// The scales below and at `top`, which is taken for the nearest finite number from 2^-100 on
    /// (a file may hold any).
    pub fn new(top: f32) -> Self {
        let top = match top.is_nan() {
            true => LEAST_TOP,
            false => top.clamp(LEAST_TOP, f32::MAX),
        };
        let eighth = |m: usize| (f64::from(top) * f64::from_bits(EIGHTHS[m])) as f32;
        let eighths: [f32; 8] = std::array::from_fn(eighth);
        let quarter = |m: usize| f64::from_bits(QUARTERS[m % 4]) as f32 * OCTAVES[m / 4];
        let quarters: [f32; 8] = std::array::from_fn(quarter);
        let octave: [f32; 32] = std::array::from_fn(|m| eighths[m % 8] * quarters[m / 8]);
        let mantissa = |m: usize| (octave[m].to_bits() as i32).wrapping_add((m as i32) << 18);
        Self {
            octave,
            mantissas: std::array::from_fn(mantissa),
            eighths,
            quarters,
        }
    }

    /// The scale that a block's byte stands for.
    pub fn get(&self, scale: u8) -> f32 {
        self.octave[usize::from(scale & 31)] * OCTAVES[usize::from(scale >> 5)]
    }

    /// The bits of the 32 scales of the first octave, plus their index at bit 18: a scale's bits
    /// are those at its lower five bits, minus the whole byte at bit 18.
    pub(crate) fn mantissas(&self) -> &[i32; 32] {
        &self.mantissas
    }

    /// A scale's two factors, by bits 0 to 2 and by bits 3 to 5; bits 6 and 7 take two and four octaves
    /// away.
    pub(crate) fn factors(&self) -> [&[f32; 8]; 2] {
        [&self.eighths, &self.quarters]
    }
}

/// The bits of `2^(-m / 32)`, the eighths of a quarter of an octave, rounded to f64: what a record
/// means must not hang on a machine's `exp2`.
const EIGHTHS: [u64; 8] = [
    0x3ff0_0000_0000_0000,
    0x3fef_5076_5b6e_4540,
    0x3fee_a4af_a2a4_90da,
    0x3fed_fc97_337b_9b5f,
    0x3fed_5818_dcfb_a487,
    0x3fec_b720_dcef_9069,
    0x3fec_199b_dd85_529c,
    0x3feb_7f76_f2fb_5e47,
];

/// The bits of `2^(-m / 4)`, as those of [`EIGHTHS`].
const QUARTERS: [u64; 4] = [
    0x3ff0_0000_0000_0000,
    0x3fea_e89f_995a_d3ad,
    0x3fe6_a09e_667f_3bcd,
    0x3fe3_06fe_0a31_b715,
];

/// Powers of a half.
const OCTAVES: [f32; 8] = [
    1.0,
    0.5,
    0.25,
    0.125,
    0.0625,
    0.031_25,
    0.015_625,
    0.007_812_5,
];

#[cfg(test)]
mod tests;
