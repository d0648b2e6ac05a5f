//! RMS norm over rows: alone, added to a residual, or followed by the rotation of queries and keys.
#![allow(unsafe_code, reason = "vector loads and stores")]

use crate::buffer::{SharedMut, Unwritten};
use crate::simd::{Int8, Kernel, Simd, dispatch};
use crate::{level, pool};

/// Elements below which a second thread costs more than it saves.
const ELEMENTS_PER_THREAD: usize = 16_384;

/// `x / sqrt(mean(x^2) + eps) * weight`, plus `residual` if there is one, over rows of
/// `weight.len()` elements; as long as `x`.
///
/// A row's bits depend on that row alone. The error is within `sqrt(width) / 8 + 4` epsilons of the
/// largest term.
///
/// # Panics
/// `weight` is empty, or the lengths do not fit each other.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, residual: Option<&[f32]>) -> Vec<f32> {
    if let Some(residual) = residual {
        assert_eq!(
            x.len(),
            residual.len(),
            "`x` and `residual` differ in length"
        );
    }
    let mut y = Unwritten::new(x.len());
    each_row(x, weight, y.shared(), |row, x, out| Norm {
        x,
        weight,
        eps,
        residual: residual.map(|all| &all[row * weight.len()..][..weight.len()]),
        out,
    });
    // SAFETY: the kernel writes every row.
    unsafe { y.written() }
}

/// Cosines and sines by position, `[positions, head_dim]` each. Both halves of a row hold the same
/// angles; `sin` is negated in the first half.
#[derive(Clone, Copy, Debug)]
pub struct RotationTable<'a> {
    /// Cosines.
    pub cos: &'a [f32],
    /// Sines, negative in the first half of a row.
    pub sin: &'a [f32],
    /// Width of a row, even.
    pub head_dim: usize,
}

/// [`rms_norm`] over whole rows, then the rotation of each head of a row by halves: `y * cos +
/// swapped(y) * sin`; as long as `x`. Row `i` uses row `i` of the table, modulo its number of rows.
///
/// # Panics
/// `weight` is empty or no multiple of `head_dim`, `head_dim` is odd, or the lengths do not fit
/// each other.
pub fn rms_norm_rotate(x: &[f32], weight: &[f32], eps: f32, table: &RotationTable<'_>) -> Vec<f32> {
    let dim = table.head_dim;
    assert!(dim > 0 && dim.is_multiple_of(2), "`head_dim` is {dim}");
    assert_eq!(
        weight.len() % dim,
        0,
        "a row is not a whole number of heads"
    );
    assert_eq!(
        table.cos.len(),
        table.sin.len(),
        "`cos` and `sin` differ in length"
    );
    assert!(table.cos.len() >= dim && table.cos.len().is_multiple_of(dim));
    let mut y = Unwritten::new(x.len());
    each_row(x, weight, y.shared(), |row, x, out| {
        let at = row * dim % table.cos.len();
        NormRotate {
            x,
            weight,
            eps,
            cos: &table.cos[at..at + dim],
            sin: &table.sin[at..at + dim],
            out,
        }
    });
    // SAFETY: the kernel writes every row.
    unsafe { y.written() }
}

/// Runs a kernel on each row of `x`, and of `out`, of `weight.len()` elements.
fn each_row<'a, K: Kernel>(
    x: &'a [f32],
    weight: &[f32],
    out: SharedMut<'a>,
    kernel: impl Fn(usize, &'a [f32], SharedMut<'a>) -> K + Sync,
) {
    let width = weight.len();
    assert_ne!(width, 0, "`weight` is empty");
    assert_eq!(x.len() % width, 0, "`x` is not a whole number of rows");
    let rows = x.len() / width;
    let level = level::level();
    let parts = pool::threads()
        .min(x.len().div_ceil(ELEMENTS_PER_THREAD))
        .min(rows);
    pool::run(parts, |part| {
        for row in pool::share(rows, 1, parts, part) {
            let x = &x[row * width..][..width];
            dispatch(level, kernel(row, x, out.part(row * width, width)));
        }
    });
}

