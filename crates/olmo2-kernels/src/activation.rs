//! The activation of the feed-forward block.
#![allow(unsafe_code, reason = "vector loads and stores")]

use crate::buffer::SharedMut;
use crate::simd::{Kernel, Simd, dispatch};
use crate::{level, pool};

/// Elements below which a second thread costs more than it saves.
const ELEMENTS_PER_THREAD: usize = 16_384;

/// `gate = silu(gate) * up`, with `silu(x) = x / (1 + exp(-x))`.
///
/// The error is within 6 units in the last place for gates above -87. Below that, both the exact
/// value and this one are less than 1e-35 times `up`.
///
/// # Panics
/// The lengths differ.
pub fn silu_mul(gate: &mut [f32], up: &[f32]) {
    silu_mul_to(SharedMut::new(gate), up);
}

/// As [`silu_mul`]. The caller owns the elements behind `gate`.
pub(crate) fn silu_mul_to(gate: SharedMut<'_>, up: &[f32]) {
    assert_eq!(up.len(), gate.len(), "`up` and `gate` differ in length");
    let len = up.len();
    let level = level::level();
    let parts = pool::threads()
        .min(len.div_ceil(ELEMENTS_PER_THREAD))
        .max(1);
    pool::run(parts, |part| {
        let range = pool::share(len, 16, parts, part);
        let gate = gate.at(range.start, range.len());
        let up = &up[range];
        dispatch(level, SiluMul { gate, up });
    });
}

struct SiluMul<'a> {
    /// As many elements as `up`, which no other thread touches.
    gate: *mut f32,
    up: &'a [f32],
}

impl Kernel for SiluMul<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.run_on(s);
    }
}

impl SiluMul<'_> {
    #[inline(always)]
    fn run_on<S: Simd>(self, s: S) {
        let (len, gate, up) = (self.up.len(), self.gate, self.up.as_ptr());
        let full = len - len % S::LANES;
        for i in (0..full).step_by(S::LANES) {
            // SAFETY: `i + LANES <= len`, and both are `len` long.
            unsafe {
                let y = apply(s, s.load(gate.add(i)), s.load(up.add(i)));
                s.store(gate.add(i), y);
            }
        }
        let rest = len - full;
        if rest > 0 {
            // SAFETY: both have `rest` more elements.
            unsafe {
                let y = apply(
                    s,
                    s.load_first(gate.add(full), rest),
                    s.load_first(up.add(full), rest),
                );
                s.store_first(gate.add(full), y, rest);
            }
        }
    }
}

/// [`silu_mul`] on the calling thread, inside another kernel.
#[inline(always)]
pub(crate) fn silu_mul_here<S: Simd>(s: S, gate: &mut [f32], up: &[f32]) {
    assert_eq!(up.len(), gate.len(), "`up` and `gate` differ in length");
    let gate = gate.as_mut_ptr();
    SiluMul { gate, up }.run_on(s);
}

#[inline(always)]
fn apply<S: Simd>(s: S, gate: S::V, up: S::V) -> S::V {
    let e = s.exp(s.sub(s.splat(0.0), gate));
    s.mul(s.div(gate, s.add(s.splat(1.0), e)), up)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::with_level;
    use crate::reference;

    #[test]
    fn silu_mul_matches_the_reference_at_every_length_and_level() {
        for level in level::Level::ALL
            .into_iter()
            .filter(|level| level.is_available())
        {
            for len in (0..70).chain([1000, 70_001]) {
                let gate: Vec<f32> = (0..len)
                    .map(|i| (i * 37 % 1741) as f32 * 0.1 - 87.0)
                    .collect();
                let up: Vec<f32> = (0..len).map(|i| (i % 13) as f32 - 6.5).collect();
                let mut out = gate.clone();
                with_level(level, || silu_mul(&mut out, &up)).unwrap();
                for (i, right) in reference::silu_mul(&gate, &up).into_iter().enumerate() {
                    let error = (f64::from(out[i]) - right).abs();
                    assert!(
                        error <= 6.0 * f64::from(f32::EPSILON) * right.abs(),
                        "{level} {i}"
                    );
                }
            }
        }
    }

    #[test]
    fn extreme_gates_give_finite_values_and_a_nan_shows() {
        let mut out = [-1e30, -200.0, 200.0, f32::NAN];
        silu_mul(&mut out, &[1.0; 4]);
        assert!(out[0].abs() < 1e-7 && out[1].abs() < 1e-35);
        assert_eq!(out[2], 200.0);
        assert!(out[3].is_nan());
    }
}
