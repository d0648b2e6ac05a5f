//! Operations on bytes and integers.

use super::at_every_level;
use crate::quant::{MIN_MAX_SCALE, Q4Scales};
use crate::simd::{Int8, Kernel};

/// Bytes of the longest register.
const MAX_BYTES: usize = 64;

/// Bytes of all values in no particular order, the same each time.
fn bytes(seed: u8) -> [u8; MAX_BYTES] {
    std::array::from_fn(|i| (i as u8).wrapping_mul(37).wrapping_add(seed))
}

fn stored<S: Int8>(s: S, b: S::B) -> Vec<u8> {
    let mut out = [0; MAX_BYTES];
    // SAFETY: the longest register fits.
    unsafe { s.store_bytes(out.as_mut_ptr(), b) };
    out[..16 * S::GROUPS].to_vec()
}

fn ints<S: Int8>(s: S, x: S::I) -> Vec<i32> {
    let mut out = [0; 16];
    // SAFETY: the longest register fits.
    unsafe { s.store_ints(out.as_mut_ptr(), x) };
    out[..S::LANES].to_vec()
}

fn floats<S: Int8>(s: S, v: S::V) -> Vec<f32> {
    let mut out = [0.0; 16];
    // SAFETY: the longest register fits.
    unsafe { s.store(out.as_mut_ptr(), v) };
    out[..S::LANES].to_vec()
}

struct Dots;
impl Kernel for Dots {
    #[inline(always)]
    fn run<S: Int8>(self, s: S) {
        for (seed, start) in [(0, 0), (3, 1000), (101, -70_000)] {
            let weights = bytes(seed);
            // Activations are never -128.
            let a = bytes(seed ^ 0x55).map(|a| (a as i8).max(-127) as u8);
            let biased = weights.map(|w| (i32::from(w) % (2 * S::BIAS)) as u8);
            let sums = [start; 16];
            // SAFETY: all are as long as the longest register.
            let (sum, w, b, a8) = unsafe {
                (
                    s.load_ints(sums.as_ptr()),
                    s.load_bytes(weights.as_ptr()),
                    s.load_bytes(biased.as_ptr()),
                    s.load_bytes(a.as_ptr()),
                )
            };
            let product = |i: usize, w: i32| w * i32::from(a[i] as i8);
            let four = |lane: usize| 4 * lane..4 * lane + 4;
            let dot = ints(s, s.dot(sum, b, a8));
            let dot_q8 = ints(s, s.dot_q8(sum, s.prepare_q8(w), a8));
            let bias = if S::Q8_IS_BIASED { S::BIAS } else { 0 };
            for lane in 0..S::LANES {
                let exact = four(lane).map(|i| product(i, biased[i].into()));
                assert_eq!(dot[lane], start + exact.sum::<i32>());
                let exact = four(lane).map(|i| product(i, i32::from(weights[i] as i8) + bias));
                assert_eq!(dot_q8[lane], start + exact.sum::<i32>());
            }
        }
    }
}

#[test]
fn dots_are_exact() {
    at_every_level(|| Dots);
}

struct Scales;
impl Kernel for Scales {
    #[inline(always)]
    fn run<S: Int8>(self, s: S) {
        let all: [u8; 256] = std::array::from_fn(|i| i as u8);
        for max_scale in [MIN_MAX_SCALE, 0.7, 1.0, f32::MAX] {
            let scales = Q4Scales::new(max_scale);
            for some in all.chunks_exact(S::LANES) {
                // SAFETY: `LANES` bytes.
                let found = floats(s, unsafe { s.q4_scales(some.as_ptr(), &scales) });
                for (found, &scale) in found.iter().zip(some) {
                    assert_eq!(found.to_bits(), scales.get(scale).to_bits());
                }
            }
        }
    }
}

#[test]
fn scales_of_four_bits_have_the_same_bits_at_every_level() {
    at_every_level(|| Scales);
}

