//! Quantized matmuls against sums in f64 over the same 8-bit activations, and bit for bit
//! against themselves.

use crate::level::Level;
use crate::product::tests::{assert_same_bits, levels, noise, outputs_of, same_bits};
use crate::product::{Activations, WeightData, WeightRef, matmul};
use crate::quant::{BLOCK, Q4, Q8, blocks, q4_max_scale, quantize_q4, quantize_q8};
use crate::reference;
use half::f16;

/// A matrix in both formats.
pub(in crate::product) struct Weights {
    eight: (Vec<i8>, Vec<f16>),
    four: (Vec<u8>, Vec<u8>, Vec<u8>),
    max_scale: f32,
}

impl Weights {
    /// Quantized noise, with quants of every value and, in 4 bits, all tables.
    pub(in crate::product) fn new(seed: u64, out: usize, k: usize) -> Self {
        let rows = noise(seed, out * k);
        let count = out * blocks(k);
        let mut eight = (vec![0; count * BLOCK], vec![f16::ZERO; count]);
        quantize_q8(&rows, k, &mut eight.0, &mut eight.1);
        let max_scale = q4_max_scale(1.0);
        let mut four = (vec![0; count * BLOCK / 2], vec![0; count], vec![0; count]);
        quantize_q4(&rows, k, max_scale, &mut four.0, &mut four.1, &mut four.2);
        for (i, selector) in four.2.iter_mut().enumerate() {
            *selector = (i * 37 + seed as usize) as u8;
        }
        for (i, scale) in four.1.iter_mut().enumerate() {
            *scale = scale.wrapping_add((i * 29) as u8);
        }
        Self {
            eight,
            four,
            max_scale,
        }
    }

    pub(in crate::product) fn all(&self) -> [WeightData<'_>; 2] {
        let (quants, scales) = &self.eight;
        let (codes, steps, selectors) = &self.four;
        [
            WeightData::Q8(Q8 { quants, scales }),
            WeightData::Q4(Q4 {
                quants: codes,
                scales: steps,
                selectors,
                max_scale: self.max_scale,
            }),
        ]
    }
}

/// Activations as the kernels round them.
fn rounded(x: &[f32], k: usize) -> Vec<f32> {
    let block = |block: &[f32]| {
        let max_abs = block
            .iter()
            .fold(0.0_f32, |max_abs, x| max_abs.max(x.abs()));
        let (inverse, scale) = (127.0 / max_abs, max_abs / 127.0);
        let round = move |x: &f32| (x * inverse).round_ties_even() * scale;
        block.iter().map(round).collect::<Vec<_>>()
    };
    x.chunks_exact(k)
        .flat_map(|row| row.chunks(BLOCK))
        .flat_map(block)
        .collect()
}

/// Integer dot products are exact, so only the scales and the sum over blocks are rounded.
fn assert_close(level: Level, out: &[f32], right: &[(f64, f64)], k: usize) {
    assert_eq!(out.len(), right.len());
    let epsilons = (blocks(k) as f64).sqrt() + 3.0;
    for (i, (&y, &(sum, size))) in out.iter().zip(right).enumerate() {
        let bound = epsilons * f64::from(f32::EPSILON) * size + 1e-30;
        let error = (f64::from(y) - sum).abs();
        assert!(
            error <= bound,
            "{level}, output {i}: {y} for {sum}, {error} > {bound}"
        );
    }
}

#[test]
fn products_match_sums_in_f64_for_ragged_shapes() {
    for k in [1, 31, 32, 33, 64, 100, 160, 2048, 2080] {
        for n in (1..=9).chain([100]) {
            let weights = Weights::new(3, n, k);
            let bias = noise(4, n);
            for m in [1, 2, 3, 5, 6, 7, 8, 9, 13, 16, 17, 33, 50] {
                if k >= 2048 && (m > 17 || n > 8) {
                    continue;
                }
                let x = noise(m as u64, m * k);
                for data in weights.all() {
                    let weight = WeightRef::new(data).with_bias(&bias);
                    let right = reference::matmul(&rounded(&x, k), k, data, Some(&bias));
                    for level in levels() {
                        assert_close(level, &outputs_of(level, &x, k, weight), &right, k);
                    }
                }
            }
        }
    }
}

