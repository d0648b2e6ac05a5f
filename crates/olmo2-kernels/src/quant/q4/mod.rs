//! Quantising to 4 bits with selected codebooks.

use super::{BLOCK, Q4Scales, blocks, codebook};

/// The largest scale of a tensor whose largest magnitude is `largest`.
pub fn q4_top(largest: f32) -> f32 {
    largest / 40.0
}

/// Quantises rows of `in_features` weights of a tensor with the given [`q4_top`] into
/// `[rows, blocks, 16]` bytes of codes, `[rows, blocks]` scales and selectors.
///
/// # Panics
/// A length does not fit the others.
pub fn quantise_q4(
    rows: &[f32],
    in_features: usize,
    top: f32,
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
    let steps = Q4Scales::new(top);
    for (i, block) in rows
        .chunks_exact(in_features)
        .flat_map(|row| row.chunks(BLOCK))
        .enumerate()
    {
        let largest = block.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
        let selector = 0_u8;
        let table = codebook::table(selector);
        let scale = (0..=255)
            .rev()
            .find(|&s| steps.get(s) * 60.0 >= largest)
            .unwrap_or(0);
        let d = steps.get(scale);
        scales[i] = scale;
        selectors[i] = selector;
        let out = &mut quants[i * 16..][..16];
        out.fill(0);
        for j in 0..BLOCK {
            let x = block.get(j).copied().unwrap_or(0.0);
            let distance = |code: &usize| (d * f32::from(table[*code]) - x).abs();
            let code = (0..16)
                .min_by(|a, b| distance(a).total_cmp(&distance(b)))
                .unwrap_or(0);
            out[j % 16] |= (code as u8) << (j / 16 * 4);
        }
    }
}