struct Shuffles;
impl Kernel for Shuffles {
    #[inline(always)]
    fn run<S: Int8>(self, s: S) {
        let (one, two) = (bytes(1), bytes(2));
        let width = 16 * S::GROUPS;
        // SAFETY: both are as long as the longest register.
        let (first, second) = unsafe { (s.load_bytes(one.as_ptr()), s.load_bytes(two.as_ptr())) };
        let (lower, upper) = s.halves(first, second);
        let whole = [&one[..width], &two[..width]].concat();
        for (half, found) in [stored(s, lower), stored(s, upper)].iter().enumerate() {
            for (group, found) in found.chunks(16).enumerate() {
                assert_eq!(found, &whole[32 * group + 16 * half..][..16]);
            }
        }
        let (back, again) = s.whole(lower, upper);
        assert_eq!([stored(s, back), stored(s, again)].concat(), whole);

        let (low, high) = s.nibbles(first);
        let (low, high) = (stored(s, low), stored(s, high));
        assert!((0..width).all(|i| low[i] == one[i] & 15 && high[i] == one[i] >> 4));

        let tables: Vec<[u8; 16]> = (0..=255_u8)
            .map(|t| std::array::from_fn(|i| t ^ (i as u8 * 16)))
            .collect();
        let selectors = [0, 255, 7, 130];
        // SAFETY: 256 tables and four selectors are valid.
        let chosen = unsafe { s.tables(tables.as_ptr(), selectors.as_ptr()) };
        let found = stored(s, s.lookup(chosen, s.nibbles(first).0));
        for i in 0..width {
            let table = tables[usize::from(selectors[i / 16])];
            assert_eq!(found[i], table[usize::from(one[i] & 15)]);
        }
    }
}

#[test]
fn bytes_go_where_they_should() {
    at_every_level(|| Shuffles);
}

struct Integers;
impl Kernel for Integers {
    #[inline(always)]
    fn run<S: Int8>(self, s: S) {
        let rows: [[i32; 16]; 4] =
            std::array::from_fn(|r| std::array::from_fn(|i| (i as i32 - 7) * 1001 + r as i32));
        // SAFETY: each row is as long as the longest register.
        let x = rows.map(|row| unsafe { s.load_ints(row.as_ptr()) });
        let sums = ints(s, s.reduce(x));
        for (r, row) in rows.iter().enumerate() {
            for group in 0..S::GROUPS {
                let sum: i32 = row[4 * group..4 * group + 4].iter().sum();
                assert_eq!(sums[r * S::GROUPS + group], sum);
            }
        }
        let woven = stored(s, s.interleave(x));
        assert!((0..4 * S::LANES).all(|i| woven[i] == rows[i % 4][i / 4] as u8));
        let minus = ints(s, s.times_minus_bias(x[1]));
        assert!((0..S::LANES).all(|i| minus[i] == -S::BIAS * rows[1][i]));
        let mut lowest = [0; 16];
        // SAFETY: the longest register has 16 elements.
        unsafe { s.store_lowest(lowest.as_mut_ptr(), x[2]) };
        assert!((0..S::LANES).all(|i| lowest[i] == rows[2][i] as u8));
        assert_eq!(
            ints(s, s.add_ints(x[0], s.zero_ints())),
            rows[0][..S::LANES]
        );

        let halves: [f32; 16] = std::array::from_fn(|i| i as f32 / 2.0 - 3.0);
        // SAFETY: 16 values are valid.
        let rounded = ints(s, s.to_ints(unsafe { s.load(halves.as_ptr()) }));
        for lane in 0..S::LANES {
            assert_eq!(rounded[lane] as f32, halves[lane].round_ties_even());
        }
        // SAFETY: `GROUPS` values, at most four, are valid.
        let (values, repeated) =
            unsafe { (s.repeat_ints(rows[3].as_ptr()), s.repeat(halves.as_ptr())) };
        let (values, repeated) = (ints(s, values), floats(s, repeated));
        for lane in 0..S::LANES {
            assert_eq!(values[lane], rows[3][lane % S::GROUPS]);
            assert_eq!(repeated[lane], halves[lane % S::GROUPS]);
        }
        let sums = s.sum_groups(s.to_floats(x[0]));
        for (row, sum) in sums.into_iter().enumerate() {
            let values = &rows[0][row * S::GROUPS..][..S::GROUPS];
            assert_eq!(sum, values.iter().sum::<i32>() as f32);
        }
    }
}

#[test]
fn integers_add_up_and_round() {
    at_every_level(|| Integers);
}
