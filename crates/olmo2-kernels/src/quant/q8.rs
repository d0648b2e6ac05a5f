//! Quantizing to 8 bits. The scale that maps the largest magnitude to 127 is not the best one, so
//! the search tries several around it.
//!
//! Every machine produces the same bytes: it uses only single operations that all machines round
//! alike, and sums in a fixed order.

use super::{BLOCK, blocks, parallel};
use crate::level;
use crate::simd::{self, Kernel, Simd};
use half::f16;

/// Scales to try, as multiples of the one that maps the largest magnitude to 127.
const SHARES: [f32; 13] = [
    0.985, 0.9875, 0.99, 0.9925, 0.995, 0.9975, 1.0, 1.0025, 1.005, 1.0075, 1.01, 1.0125, 1.015,
];

/// Quantizes rows of `in_features` weights into `[rows, blocks * 32]` quants in -127 ..= 127 and
/// `[rows, blocks]` scales. The threads share the rows; the bytes depend neither on their number
/// nor on the SIMD level.
///
/// Weights beyond 127 times the largest f16 (8.3 million) are clipped. A block whose weights are
/// all nearer to 0 than to the smallest positive f16 becomes 0, and so does its scale. A block with
/// a weight that is not finite becomes 0 as well; the caller rejects such tensors.
///
/// # Panics
/// A length does not fit the others, or `in_features` is 0.
pub fn quantize_q8(rows: &[f32], in_features: usize, quants: &mut [i8], scales: &mut [f16]) {
    let blocks = blocks(in_features);
    let count = rows.len() / in_features;
    assert_eq!(rows.len(), count * in_features);
    assert_eq!(quants.len(), count * blocks * BLOCK);
    assert_eq!(scales.len(), count * blocks);
    let each = parallel::rows_each(count);
    let level = level::level();
    let parts = rows
        .chunks(each * in_features)
        .zip(quants.chunks_mut(each * blocks * BLOCK))
        .zip(scales.chunks_mut(each * blocks));
    parallel::each(parts, |((rows, quants), scales)| {
        let part = QuantizeQ8 {
            rows,
            in_features,
            quants,
            scales,
        };
        simd::dispatch(level, part);
    });
}

/// Some rows, and the arrays to write.
struct QuantizeQ8<'a> {
    rows: &'a [f32],
    in_features: usize,
    quants: &'a mut [i8],
    scales: &'a mut [f16],
}

impl Kernel for QuantizeQ8<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let rows = self.rows.chunks_exact(self.in_features);
        let blocks = rows.flat_map(|row| row.chunks(BLOCK));
        let quants = self.quants.as_chunks_mut::<BLOCK>().0;
        for ((block, quants), scale) in blocks.zip(quants).zip(self.scales) {
            let mut padded = [0.0; BLOCK];
            padded[..block.len()].copy_from_slice(block);
            *scale = quantize(&padded, quants);
        }
    }
}

/// Quantizes a block and returns its scale.
#[inline(always)]
fn quantize(block: &[f32; BLOCK], quants: &mut [i8; BLOCK]) -> f16 {
    let mut max_abs = 0;
    for j in 0..BLOCK {
        max_abs = max_abs.max(block[j].to_bits() & 0x7fff_ffff);
    }
    let max_abs = f32::from_bits(max_abs);
    *quants = [0; BLOCK];
    // Below this, every product of a quant and an f16 is further away than 0. It also excludes
    // values that are not finite.
    if !(max_abs > f16::MIN_POSITIVE_SUBNORMAL.to_f32() * 0.5 && max_abs.is_finite()) {
        return f16::ZERO;
    }
    let nearest = f16::from_f32(best_scale(block, max_abs));
    // Where f16 has few bits left, its neighbors may be better, or the nearest may be too small.
    let (mut min_error, mut scale) = (f32::INFINITY, f16::ZERO);
    for candidate in [
        nearest.to_bits() + 1,
        nearest.to_bits(),
        nearest.to_bits().saturating_sub(1),
    ] {
        let candidate = f16::from_bits(candidate);
        if candidate == f16::ZERO || candidate.is_infinite() {
            continue;
        }
        let mut tried = [0; BLOCK];
        let error = error(block, candidate.to_f32(), max_abs, &mut tried);
        if error < min_error {
            (min_error, scale, *quants) = (error, candidate, tried);
        }
    }
    scale
}

/// The scale with the smallest error, before it is rounded; at most the largest f16.
#[inline(always)]
fn best_scale(block: &[f32; BLOCK], max_abs: f32) -> f32 {
    let full = max_abs / 127.0;
    let mut scaled = [0.0; BLOCK];
    for j in 0..BLOCK {
        scaled[j] = block[j] / full;
    }
    let (mut max_gain, mut best) = (0.0, 1.0);
    for share in SHARES {
        let inverse = 1.0 / share;
        let (mut products, mut squares) = ([0.0; BLOCK], [0.0; BLOCK]);
        for j in 0..BLOCK {
            let quant = round(scaled[j] * inverse);
            products[j] = scaled[j] * quant;
            squares[j] = quant * quant;
        }
        let (product, square) = (sum(products), sum(squares));
        // The amount by which the sum of squares falls at the best scale for these quants.
        let gain = product * product / square;
        if gain > max_gain {
            (max_gain, best) = (gain, product / square);
        }
    }
    (best * full).min(f16::MAX.to_f32())
}

/// Quantizes with a scale; returns the sum of squared errors in units of `max_abs` squared.
#[inline(always)]
fn error(block: &[f32; BLOCK], scale: f32, max_abs: f32, quants: &mut [i8; BLOCK]) -> f32 {
    let mut errors = [0.0; BLOCK];
    for j in 0..BLOCK {
        let quant = round(block[j] / scale);
        quants[j] = quant as i32 as i8;
        let off = (block[j] - quant * scale) / max_abs;
        errors[j] = off * off;
    }
    sum(errors)
}

/// The nearest integer, at max_gain 127 in magnitude.
#[inline(always)]
fn round(x: f32) -> f32 {
    /// Adding and subtracting it rounds to an integer.
    const ROUND: f32 = 12_582_912.0;
    let x = if x < 127.0 { x } else { 127.0 };
    let x = if x > -127.0 { x } else { -127.0 };
    x + ROUND - ROUND
}

/// A sum in an order that does not depend on the width of vectors.
#[inline(always)]
fn sum(mut terms: [f32; BLOCK]) -> f32 {
    let mut half = BLOCK / 2;
    while half > 0 {
        for j in 0..half {
            terms[j] += terms[j + half];
        }
        half /= 2;
    }
    terms[0]
}
