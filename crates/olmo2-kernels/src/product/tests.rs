//! Matmuls against sums in f64, and bit for bit against themselves.

use super::*;
use crate::level::{Level, with_level};
use crate::reference;

/// Values in -1 .. 1, the same each time.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

pub(super) struct Weights {
    f32: Vec<f32>,
    bf16: Vec<bf16>,
    f16: Vec<f16>,
}

impl Weights {
    pub(super) fn new(seed: u64, len: usize) -> Self {
        let f32 = noise(seed, len);
        let bf16 = f32.iter().map(|&x| bf16::from_f32(x)).collect();
        let f16 = f32.iter().map(|&x| f16::from_f32(x)).collect();
        Self { f32, bf16, f16 }
    }

    pub(super) fn all(&self) -> [WeightData<'_>; 3] {
        [
            WeightData::F32(&self.f32),
            WeightData::Bf16(&self.bf16),
            WeightData::F16(&self.f16),
        ]
    }
}

pub(crate) fn levels() -> impl Iterator<Item = Level> {
    Level::ALL.into_iter().filter(|level| level.is_available())
}

/// One weight's outputs at a level.
pub(super) fn outputs_of(level: Level, x: &[f32], k: usize, weight: WeightRef<'_>) -> Vec<f32> {
    let [out] = with_level(level, || matmul(x, k, Activations::F32, &[weight])).unwrap();
    out
}

/// As [`outputs_of`], with activations rounded to bf16.
fn outputs_of_rounded(level: Level, x: &[f32], k: usize, weight: WeightRef<'_>) -> Vec<f32> {
    let [out] = with_level(level, || matmul(x, k, Activations::Bf16, &[weight])).unwrap();
    out
}

/// Holds outputs to `(sqrt(k) / 2 + 2) * eps * (sum of magnitudes)`: a random walk of roundings.
fn assert_close(level: Level, out: &[f32], right: &[(f64, f64)], k: usize) {
    assert_eq!(out.len(), right.len());
    let epsilons = (k as f64).sqrt() / 2.0 + 2.0;
    for (i, (&y, &(sum, size))) in out.iter().zip(right).enumerate() {
        let bound = epsilons * f64::from(f32::EPSILON) * size;
        let error = (f64::from(y) - sum).abs();
        assert!(
            error <= bound,
            "{level}, output {i}: {y} for {sum}, {error} > {bound}"
        );
    }
}

#[test]
fn products_match_sums_in_f64_for_ragged_shapes() {
    for k in [1, 31, 33, 64, 100, 2048] {
        for n in (1..=9).chain([100]) {
            let weights = Weights::new(3, n * k);
            let bias = noise(4, n);
            for m in [1, 2, 3, 5, 16, 17, 33, 50] {
                if k == 2048 && m > 17 {
                    continue;
                }
                let x = noise(m as u64, m * k);
                for data in weights.all() {
                    let weight = WeightRef::new(data).with_bias(&bias);
                    let right = reference::matmul(&x, k, data, Some(&bias));
                    for level in levels() {
                        assert_close(level, &outputs_of(level, &x, k, weight), &right, k);
                    }
                }
            }
        }
    }
}

#[test]
fn products_of_rounded_activations_match_sums_in_f64() {
    for (k, n) in [(1, 3), (33, 9), (64, 5), (100, 100), (2050, 13)] {
        let weights = Weights::new(3, n * k);
        let bias = noise(4, n);
        for m in [1, 2, 3, 5, 7, 16, 17, 33, 50] {
            let x = noise(m as u64, m * k);
            let rounded: Vec<f32> = x.iter().map(|&x| bf16::from_f32(x).to_f32()).collect();
            for data in weights.all() {
                let weight = WeightRef::new(data).with_bias(&bias);
                let right = reference::matmul(&rounded, k, data, Some(&bias));
                for level in levels() {
                    let out = outputs_of_rounded(level, &x, k, weight);
                    assert_close(level, &out, &right, k);
                }
            }
        }
    }
}

#[test]
fn rounded_rows_have_the_same_bits_alone_and_in_batches() {
    let (k, n) = (2080, 50);
    let (x, weights) = (noise(5, 50 * k), Weights::new(6, n * k));
    let weight = WeightRef::new(WeightData::Bf16(&weights.bf16));
    for level in levels() {
        for counts in [&[1, 2, 3, 4, 7, 16][..], &[17, 18, 32, 50]] {
            let all = outputs_of_rounded(level, &x[..counts[counts.len() - 1] * k], k, weight);
            for &m in counts {
                let out = outputs_of_rounded(level, &x[..m * k], k, weight);
                assert!(same_bits(&out, &all[..m * n]), "{level} {m} rows");
            }
        }
    }
}