/// The factor of a row: `1 / sqrt(mean(x^2) + eps)`. Four vectors of sums keep the adders busy.
#[inline(always)]
fn factor<S: Simd>(s: S, x: &[f32], eps: f32) -> f32 {
    let mut sums = [s.splat(0.0); 4];
    let step = 4 * S::LANES;
    let whole = x.len() - x.len() % step;
    for i in (0..whole).step_by(step) {
        for j in 0..4 {
            // SAFETY: four vectors from `i` are inside.
            let v = unsafe { s.load(x.as_ptr().add(i + j * S::LANES)) };
            sums[j] = s.fma(v, v, sums[j]);
        }
    }
    let sum = s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])));
    let sum = x[whole..].iter().fold(sum, |sum, x| sum + x * x);
    1.0 / (sum / x.len() as f32 + eps).sqrt()
}

struct Norm<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    eps: f32,
    residual: Option<&'a [f32]>,
    out: SharedMut<'a>,
}

impl Kernel for Norm<'_> {
    #[inline(always)]
    fn run<S: Int8>(self, s: S) {
        let (x, weight) = (self.x, self.weight);
        assert_eq!(x.len(), weight.len());
        let out = self.out.at(0, x.len());
        let factor = factor(s, x, self.eps);
        let whole = x.len() - x.len() % S::LANES;
        for i in (0..whole).step_by(S::LANES) {
            // SAFETY: a vector from `i` is inside all of them.
            unsafe {
                let y = s.mul(s.load(x.as_ptr().add(i)), s.splat(factor));
                let y = s.mul(y, s.load(weight.as_ptr().add(i)));
                let y = match self.residual {
                    Some(residual) => s.add(s.load(residual.as_ptr().add(i)), y),
                    None => y,
                };
                s.store(out.add(i), y);
            }
        }
        for i in whole..x.len() {
            let y = x[i] * factor * weight[i];
            let y = self.residual.map_or(y, |residual| residual[i] + y);
            // SAFETY: inside the row.
            unsafe { *out.add(i) = y };
        }
    }
}

struct NormRotate<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    eps: f32,
    cos: &'a [f32],
    sin: &'a [f32],
    out: SharedMut<'a>,
}

impl Kernel for NormRotate<'_> {
    #[inline(always)]
    fn run<S: Int8>(self, s: S) {
        let dim = self.cos.len();
        let (x, half) = (self.x, dim / 2);
        assert!(x.len() == self.weight.len() && x.len().is_multiple_of(dim));
        assert_eq!(self.sin.len(), dim);
        let out = self.out.at(0, x.len());
        let factor = factor(s, x, self.eps);
        let whole = half - half % S::LANES;
        for head in (0..x.len()).step_by(dim) {
            for i in (0..whole).step_by(S::LANES) {
                let (low, high) = (i, half + i);
                // SAFETY: vectors from `low` and from `high` are inside the head.
                unsafe {
                    let a = self.normed(s, head + low, factor);
                    let b = self.normed(s, head + high, factor);
                    s.store(out.add(head + low), self.turned(s, a, b, low));
                    s.store(out.add(head + high), self.turned(s, b, a, high));
                }
            }
            for i in whole..half {
                let (low, high) = (i, half + i);
                let y = |i: usize| x[head + i] * factor * self.weight[head + i];
                let (a, b) = (y(low), y(high));
                // SAFETY: inside the head.
                unsafe {
                    *out.add(head + low) = a * self.cos[low] + b * self.sin[low];
                    *out.add(head + high) = b * self.cos[high] + a * self.sin[high];
                }
            }
        }
    }
}