#[test]
fn blocks_of_rows_panels_and_features_join() {
    let (m, k, n) = (530, 4200, 200);
    let (x, weights) = (noise(1, m * k), Weights::new(2, n, k));
    let some: Vec<f32> = [0, 511, 512, 529]
        .iter()
        .flat_map(|&r| &x[r * k..(r + 1) * k])
        .copied()
        .collect();
    for data in weights.all() {
        let right = reference::matmul(&rounded(&some, k), k, data, None);
        for level in levels() {
            let out = outputs_of(level, &x, k, WeightRef::new(data));
            let some: Vec<f32> = [0, 511, 512, 529]
                .iter()
                .flat_map(|&r| &out[r * n..(r + 1) * n])
                .copied()
                .collect();
            assert_close(level, &some, &right, k);
        }
    }
}

#[test]
fn a_row_has_the_same_bits_alone_and_in_a_decoding_batch() {
    for (k, n) in [(100, 9), (2048, 300), (33, 3000), (8192, 30)] {
        for data in Weights::new(6, n, k).all() {
            assert_same_bits(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16], &[1, 2], k, data);
        }
    }
}

#[test]
fn a_row_has_the_same_bits_in_any_prefill() {
    for (k, n) in [(100, 9), (2048, 300), (4200, 30)] {
        for data in Weights::new(6, n, k).all() {
            assert_same_bits(&[17, 18, 31, 32, 50], &[1, 2, 3], k, data);
        }
    }
}

/// Tiles add terms in the same order as vectors.
#[test]
fn tiles_give_the_bits_of_vectors() {
    if !Level::Amx.is_available() {
        eprintln!("left out: this CPU has no AMX");
        return;
    }
    let shapes = [(33, 9), (100, 100), (2048, 37), (4200, 120)];
    // Around a lane's first and second block, and a second chunk of blocks.
    let edges = [480, 512, 530, 1000, 1024, 1056, 1664].map(|k| (k, 33));
    for (k, n) in shapes.into_iter().chain(edges) {
        let bias = noise(7, n);
        for data in Weights::new(6, n, k).all() {
            for m in [9, 16, 17, 50] {
                let x = noise(m as u64, m * k);
                let weight = WeightRef::new(data).with_bias(&bias);
                let [vectors, tiles] =
                    [Level::Avx512, Level::Amx].map(|level| outputs_of(level, &x, k, weight));
                assert!(same_bits(&vectors, &tiles), "{m} rows of {k} by {n}");
            }
        }
    }
}

#[test]
fn infinities_and_nans_stay_in_their_own_rows() {
    let (k, n) = (40, 3);
    let weights = Weights::new(1, n, k);
    for m in [3, 9, 20] {
        let mut x = vec![1.0; m * k];
        x[3] = f32::NAN;
        x[k + 39] = f32::INFINITY;
        for data in weights.all() {
            for level in levels() {
                let out = outputs_of(level, &x, k, WeightRef::new(data));
                assert!(
                    out[..2 * n].iter().all(|y| !y.is_finite()),
                    "{level} {m}: {out:?}"
                );
                assert!(out[2 * n..].iter().all(|y| y.is_finite()), "{level} {m}");
            }
        }
    }
}

#[test]
fn tiny_and_zero_activations_are_no_trouble() {
    let (k, n) = (64, 5);
    let weights = Weights::new(1, n, k);
    for m in [1, 9, 17] {
        for value in [0.0, 1e-40, 1e-38, 1e30] {
            let x = vec![value; m * k];
            for (data, level) in weights
                .all()
                .into_iter()
                .flat_map(|d| levels().map(move |l| (d, l)))
            {
                let out = outputs_of(level, &x, k, WeightRef::new(data));
                assert!(
                    out.iter().all(|y| y.is_finite()),
                    "{level} {value}: {out:?}"
                );
            }
        }
    }
}

