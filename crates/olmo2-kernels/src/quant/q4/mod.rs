//! Quantizing to 4 bits with selected codebooks.
//!
//! Every machine produces the same bytes: sums are integers, and everything else is single
//! operations that all machines round alike.

mod search;

use super::{BLOCK, Q4Scales, blocks, codebook, parallel};
use crate::level;
use crate::simd::{self, Kernel, Simd};
use search::{Search, Target};

/// The largest scale of a tensor with the largest magnitude `max_abs`: an upper bound for the scale
/// of the block with that magnitude. It is 0, and the tensor becomes zeros, if `max_abs` is below
/// 2^-90 or not finite.
pub fn q4_max_scale(max_abs: f32) -> f32 {
    /// Hardly any block maps its largest magnitude to a code below this. Trained tables end at 45
    /// to 63; if a block uses the other end of a table, that is at 30 or more.
    const LAST: f32 = 32.0;
    /// 2^-90, so that the smallest scale and half of it are normal numbers.
    const SMALLEST: f32 = 8.077_936e-28;
    match max_abs.is_finite() && max_abs >= SMALLEST {
        true => max_abs / LAST,
        false => 0.0,
    }
}

/// Quantizes rows of `in_features` weights of a tensor with the given [`q4_max_scale`] into `[rows,
/// blocks, 16]` bytes of codes, `[rows, blocks]` scales and selectors. The threads share the rows;
/// the bytes depend neither on their number nor on the SIMD level.
///
/// Weights far above `max_scale` are clipped, those far below become 0. A block with a weight that
/// is not finite becomes 0; the caller rejects such tensors.
///
/// # Panics
/// A length does not fit the others, or `in_features` is 0.
pub fn quantize_q4(
    rows: &[f32],
    in_features: usize,
    max_scale: f32,
    quants: &mut [u8],
    scales: &mut [u8],
    selectors: &mut [u8],
) {
    let blocks = blocks(in_features);
    let count = rows.len() / in_features;
    assert_eq!(rows.len(), count * in_features);
    assert_eq!(quants.len(), count * blocks * 16);
    assert_eq!(scales.len(), count * blocks);
    assert_eq!(selectors.len(), count * blocks);
    let each = parallel::rows_each(count);
    let (level, steps) = (level::level(), steps(max_scale));
    let parts = rows
        .chunks(each * in_features)
        .zip(quants.chunks_mut(each * blocks * 16))
        .zip(scales.chunks_mut(each * blocks))
        .zip(selectors.chunks_mut(each * blocks));
    parallel::each(parts, |(((rows, quants), scales), selectors)| {
        let part = QuantizeQ4 {
            search: Search::of_the_codebook(),
            steps: &steps,
            rows,
            in_features,
            quants,
            scales,
            selectors,
        };
        simd::dispatch(level, part);
    });
}

/// All scales, descending.
fn steps(max_scale: f32) -> [f32; 256] {
    let scales = Q4Scales::new(max_scale);
    std::array::from_fn(|s| scales.get(s as u8))
}

/// Some rows, and the arrays to write.
struct QuantizeQ4<'a> {
    search: &'a Search,
    steps: &'a [f32; 256],
    rows: &'a [f32],
    in_features: usize,
    quants: &'a mut [u8],
    scales: &'a mut [u8],
    selectors: &'a mut [u8],
}

impl Kernel for QuantizeQ4<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let rows = self.rows.chunks_exact(self.in_features);
        let blocks = rows.flat_map(|row| row.chunks(BLOCK));
        let quants = self.quants.chunks_exact_mut(16);
        let selected = self.scales.iter_mut().zip(self.selectors);
        for ((block, quants), (scale, selector)) in blocks.zip(quants).zip(selected) {
            let mut padded = [0.0; BLOCK];
            padded[..block.len()].copy_from_slice(block);
            let codes;
            (*scale, *selector, codes) = quantize(self.search, self.steps, &padded);
            for j in 0..16 {
                quants[j] = codes[j] | codes[j + 16] << 4;
            }
        }
    }
}

/// The scale, selector and codes of a block.
#[inline(always)]
fn quantize(search: &Search, steps: &[f32; 256], block: &[f32; BLOCK]) -> (u8, u8, [u8; BLOCK]) {
    let mut max_abs = 0;
    for j in 0..BLOCK {
        max_abs = max_abs.max(block[j].to_bits() & 0x7fff_ffff);
    }
    let max_abs = f32::from_bits(max_abs);
    // Values below half of the smallest scale are nearer to 0. The condition also excludes NaN and
    // infinity.
    if !(max_abs > steps[255] * 0.5 && max_abs.is_finite()) {
        let (selector, code) = codebook::ZERO;
        return (255, selector, [code; BLOCK]);
    }
    let target = Target::new(block, max_abs);
    // Below the smallest scale, the tables that would fit best at their own scale do not matter.
    let (scale, table) = match max_abs < steps[255] * 64.0 {
        true => (255, search.best_at(&target, target.units(steps[255]))),
        false => search.best(&target, steps),
    };
    let mut codes = search.codes(&target, table, target.units(steps[usize::from(scale)]));
    if target.flipped {
        for j in 0..BLOCK {
            codes[j] = 15 - codes[j];
        }
    }
    (
        scale,
        if target.flipped { table ^ 128 } else { table },
        codes,
    )
}
