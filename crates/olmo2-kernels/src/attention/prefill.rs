//! A block of queries: a tile's keys are transposed once, so that lanes are keys for the scores;
//! for the values lanes run along `head_dim`. Strips of two vectors of either stay in the
//! first-level cache while all rows pass.

use super::element::{CacheElement, CacheRows};
use super::running::Running;
use super::{TILE, Task};
use crate::buffer::{Scratch, with_scratch};
use crate::level::Level;
use crate::simd::{Kernel, Simd, dispatch};
use std::cell::RefCell;

/// A multiple of the rows of any level's register tile.
const MAX_TILE_ROWS: usize = 12;

thread_local! {
    static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
}

pub(super) fn run<E: CacheElement>(
    level: Level,
    task: &Task<'_>,
    queries: usize,
    [keys, values]: [CacheRows<'_, E>; 2],
) {
    let dim = task.plan.shape.head_dim;
    let rows = queries * task.group();
    // Rows past the last are zeros, so that all register tiles are full.
    let padded = rows.next_multiple_of(MAX_TILE_ROWS);
    let len = 2 * padded * dim + padded * TILE + 2 * TILE * dim;
    with_scratch(&SCRATCH, len, |scratch| {
        let (q, rest) = scratch.split_at_mut(padded * dim);
        let (sums, rest) = rest.split_at_mut(padded * dim);
        let (scores, rest) = rest.split_at_mut(padded * TILE);
        let (transposed, wide) = rest.split_at_mut(TILE * dim);
        q[rows * dim..].fill(0.0);
        for (row, to) in q[..rows * dim].chunks_exact_mut(dim).enumerate() {
            let from = &task.plan.step.q[task.place(row)..][..dim];
            to.iter_mut()
                .zip(from)
                .for_each(|(to, x)| *to = x * task.plan.shape.scale);
        }
        sums.fill(0.0);
        let prefill = Prefill {
            task,
            keys,
            values,
            rows,
            q,
            sums,
            transposed,
            wide,
            scores: scores.as_chunks_mut().0,
            factors: vec![1.0; padded],
            running: vec![Running::START; rows],
        };
        dispatch(level, prefill);
    });
}

struct Prefill<'a, E> {
    task: &'a Task<'a>,
    keys: CacheRows<'a, E>,
    values: CacheRows<'a, E>,
    rows: usize,
    /// `[padded rows, head_dim]`, already scaled.
    q: &'a [f32],
    /// `[padded rows, head_dim]`.
    sums: &'a mut [f32],
    /// A tile's keys, `[head_dim, TILE]`.
    transposed: &'a mut [f32],
    /// Room for a tile's keys or values in f32, `[TILE, head_dim]`.
    wide: &'a mut [f32],
    /// `[padded rows, TILE]`: scores, then weights.
    scores: &'a mut [[f32; TILE]],
    /// `[padded rows]`: the factors of a row's sums before a tile's values are added.
    factors: Vec<f32>,
    /// `[rows]`.
    running: Vec<Running>,
}

impl<E: CacheElement> Kernel for Prefill<'_, E> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match S::PREFILL_ROWS {
            12 => self.run_with::<S, 12>(s),
            6 => self.run_with::<S, 6>(s),
            _ => self.run_with::<S, 4>(s),
        }
    }
}