impl NormRotate<'_> {
    /// # Safety
    /// A vector from `i` is inside the row.
    #[inline(always)]
    unsafe fn normed<S: Simd>(&self, s: S, i: usize, factor: f32) -> S::V {
        // SAFETY: promised by the caller.
        let (x, weight) = unsafe {
            (
                s.load(self.x.as_ptr().add(i)),
                s.load(self.weight.as_ptr().add(i)),
            )
        };
        s.mul(s.mul(x, s.splat(factor)), weight)
    }

    /// `own * cos + other * sin` at element `i` of a head.
    ///
    /// # Safety
    /// A vector from `i` is inside the table's row.
    #[inline(always)]
    unsafe fn turned<S: Simd>(&self, s: S, own: S::V, other: S::V, i: usize) -> S::V {
        // SAFETY: promised by the caller.
        let (cos, sin) = unsafe {
            (
                s.load(self.cos.as_ptr().add(i)),
                s.load(self.sin.as_ptr().add(i)),
            )
        };
        s.fma(other, sin, s.mul(own, cos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::{Level, with_level};
    use crate::product::tests::noise;

    fn levels() -> impl Iterator<Item = Level> {
        Level::ALL.into_iter().filter(|level| level.is_available())
    }

    fn normed(x: &[f32], weight: &[f32], eps: f64) -> Vec<f64> {
        let row = |x: &[f32]| {
            let square = |x: &f32| f64::from(*x).powi(2);
            let mean = x.iter().map(square).sum::<f64>() / x.len() as f64;
            let factor = 1.0 / (mean + eps).sqrt();
            let terms = x.iter().zip(weight);
            terms
                .map(|(x, w)| f64::from(*x) * factor * f64::from(*w))
                .collect::<Vec<_>>()
        };
        x.chunks_exact(weight.len()).flat_map(row).collect()
    }

    fn assert_close(out: &[f32], right: &[f64], width: usize) {
        assert_eq!(out.len(), right.len());
        let bound = ((width as f64).sqrt() / 8.0 + 4.0) * f64::from(f32::EPSILON);
        for (y, right) in out.iter().zip(right) {
            let error = (f64::from(*y) - right).abs();
            assert!(error <= bound * right.abs().max(1.0), "{y} for {right}");
        }
    }

    #[test]
    fn norms_match_f64_for_ragged_widths_with_and_without_a_residual() {
        for width in [1, 3, 15, 16, 64, 100, 2048] {
            for rows in [1, 2, 33] {
                let (x, weight) = (noise(1, rows * width), noise(2, width));
                let residual = noise(3, x.len());
                let right = normed(&x, &weight, 1e-6);
                let sums = right.iter().zip(&residual).map(|(y, r)| y + f64::from(*r));
                let sums: Vec<f64> = sums.collect();
                for level in levels() {
                    let out = with_level(level, || rms_norm(&x, &weight, 1e-6, None)).unwrap();
                    assert_close(&out, &right, width);
                    let residual = Some(&residual[..]);
                    let out = with_level(level, || rms_norm(&x, &weight, 1e-6, residual)).unwrap();
                    assert_close(&out, &sums, width);
                }
            }
        }
    }

    #[test]
    fn rotation_swaps_halves_after_the_norm() {
        for (heads, dim) in [(1, 2), (3, 10), (4, 32), (2, 128)] {
            for (rows, positions) in [(1, 1), (6, 3), (40, 40)] {
                let width = heads * dim;
                let (x, weight) = (noise(1, rows * width), noise(2, width));
                let (cos, sin) = (noise(3, positions * dim), noise(4, positions * dim));
                let y = normed(&x, &weight, 1e-6);
                let right: Vec<f64> = (0..x.len())
                    .map(|i| {
                        let (row, d) = (i / width, i % dim);
                        let at = row % positions * dim + d;
                        let other = if d < dim / 2 {
                            i + dim / 2
                        } else {
                            i - dim / 2
                        };
                        y[i] * f64::from(cos[at]) + y[other] * f64::from(sin[at])
                    })
                    .collect();
                let table = RotationTable {
                    cos: &cos,
                    sin: &sin,
                    head_dim: dim,
                };
                for level in levels() {
                    let out = with_level(level, || rms_norm_rotate(&x, &weight, 1e-6, &table));
                    let out = out.unwrap();
                    assert_close(&out, &right, width);
                }
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_among_others() {
        let (rows, width) = (40, 2048);
        let (x, weight) = (noise(1, rows * width), noise(2, width));
        let all = rms_norm(&x, &weight, 1e-6, None);
        for row in 0..rows {
            let range = row * width..(row + 1) * width;
            let alone = rms_norm(&x[range.clone()], &weight, 1e-6, None);
            assert!(
                alone
                    .iter()
                    .zip(&all[range])
                    .all(|(a, b)| a.to_bits() == b.to_bits())
            );
        }
    }
}
