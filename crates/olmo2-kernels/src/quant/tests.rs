//! Both formats: errors against bounds and an exhaustive search, and the same bytes always.

use super::*;
use crate::level::{self, Level};
use crate::pool;
use crate::q4_scales::{EIGHTHS, QUARTERS};
use proptest::prelude::*;

/// A quantized tensor in 4 bits.
#[derive(Clone, Debug, PartialEq)]
struct Four {
    quants: Vec<u8>,
    scales: Vec<u8>,
    selectors: Vec<u8>,
    max_scale: f32,
}

fn max_abs(weights: &[f32]) -> f32 {
    weights.iter().fold(0.0, |m, x| x.abs().max(m))
}

fn four_below(weights: &[f32], in_features: usize, max_scale: f32) -> Four {
    let count = weights.len() / in_features * blocks(in_features);
    let (mut quants, mut scales, mut selectors) =
        (vec![7; count * 16], vec![7; count], vec![7; count]);
    quantize_q4(
        weights,
        in_features,
        max_scale,
        &mut quants,
        &mut scales,
        &mut selectors,
    );
    Four {
        quants,
        scales,
        selectors,
        max_scale,
    }
}

fn four(weights: &[f32], in_features: usize) -> Four {
    four_below(weights, in_features, q4_max_scale(max_abs(weights)))
}

fn four_back(four: &Four, len: usize, in_features: usize) -> Vec<f32> {
    let Four {
        quants,
        scales,
        selectors,
        max_scale,
    } = four;
    let q4 = Q4 {
        quants,
        scales,
        selectors,
        max_scale: *max_scale,
    };
    back(len, in_features, |row, out| q4.row(row, out))
}

fn eight(weights: &[f32], in_features: usize) -> (Vec<i8>, Vec<f16>) {
    let count = weights.len() / in_features * blocks(in_features);
    let (mut quants, mut scales) = (vec![7; count * BLOCK], vec![f16::ONE; count]);
    quantize_q8(weights, in_features, &mut quants, &mut scales);
    (quants, scales)
}

fn eight_back((quants, scales): &(Vec<i8>, Vec<f16>), len: usize, in_features: usize) -> Vec<f32> {
    let q8 = Q8 { quants, scales };
    back(len, in_features, |row, out| q8.row(row, out))
}

fn back(len: usize, in_features: usize, read: impl Fn(usize, &mut [f32])) -> Vec<f32> {
    let mut out = vec![f32::NAN; len];
    out.chunks_exact_mut(in_features)
        .enumerate()
        .for_each(|(row, out)| read(row, out));
    out
}

/// The root of the mean squared error over that of the weights, in %.
fn relative(weights: &[f32], other: &[f32]) -> f64 {
    let off: f64 = weights
        .iter()
        .zip(other)
        .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2))
        .sum();
    let all: f64 = weights.iter().map(|&a| f64::from(a).powi(2)).sum();
    100.0 * (off / all).sqrt()
}

fn gaussian(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut uniform = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as f64 + 0.5) / (1_u64 << 31) as f64
    };
    let mut next = || (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
    (0..count).map(|_| next() as f32).collect()
}

#[test]
fn scales_are_powers_of_two() {
    let near = |x: f64, m: f64, error: f64| {
        let right = (-m).exp2();
        assert!((x / right - 1.0).abs() <= error, "2^-{m}: {x}");
    };
    for (m, bits) in EIGHTHS.into_iter().enumerate() {
        near(f64::from_bits(bits), m as f64 / 32.0, f64::EPSILON);
    }
    for (m, bits) in QUARTERS.into_iter().enumerate() {
        near(f64::from_bits(bits), m as f64 / 4.0, f64::EPSILON);
    }
    for max_scale in [0.7, 1.0] {
        let scales = Q4Scales::new(max_scale);
        for s in 0..=255 {
            let ratio = f64::from(scales.get(s)) / f64::from(max_scale);
            near(ratio, f64::from(s) / 32.0, f64::from(2.0 * f32::EPSILON));
        }
    }
}

#[test]
fn gaussian_weights_lose_no_more_than_stated() {
    let weights = gaussian(1 << 17, 1);
    let error = relative(
        &weights,
        &four_back(&four(&weights, 512), weights.len(), 512),
    );
    assert!(error <= 6.05, "4 bits: {error}");
    let error = relative(
        &weights,
        &eight_back(&eight(&weights, 512), weights.len(), 512),
    );
    assert!(error <= 0.50, "8 bits: {error}");
}