impl<E: CacheElement> Prefill<'_, E> {
    /// As [`run`](Kernel::run), with `R` rows in a register tile.
    #[inline(always)]
    fn run_with<S: Simd, const R: usize>(mut self, s: S) {
        const { assert!(MAX_TILE_ROWS.is_multiple_of(R)) };
        let end = self.task.end(self.rows - 1);
        for start in (self.task.first_key(0)..end).step_by(TILE) {
            let tile = start..end.min(start + TILE);
            let keys = E::widened(s, self.keys.slice(tile.clone()), self.wide);
            transpose(s, keys, self.task.plan.shape.head_dim, self.transposed);
            self.score::<S, R>(s, start, tile.len());
            self.weigh(s, start, tile.len());
            self.gather::<S, R>(s, start, tile.len());
        }
        self.write_outputs();
    }

    /// The first row that sees the position, and the first row of its register tile.
    #[inline(always)]
    fn first_row<const R: usize>(&self, position: usize) -> (usize, usize) {
        let query = (position + 1).saturating_sub(self.task.end(0));
        let row = (query * self.task.group()).min(self.rows);
        (row, row - row % R)
    }

    /// The number of the tile's positions up to the row's own.
    #[inline(always)]
    fn visible(&self, row: usize, start: usize, count: usize) -> usize {
        self.task.end(row).saturating_sub(start).min(count)
    }

    /// The number of the tile's positions before the row's window.
    #[inline(always)]
    fn hidden(&self, row: usize, start: usize) -> usize {
        self.task.first_key(row).saturating_sub(start)
    }

    /// The scores of each row with the keys of the tile that it sees, and with some more.
    #[inline(always)]
    fn score<S: Simd, const R: usize>(&mut self, s: S, start: usize, count: usize) {
        // A block reads each tile once, from memory. Each register tile prefetches a part of the
        // tile's values and of the next tile's keys.
        let ahead = [
            self.values.ahead(start, TILE),
            self.keys.ahead(start + TILE, TILE),
        ];
        let parts = self.rows.div_ceil(R);
        for j in (0..count).step_by(2 * S::LANES) {
            let (_, first) = self.first_row::<R>(start + j);
            for (part, row) in (first..self.rows).step_by(R).enumerate() {
                if let Some(ahead) = ahead.get(j / (2 * S::LANES)) {
                    ahead.prefetch(s, part, parts);
                }
                self.score_rows::<S, R>(s, row, j);
            }
        }
    }

    #[inline(always)]
    fn score_rows<S: Simd, const R: usize>(&mut self, s: S, row: usize, j: usize) {
        let dim = self.task.plan.shape.head_dim;
        let q = &self.q[row * dim..(row + R) * dim];
        let scores = &mut self.scores[row..row + R];
        assert!(self.transposed.len() == dim * TILE && j + 2 * S::LANES <= TILE);
        let mut sums = [[s.splat(0.0); 2]; R];
        for d in 0..dim {
            // SAFETY: `j + 2 * LANES <= TILE`, `transposed` has `dim` rows of TILE, and `q` has `R`
            // rows of `dim`.
            unsafe {
                let k = self.transposed.as_ptr().add(d * TILE + j);
                let (k0, k1) = (s.load(k), s.load(k.add(S::LANES)));
                for r in 0..R {
                    let x = s.splat(*q.as_ptr().add(r * dim + d));
                    sums[r] = [s.fma(x, k0, sums[r][0]), s.fma(x, k1, sums[r][1])];
                }
            }
        }
        for r in 0..R {
            let to = scores[r][j..j + 2 * S::LANES].as_mut_ptr();
            // SAFETY: two vectors, as just sliced.
            unsafe {
                s.store(to, sums[r][0]);
                s.store(to.add(S::LANES), sums[r][1]);
            }
        }
    }

    /// Turns scores into weights; those of rows that see no key become zeros.
    #[inline(always)]
    fn weigh<S: Simd>(&mut self, s: S, start: usize, count: usize) {
        let (first, from) = self.first_row::<MAX_TILE_ROWS>(start);
        for row in from..self.scores.len() {
            self.factors[row] = if (first..self.rows).contains(&row) {
                let visible = self.hidden(row, start)..self.visible(row, start, count);
                self.running[row].weigh(s, &mut self.scores[row], visible)
            } else {
                self.scores[row].fill(0.0);
                1.0
            };
        }
    }

    /// `sums = sums * factor + weights values` for all rows that see a key.
    #[inline(always)]
    fn gather<S: Simd, const R: usize>(&mut self, s: S, start: usize, count: usize) {
        let dim = self.task.plan.shape.head_dim;
        let tile = self.values.slice(start..start + count);
        let wide = std::mem::take(&mut self.wide);
        let values = E::widened(s, tile, wide);
        let (first, from) = self.first_row::<R>(start);
        let mut d = 0;
        while d < dim {
            for row in (from..self.rows).step_by(R) {
                let last = (row + R).min(self.rows) - 1;
                let values = &values[..self.visible(last, start, count) * dim];
                if dim - d >= 2 * S::LANES {
                    self.gather_rows::<S, R, 2>(s, row, values, d);
                } else if dim - d >= S::LANES {
                    self.gather_rows::<S, R, 1>(s, row, values, d);
                }
            }
            d += match dim - d {
                left if left >= 2 * S::LANES => 2 * S::LANES,
                left if left >= S::LANES => S::LANES,
                left => {
                    self.gather_rest(first, values, dim - left);
                    left
                }
            };
        }
        self.wide = wide;
    }

    /// As [`gather`](Self::gather) for `R` rows and `C` vectors from `d`.
    #[inline(always)]
    fn gather_rows<S: Simd, const R: usize, const C: usize>(
        &mut self,
        s: S,
        row: usize,
        values: &[f32],
        d: usize,
    ) {
        let dim = self.task.plan.shape.head_dim;
        assert!(d + C * S::LANES <= dim && values.len() <= TILE * dim);
        let (weights, factors) = (&self.scores[row..row + R], &self.factors[row..row + R]);
        let to = self.sums[row * dim..(row + R) * dim].as_mut_ptr();
        let mut sums = [[s.splat(0.0); C]; R];
        // SAFETY: the columns lie inside each of the `R` rows of sums and inside each row of
        // `values`, of which there are at most TILE.
        unsafe {
            for r in 0..R {
                for c in 0..C {
                    let sum = s.load(to.add(r * dim + d + c * S::LANES));
                    sums[r][c] = s.mul(sum, s.splat(factors[r]));
                }
            }
            for j in 0..values.len() / dim {
                let mut v = [s.splat(0.0); C];
                for c in 0..C {
                    v[c] = s.load(values.as_ptr().add(j * dim + d + c * S::LANES));
                }
                for r in 0..R {
                    let w = s.splat(*weights.as_ptr().cast::<f32>().add(r * TILE + j));
                    for c in 0..C {
                        sums[r][c] = s.fma(w, v[c], sums[r][c]);
                    }
                }
            }
            for r in 0..R {
                for c in 0..C {
                    s.store(to.add(r * dim + d + c * S::LANES), sums[r][c]);
                }
            }
        }
    }

    /// As [`gather`](Self::gather) for the columns from `d`, which fill no vector, of the rows from
    /// `first`.
    #[inline(always)]
    fn gather_rest(&mut self, first: usize, values: &[f32], d: usize) {
        let dim = self.task.plan.shape.head_dim;
        for row in first..self.rows {
            for d in d..dim {
                let column = values.iter().skip(d).step_by(dim);
                let sum = &mut self.sums[row * dim + d];
                let weights = column.zip(&self.scores[row]);
                *sum = weights.fold(*sum * self.factors[row], |sum, (v, w)| sum + w * v);
            }
        }
    }

    #[inline(always)]
    fn write_outputs(&self) {
        let dim = self.task.plan.shape.head_dim;
        for row in 0..self.rows {
            let factor = self.running[row].normalizer();
            let to = self.task.plan.out.at(self.task.place(row), dim);
            for (d, sum) in self.sums[row * dim..][..dim].iter().enumerate() {
                // SAFETY: inside the `dim` elements at `to`, which belong to this task alone.
                unsafe { *to.add(d) = sum * factor };
            }
        }
    }
}

/// Transposes `[n, dim]` to `[dim, TILE]`; columns past `n` are not changed.
#[inline(always)]
fn transpose<S: Simd>(s: S, from: &[f32], dim: usize, to: &mut [f32]) {
    let count = from.len() / dim;
    assert!(count <= TILE && to.len() == dim * TILE);
    let whole_keys = count - count % S::LANES;
    let whole_dims = dim - dim % S::LANES;
    for j in (0..whole_keys).step_by(S::LANES) {
        for d in (0..whole_dims).step_by(S::LANES) {
            // SAFETY: whole blocks, inside both.
            unsafe {
                let to = to.as_mut_ptr().add(d * TILE + j);
                s.transpose(from.as_ptr().add(j * dim + d), dim, to, TILE);
            }
        }
    }
    for j in 0..count {
        for d in if j < whole_keys { whole_dims } else { 0 }..dim {
            to[d * TILE + j] = from[j * dim + d];
        }
    }
}