/// Blocks that a file may hold, though no quantizer makes them.
#[test]
fn extreme_blocks_are_exact_and_do_no_harm() {
    let (k, n) = (160, 7);
    let count = n * blocks(k);
    let bytes: Vec<u8> = (0..=255).cycle().take(count * BLOCK).collect();
    let quants: Vec<i8> = bytes.iter().map(|&byte| byte as i8).collect();
    let (codes, steps) = (&bytes[..count * BLOCK / 2], &bytes[..count]);
    let selectors: Vec<u8> = steps.iter().map(|step| 255 - step).collect();
    for m in [1, 9, 17] {
        let x = noise(m as u64, m * k);
        let rounded = rounded(&x, k);
        for scale in [f16::MIN_POSITIVE, f16::MAX, f16::NEG_ONE] {
            let scales = vec![scale; count];
            let q8 = WeightData::Q8(Q8 {
                quants: &quants,
                scales: &scales,
            });
            let right = reference::matmul(&rounded, k, q8, None);
            for level in levels() {
                assert_close(
                    level,
                    &outputs_of(level, &x, k, WeightRef::new(q8)),
                    &right,
                    k,
                );
            }
        }
        for max_scale in [0.0, 1e-30, 1.0, 1e30, -1.0, f32::NAN] {
            let q4 = WeightData::Q4(Q4 {
                quants: codes,
                scales: steps,
                selectors: &selectors,
                max_scale,
            });
            let right = reference::matmul(&rounded, k, q4, None);
            for level in levels() {
                assert_close(
                    level,
                    &outputs_of(level, &x, k, WeightRef::new(q4)),
                    &right,
                    k,
                );
            }
        }
    }
}

#[test]
fn infinite_scales_stay_in_their_own_outputs() {
    let (k, n) = (64, 5);
    let quants = vec![1; n * k];
    let mut scales = vec![f16::ONE; n * blocks(k)];
    scales[0] = f16::INFINITY;
    scales[3] = f16::NAN;
    let q8 = WeightData::Q8(Q8 {
        quants: &quants,
        scales: &scales,
    });
    for m in [1, 9, 17] {
        for level in levels() {
            let out = outputs_of(level, &vec![1.0; m * k], k, WeightRef::new(q8));
            for row in out.chunks_exact(n) {
                assert!(!row[0].is_finite() && !row[1].is_finite());
                assert!(row[2..].iter().all(|&y| y == 64.0), "{level} {m}: {row:?}");
            }
        }
    }
}

#[test]
fn formats_mix_in_one_call_and_nothing_is_no_work() {
    let (k, n) = (96, 33);
    let weights = Weights::new(5, n, k);
    let [q8, q4] = weights.all().map(WeightRef::new);
    let floats = noise(6, n * k);
    let bias = noise(7, n);
    let float = WeightRef::new(WeightData::F32(&floats)).with_bias(&bias);
    for m in [0, 2, 12, 40] {
        let x = noise(8, m * k);
        let outputs = matmul(&x, k, Activations::F32, &[q8, float, q4]);
        for (weight, out) in [q8, float, q4].into_iter().zip(&outputs) {
            let alone = outputs_of(crate::level::level(), &x, k, weight);
            assert_eq!(alone, *out, "{m} rows");
        }
    }
    let none = WeightData::Q8(Q8 {
        quants: &[],
        scales: &[],
    });
    let outputs = matmul(&[1.0; 96], k, Activations::F32, &[WeightRef::new(none)]);
    assert_eq!(outputs, [[]]);
    assert_eq!(none.out_features(0), None);
}