#[test]
fn the_search_is_close_to_an_exhaustive_one() {
    let weights = gaussian(32 * 24, 2);
    let four = four(&weights, 32);
    let scales = Q4Scales::new(four.max_scale);
    let square = |a: f32, b: f32| f64::from(a - b).powi(2);
    let error_at = |block: &[f32], d: f32, table: &[i8; 16]| -> f64 {
        let least = |&x: &f32| {
            table
                .iter()
                .map(|&t| square(d * f32::from(t), x))
                .fold(f64::MAX, f64::min)
        };
        block.iter().map(least).sum()
    };
    let best = |block: &[f32]| {
        let near = (0..=255)
            .map(|s| scales.get(s))
            .filter(|d| (28.0..90.0).contains(&(max_abs(block) / d)));
        let each = near.flat_map(|d| {
            codebook::TABLES
                .iter()
                .map(move |table| error_at(block, d, table))
        });
        each.fold(f64::MAX, f64::min)
    };
    let exhaustive: f64 = weights.chunks(32).map(best).sum();
    let back = four_back(&four, weights.len(), 32);
    let found: f64 = weights.iter().zip(&back).map(|(&a, &b)| square(a, b)).sum();
    assert!(
        found >= exhaustive * 0.9999 && found <= exhaustive * 1.03,
        "{}",
        found / exhaustive
    );
}

#[test]
fn the_largest_block_finds_its_scale_below_the_top() {
    let weights = gaussian(32 * 2000, 3);
    let error = |widen: f32| {
        let of = |block: &[f32]| {
            let four = four_below(block, 32, q4_max_scale(max_abs(block)) * widen);
            four_back(&four, 32, 32)
        };
        relative(
            &weights,
            &weights.chunks(32).flat_map(of).collect::<Vec<_>>(),
        )
    };
    let (fitted, wide) = (error(1.0), error(2.0));
    assert!(fitted <= wide * 1.001, "{fitted} {wide}");
}

#[test]
fn bytes_are_the_same_at_every_level_and_with_any_number_of_threads() {
    let mut weights = gaussian(7 * 300, 4);
    weights[900..1200].iter_mut().for_each(|x| *x *= 1e-3);
    weights[40] = 50.0;
    let both = || (four(&weights, 300), eight(&weights, 300));
    let expected = level::with_level(Level::Scalar, both).unwrap();
    for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
        assert_eq!(level::with_level(level, both).unwrap(), expected, "{level}");
    }
    for threads in [1, 2, 3, 0] {
        pool::set_threads(threads);
        assert_eq!(both(), expected, "{threads} threads");
    }
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert_eq!(both(), expected, "beside other callers"));
        }
    });
    let rows = weights
        .chunks(300)
        .map(|row| four_below(row, 300, expected.0.max_scale));
    assert_eq!(
        rows.flat_map(|row| row.quants).collect::<Vec<_>>(),
        expected.0.quants
    );
}

#[test]
fn powers_of_two_change_nothing_but_the_scale() {
    let weights = gaussian(1024, 5);
    let (in_four, in_eight) = (four(&weights, 256), eight(&weights, 256));
    for power in [-60, -8, 30, 110] {
        let factor = 2.0_f32.powi(power);
        let scaled: Vec<f32> = weights.iter().map(|x| x * factor).collect();
        let max_scale = in_four.max_scale * factor;
        assert_eq!(
            four(&scaled, 256),
            Four {
                max_scale,
                ..in_four.clone()
            },
            "2^{power}"
        );
    }
    for power in [-5, 12] {
        let scaled: Vec<f32> = weights.iter().map(|x| x * 2.0_f32.powi(power)).collect();
        assert_eq!(eight(&scaled, 256).0, in_eight.0, "2^{power}");
    }
}

#[test]
fn zeros_stay_zero_among_others_and_alone() {
    let mut weights = gaussian(4 * 96, 6);
    weights[96..192].fill(0.0);
    weights[200..230].fill(-0.0);
    for weights in [weights, vec![0.0; 384]] {
        let (in_four, in_eight) = (four(&weights, 96), eight(&weights, 96));
        assert!(
            four_back(&in_four, 384, 96)[96..192]
                .iter()
                .all(|&x| x == 0.0)
        );
        assert!(
            eight_back(&in_eight, 384, 96)[96..192]
                .iter()
                .all(|&x| x == 0.0)
        );
        assert!(in_eight.1[3..6].iter().all(|&scale| scale == f16::ZERO));
    }
    assert_eq!(q4_max_scale(0.0), 0.0);
}

#[test]
fn numbers_at_the_ends_of_f32_do_no_harm() {
    let weights = gaussian(256, 7);
    let scaled = |factor: f32| weights.iter().map(|x| x * factor).collect::<Vec<f32>>();
    for tiny in [scaled(1e-38), scaled(1e-42)] {
        assert!(
            four_back(&four(&tiny, 64), 256, 64)
                .iter()
                .all(|&x| x == 0.0)
        );
        assert!(
            eight_back(&eight(&tiny, 64), 256, 64)
                .iter()
                .all(|&x| x == 0.0)
        );
    }
    let huge = scaled(3e37);
    assert!(relative(&huge, &four_back(&four(&huge, 64), 256, 64)) < 6.5);
    // Clipped at the largest value that an f16 scale allows.
    assert_eq!(
        max_abs(&eight_back(&eight(&huge, 64), 256, 64)),
        127.0 * 65504.0
    );
}

