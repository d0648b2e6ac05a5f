//! One query: keys and values are read in place. Lanes run along `head_dim`.

use super::{Running, TILE, Task};
use crate::buffer::{Scratch, with_scratch};
use crate::level::Level;
use crate::simd::{Kernel, Simd, dispatch};
use std::cell::RefCell;

thread_local! {
    static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
}

pub(super) fn run(level: Level, task: &Task<'_>) {
    let len = task.shape.head_dim * task.group();
    with_scratch(&SCRATCH, 2 * len, |scratch| {
        let (q, sums) = scratch.split_at_mut(len);
        for row in 0..task.group() {
            let from = &task.step.q[task.place(row)..][..task.shape.head_dim];
            let to = &mut q[row * task.shape.head_dim..][..task.shape.head_dim];
            to.iter_mut()
                .zip(from)
                .for_each(|(to, x)| *to = x * task.shape.scale);
        }
        sums.fill(0.0);
        dispatch(level, Decode { task, q, sums });
    });
}

/// `q` (already scaled) and `sums` are `[group, head_dim]`.
struct Decode<'a> {
    task: &'a Task<'a>,
    q: &'a [f32],
    sums: &'a mut [f32],
}

impl Kernel for Decode<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (task, dim) = (self.task, self.task.shape.head_dim);
        let (first, end) = (task.step.first, task.end(0));
        let (keys, values) = (task.head(task.step.k), task.head(task.step.v));
        let group = task.group();
        // Few heads share keys; more than these would take more room than a thread has.
        let mut running = vec![Running::START; group];
        for start in (first..end).step_by(TILE) {
            let tile = start * dim..end.min(start + TILE) * dim;
            let (keys, values) = (&keys[tile.clone()], &values[tile]);
            for row in 0..group {
                let mut scores = [0.0; TILE];
                let range = row * dim..(row + 1) * dim;
                score(s, &self.q[range.clone()], keys, &mut scores);
                let factor = running[row].weigh(s, &mut scores, keys.len() / dim);
                gather(s, &scores, values, factor, &mut self.sums[range]);
            }
        }
        for row in 0..group {
            let factor = running[row].normaliser();
            let to = task.out.at(task.place(row), dim);
            for (d, sum) in self.sums[row * dim..][..dim].iter().enumerate() {
                // SAFETY: inside the `dim` elements at `to`, which are this task's alone.
                unsafe { *to.add(d) = sum * factor };
            }
        }
    }
}

/// The scores of one query with each of up to [`TILE`] keys, `[n, head_dim]`.
#[inline(always)]
fn score<S: Simd>(s: S, q: &[f32], keys: &[f32], scores: &mut [f32; TILE]) {
    let dim = q.len();
    let count = keys.len() / dim;
    let mut j = 0;
    while count - j >= 4 {
        dots::<S, 4>(s, q, &keys[j * dim..(j + 4) * dim], &mut scores[j..]);
        j += 4;
    }
    while j < count {
        dots::<S, 1>(s, q, &keys[j * dim..(j + 1) * dim], &mut scores[j..]);
        j += 1;
    }
}

/// The scores with `N` keys, two partial sums each, so that short chains keep the units busy.
#[inline(always)]
fn dots<S: Simd, const N: usize>(s: S, q: &[f32], keys: &[f32], scores: &mut [f32]) {
    let dim = q.len();
    assert_eq!(keys.len(), N * dim);
    let (pairs, p, k) = (dim / (2 * S::LANES), q.as_ptr(), keys.as_ptr());
    let mut sums = [[s.splat(0.0); 2]; N];
    for pair in 0..pairs {
        for half in 0..2 {
            let d = (2 * pair + half) * S::LANES;
            // SAFETY: `d + LANES <= dim`, the length of `q` and of each key.
            unsafe {
                let x = s.load(p.add(d));
                for n in 0..N {
                    sums[n][half] = s.fma(x, s.load(k.add(n * dim + d)), sums[n][half]);
                }
            }
        }
    }
    let mut d = 2 * pairs * S::LANES;
    while d < dim {
        let count = (dim - d).min(S::LANES);
        for n in 0..N {
            // SAFETY: `count` elements are left of `q` and of each key.
            unsafe {
                let (x, k) = if count == S::LANES {
                    (s.load(p.add(d)), s.load(k.add(n * dim + d)))
                } else {
                    (
                        s.load_first(p.add(d), count),
                        s.load_first(k.add(n * dim + d), count),
                    )
                };
                sums[n][0] = s.fma(x, k, sums[n][0]);
            }
        }
        d += count;
    }
    for n in 0..N {
        scores[n] = s.sum(s.add(sums[n][0], sums[n][1]));
    }
}

/// `sums = sums * factor + weights values`, with values `[n, head_dim]`.
#[inline(always)]
fn gather<S: Simd>(s: S, weights: &[f32; TILE], values: &[f32], factor: f32, sums: &mut [f32]) {
    let dim = sums.len();
    let mut d = 0;
    while dim - d >= 8 * S::LANES {
        columns::<S, 8>(s, weights, values, factor, sums, d);
        d += 8 * S::LANES;
    }
    while dim - d >= S::LANES {
        columns::<S, 1>(s, weights, values, factor, sums, d);
        d += S::LANES;
    }
    for d in d..dim {
        let column = values.iter().skip(d).step_by(dim);
        let start = sums[d] * factor;
        sums[d] = column.zip(weights).fold(start, |sum, (v, w)| sum + w * v);
    }
}

/// The same for `C` vectors from `d`.
#[inline(always)]
fn columns<S: Simd, const C: usize>(
    s: S,
    weights: &[f32; TILE],
    values: &[f32],
    factor: f32,
    sums: &mut [f32],
    d: usize,
) {
    let dim = sums.len();
    assert!(d + C * S::LANES <= dim);
    let (to, from) = (sums.as_mut_ptr(), values.as_ptr());
    let mut acc = [s.splat(0.0); C];
    // SAFETY: the columns lie inside `sums` and inside each of the rows of `values`.
    unsafe {
        for c in 0..C {
            acc[c] = s.mul(s.load(to.add(d + c * S::LANES)), s.splat(factor));
        }
        for (j, &weight) in weights[..values.len() / dim].iter().enumerate() {
            let w = s.splat(weight);
            for c in 0..C {
                acc[c] = s.fma(w, s.load(from.add(j * dim + d + c * S::LANES)), acc[c]);
            }
        }
        for c in 0..C {
            s.store(to.add(d + c * S::LANES), acc[c]);
        }
    }
}
