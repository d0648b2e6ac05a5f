//! Each level's operations against plain arithmetic.

mod int8;

use super::*;

/// Runs a kernel at every level that the CPU has.
pub(crate) fn at_every_level<K: Kernel>(mut kernel: impl FnMut() -> K) {
    for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
        dispatch(level, kernel());
    }
}

struct Exp;
impl Kernel for Exp {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let exp = |x: f32| s.max_element(s.exp(s.splat(x)));
        let mut worst = 0.0_f64;
        for i in -87_300..=88_300 {
            let x = i as f32 * 1e-3;
            let right = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) / right - 1.0).abs());
        }
        assert!(worst <= 2.0 * f64::from(f32::EPSILON), "{worst}");
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(-1e9) <= 1.3e-38 && exp(f32::NEG_INFINITY) <= 1.3e-38);
        assert!(exp(1e9).is_finite());
        assert!(exp(f32::NAN).is_nan());
    }
}

#[test]
fn exp_is_within_two_units_of_the_last_place() {
    at_every_level(|| Exp);
}

struct Moves;
impl Kernel for Moves {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = S::LANES;
        let from: Vec<f32> = (0..n * 20).map(|i| i as f32).collect();
        let mut to = vec![-1.0; n * 18];
        // SAFETY: `n` rows of 20 and of 18 are valid, and `n` is at most 16.
        unsafe { s.transpose(from.as_ptr(), 20, to.as_mut_ptr(), 18) };
        for (i, x) in to.iter().enumerate() {
            let (row, column) = (i / 18, i % 18);
            let right = if column < n {
                (column * 20 + row) as f32
            } else {
                -1.0
            };
            assert_eq!(*x, right);
        }
        for count in 0..n {
            let mut to = [-1.0; 16];
            // SAFETY: both hold `count` elements.
            let v = unsafe { s.load_first(from.as_ptr().add(1), count) };
            assert_eq!(s.sum(v), (count * (count + 1) / 2) as f32);
            // SAFETY: as above.
            unsafe { s.store_first(to.as_mut_ptr(), v, count) };
            assert!(
                to.iter()
                    .enumerate()
                    .all(|(i, &x)| x == if i < count { (i + 1) as f32 } else { -1.0 })
            );
            if count > 0 {
                assert_eq!(s.max_element(v), count as f32);
            }
        }
    }
}

#[test]
fn blocks_transpose_and_parts_of_vectors_move() {
    at_every_level(|| Moves);
}

struct Halves;
impl Kernel for Halves {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = S::LANES;
        let values: Vec<f32> = (0..2 * n).map(|i| (i as f32 - 9.0) * 0.25).collect();
        let brain: Vec<bf16> = values.iter().map(|&x| bf16::from_f32(x)).collect();
        let half: Vec<f16> = values.iter().map(|&x| f16::from_f32(x)).collect();
        let mut out = vec![0.0; 4 * n];
        let p = out.as_mut_ptr();
        // SAFETY: the inputs hold two vectors, the output four.
        unsafe {
            let (even, odd) = s.load_bf16_split(brain.as_ptr());
            s.store(p, even);
            s.store(p.add(n), odd);
            s.store(p.add(2 * n), s.load_bf16(brain.as_ptr()));
            s.store(p.add(3 * n), s.load_f16(half.as_ptr()));
        }
        for i in 0..n {
            let right = [values[2 * i], values[2 * i + 1], values[i], values[i]];
            assert_eq!([0, 1, 2, 3].map(|j| out[j * n + i]), right);
        }
    }
}

#[test]
fn sixteen_bit_floats_widen_exactly() {
    at_every_level(|| Halves);
}

struct Bytes;
impl Kernel for Bytes {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let all: Vec<i8> = (i8::MIN..=i8::MAX).collect();
        let mut out = [0.0; 16];
        for bytes in all.chunks_exact(S::LANES) {
            // SAFETY: the chunk is one vector, and `out` holds any level's.
            unsafe { s.store(out.as_mut_ptr(), s.load_i8(bytes.as_ptr())) };
            let pairs = out.iter().zip(bytes);
            pairs.for_each(|(&x, &byte)| assert_eq!(x, f32::from(byte)));
        }
    }
}

#[test]
fn bytes_widen_exactly() {
    at_every_level(|| Bytes);
}
