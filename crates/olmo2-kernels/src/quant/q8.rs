//! Quantising to 8 bits.

use super::{BLOCK, blocks};
use half::f16;

/// Quantises rows of `in_features` weights into `[rows, blocks * 32]` quants and `[rows, blocks]`
/// scales.
///
/// # Panics
/// A length does not fit the others.
pub fn quantise_q8(rows: &[f32], in_features: usize, quants: &mut [i8], scales: &mut [f16]) {
    let blocks = blocks(in_features);
    let count = rows.len() / in_features;
    assert_eq!(rows.len(), count * in_features);
    assert_eq!(quants.len(), count * blocks * BLOCK);
    assert_eq!(scales.len(), count * blocks);
    let rows = rows.chunks_exact(in_features);
    let quants = quants.chunks_exact_mut(blocks * BLOCK);
    for ((row, quants), scales) in rows.zip(quants).zip(scales.chunks_exact_mut(blocks)) {
        let quants = quants.chunks_exact_mut(BLOCK);
        for ((block, quants), scale) in row.chunks(BLOCK).zip(quants).zip(scales) {
            let largest = block.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
            *scale = f16::from_f32(largest / 127.0);
            let inverse = if *scale == f16::ZERO {
                0.0
            } else {
                1.0 / scale.to_f32()
            };
            quants.fill(0);
            for (quant, x) in quants.iter_mut().zip(block) {
                *quant = (x * inverse).round_ties_even().clamp(-127.0, 127.0) as i8;
            }
        }
    }
}