#[test]
fn blocks_of_rows_inputs_and_features_join() {
    let (m, k, n) = (530, 1030, 200);
    let (x, weights) = (noise(1, m * k), Weights::new(2, n * k));
    let right = reference::matmul(&x, k, WeightData::Bf16(&weights.bf16), None);
    for level in levels() {
        let weight = WeightRef::new(WeightData::Bf16(&weights.bf16));
        assert_close(level, &outputs_of(level, &x, k, weight), &right, k);
    }
}

#[test]
fn each_feature_is_in_one_group() {
    for out_features in 1..=17 {
        let mut out = vec![0.0; out_features];
        let matmul = super::Matmul {
            data: WeightData::F32(&[]),
            q4_scales: None,
            bias: None,
            out_features,
            out: crate::buffer::SharedMut::new(&mut out),
        };
        for group in [super::Matmul::far_group, super::Matmul::near_group] {
            let mut found: Vec<usize> = (0..matmul.groups())
                .flat_map(|i| {
                    let (features, count) = group(&matmul, i);
                    features.into_iter().take(count)
                })
                .collect();
            found.sort_unstable();
            assert!(found.into_iter().eq(0..out_features));
        }
    }
}

/// Asserts that each row's outputs have the same bits alone and in batches of the given sizes.
pub(super) fn assert_same_bits(
    counts: &[usize],
    threads: &[usize],
    k: usize,
    data: WeightData<'_>,
) {
    let max = *counts.iter().max().unwrap();
    let (x, weight) = (noise(5, max * k), WeightRef::new(data));
    let n = data.out_features(k).unwrap();
    for level in levels() {
        let all = outputs_of(level, &x, k, weight);
        for &m in counts {
            for &threads in threads {
                // Other tests may set it as well; the results must not depend on it.
                pool::set_threads(threads);
                for first in [0, max - m] {
                    let out = outputs_of(level, &x[first * k..(first + m) * k], k, weight);
                    let same = same_bits(&out, &all[first * n..(first + m) * n]);
                    assert!(same, "{level} {m} rows from {first}");
                }
            }
        }
    }
    pool::set_threads(0);
}

/// Shapes for the bits of float weights.
fn assert_same_bits_of_floats(counts: &[usize], threads: &[usize]) {
    for (k, n) in [(100, 9), (2048, 300), (33, 7000)] {
        for data in Weights::new(6, n * k).all() {
            assert_same_bits(counts, threads, k, data);
        }
    }
}

pub(super) fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.iter()
        .map(|x| x.to_bits())
        .eq(b.iter().map(|x| x.to_bits()))
}

#[test]
fn a_row_has_the_same_bits_alone_and_in_a_decoding_batch() {
    assert_same_bits_of_floats(&[1, 2, 3, 4, 7, 8, 16], &[1, 2]);
}

#[test]
fn a_row_has_the_same_bits_in_any_prefill() {
    assert_same_bits_of_floats(&[17, 18, 31, 32, 50], &[1, 2, 3]);
}

#[test]
fn several_weights_in_one_call_are_the_same_as_alone() {
    let (k, sizes) = (96, [64, 1, 33]);
    for m in [1, 4, 40] {
        let x = noise(7, m * k);
        let weights: Vec<_> = sizes
            .iter()
            .map(|n| Weights::new(*n as u64, n * k))
            .collect();
        let refs = [
            WeightRef::new(WeightData::Bf16(&weights[0].bf16)),
            WeightRef::new(WeightData::F32(&weights[1].f32)),
            WeightRef::new(WeightData::F16(&weights[2].f16)),
        ];
        let outputs = matmul(&x, k, Activations::F32, &refs);
        for (weight, output) in refs.into_iter().zip(&outputs) {
            assert!(same_bits(
                &outputs_of(level::level(), &x, k, weight),
                output
            ));
        }
    }
}

#[test]
fn no_rows_and_no_features_are_no_work() {
    let of = |x: &[f32], weight: &[f32]| {
        let weight = WeightRef::new(WeightData::F32(weight));
        matmul(x, 4, Activations::F32, &[weight])
    };
    assert_eq!(of(&[], &[1.0; 8]), [[]]);
    assert_eq!(of(&[1.0; 4], &[]), [[]]);
}

#[test]
fn infinities_and_nans_stay_in_their_own_outputs() {
    for m in [2, 20] {
        let mut x = vec![1.0; m * 40];
        x[3] = f32::NAN;
        x[40 + 39] = f32::INFINITY;
        for level in levels() {
            let weight = WeightRef::new(WeightData::F32(&[1.0; 40]));
            let out = outputs_of(level, &x, 40, weight);
            assert!(out[0].is_nan() && out[1] == f32::INFINITY);
            assert!(out[2..].iter().all(|&y| y == 40.0));
        }
    }
}

#[test]
#[should_panic(expected = "a whole number of rows of 4")]
fn a_wrong_weight_length_panics() {
    let weight = WeightRef::new(WeightData::F32(&[1.0; 7]));
    matmul(&[1.0; 4], 4, Activations::F32, &[weight]);
}
