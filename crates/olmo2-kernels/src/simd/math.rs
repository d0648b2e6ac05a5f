//! Functions of vectors, the same at every level except for the rounding of `fma`.

use super::Simd;

/// e to the power of each element, with an error of at most 2 units in the last place between -87.3
/// and 88.3. Outside that range the result is the value at the nearest end (1.2e-38 or 2.2e38), so
/// that the absolute error is tiny below it and nothing overflows above it. exp(0) is 1; NaN stays
/// NaN.
///
/// Cephes' `expf`: x = n ln 2 + r with |r| <= ln 2 / 2, and a polynomial of degree 7 in r.
#[inline(always)]
pub(super) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    /// Adding and subtracting it rounds to an integer.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const POLYNOMIAL: [f32; 6] = [
        1.987_569_1e-4,
        1.398_2e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ];
    let x = s.max(s.splat(-87.3), x);
    let x = s.min(s.splat(88.3), x);
    let n = s.fma(x, s.splat(std::f32::consts::LOG2_E), s.splat(ROUND));
    let n = s.sub(n, s.splat(ROUND));
    let r = s.fma(n, s.splat(-LN_2_HIGH), x);
    let r = s.fma(n, s.splat(-LN_2_LOW), r);
    let mut p = s.splat(POLYNOMIAL[0]);
    for c in &POLYNOMIAL[1..] {
        p = s.fma(p, r, s.splat(*c));
    }
    let p = s.fma(p, s.mul(r, r), s.add(r, s.splat(1.0)));
    s.mul(p, s.pow2(n))
}