#[test]
fn what_f16_cannot_scale_is_rounded_to_its_grid() {
    let step = f16::MIN_POSITIVE_SUBNORMAL.to_f32();
    for share in [0.3, 0.7, 3.0, 100.0, 180.0, 300.0] {
        let weights: Vec<f32> = gaussian(64, 8).iter().map(|x| x * step * share).collect();
        let back = eight_back(&eight(&weights, 64), 64, 64);
        let worst = weights
            .iter()
            .zip(&back)
            .fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
        // Quants are integers, and scales are integer multiples of the step.
        let scale = (max_abs(&weights) / 127.0 / step).ceil() + 1.0;
        assert!(worst <= 0.51 * step * scale, "{share}: {}", worst / step);
    }
}

#[test]
fn a_block_that_is_not_finite_becomes_zero_and_its_neighbors_stay() {
    for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let weights = gaussian(96, 9);
        let mut broken = weights.clone();
        broken[40] = bad;
        let max_scale = q4_max_scale(max_abs(&weights));
        let (whole, cut) = (
            four_below(&weights, 96, max_scale),
            four_below(&broken, 96, max_scale),
        );
        let (whole, cut) = (four_back(&whole, 96, 96), four_back(&cut, 96, 96));
        let eights = (
            eight_back(&eight(&weights, 96), 96, 96),
            eight_back(&eight(&broken, 96), 96, 96),
        );
        for (whole, cut) in [(whole, cut), eights] {
            assert!(cut[32..64].iter().all(|&x| x == 0.0));
            assert_eq!((&cut[..32], &cut[64..]), (&whole[..32], &whole[64..]));
        }
        assert_eq!(q4_max_scale(bad), 0.0);
        for max_scale in [bad, 0.0] {
            assert!(four_back(&four_below(&weights, 96, max_scale), 96, 96).len() == 96);
        }
    }
}

#[test]
fn an_outlier_leaves_other_blocks_alone() {
    let mut weights = gaussian(64 * 64, 10);
    weights[100] = 100.0;
    let back = four_back(&four(&weights, 64), weights.len(), 64);
    assert!(relative(&weights[128..], &back[128..]) < 6.2);
    assert!((back[100] - 100.0).abs() < 1.0, "{}", back[100]);
}

/// Values of very different size, with zeros.
fn weight() -> impl Strategy<Value = f32> {
    (-1.0_f32..1.0, -20_i32..20, 0..8).prop_map(|(x, power, kind)| match kind {
        0 => 0.0,
        1..4 => x * 2.0_f32.powi(power),
        _ => x,
    })
}

fn matrix() -> impl Strategy<Value = (usize, Vec<f32>)> {
    (0_usize..5, 1_usize..100).prop_flat_map(|(rows, in_features)| {
        (
            Just(in_features),
            prop::collection::vec(weight(), rows * in_features),
        )
    })
}

proptest! {
    #[test]
    fn any_rows_come_back_within_a_block_s_bounds((in_features, weights) in matrix()) {
        let four = four(&weights, in_features);
        let eight = eight(&weights, in_features);
        let in_four = four_back(&four, weights.len(), in_features);
        let in_eight = eight_back(&eight, weights.len(), in_features);
        let rows = weights.chunks(in_features).zip(in_four.chunks(in_features).zip(in_eight.chunks(in_features)));
        for (row, (in_four, in_eight)) in rows {
            for (block, (in_four, in_eight)) in row.chunks(BLOCK).zip(in_four.chunks(BLOCK).zip(in_eight.chunks(BLOCK))) {
                let square = |other: &[f32]| -> f64 {
                    block.iter().zip(other).map(|(&a, &b)| f64::from(a - b).powi(2)).sum()
                };
                let max_abs = f64::from(max_abs(block));
                let step = f64::from(f16::MIN_POSITIVE_SUBNORMAL.to_f32());
                let bound = (max_abs / 127.0 * 0.52 + step * 0.5).powi(2) * BLOCK as f64;
                prop_assert!(square(in_eight) <= bound, "{block:?} {in_eight:?}");
                // Far below the range, all are zeros in the worst case.
                let zeros = square(&vec![0.0; block.len()]);
                let bound = (max_abs * 0.1).powi(2) * BLOCK as f64;
                let reached = max_abs > f64::from(four.max_scale) / 3.0;
                prop_assert!(square(in_four) <= if reached { bound.min(zeros) } else { zeros * 1.000_001 }, "{block:?} {in_four:?}");
            }
        }
    }

    #[test]
    fn a_ragged_row_is_one_with_zeros_behind((in_features, weights) in matrix()) {
        let wide = blocks(in_features) * BLOCK;
        let mut padded = Vec::new();
        for row in weights.chunks(in_features) {
            padded.extend_from_slice(row);
            padded.resize(padded.len().next_multiple_of(wide), 0.0);
        }
        prop_assert_eq!(four(&weights, in_features), four(&padded, wide));
        prop_assert_eq!(eight(&weights, in_features), eight(&padded, wide));
    }
}
