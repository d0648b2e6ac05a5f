//! A block of queries: a tile's keys are transposed once, so that lanes are keys for the
//! scores, and run along `head_dim` for the values.

use super::{Running, TILE, Task};
use crate::buffer::{Scratch, with_scratch};
use crate::level::Level;
use crate::simd::{Kernel, Simd, dispatch};
use std::cell::RefCell;

/// Rows that a tile of registers holds.
const TILE_ROWS: usize = 6;

thread_local! {
    static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
}

pub(super) fn run(level: Level, task: &Task<'_>) {
    let dim = task.shape.head_dim;
    let rows = task.queries.len() * task.group();
    with_scratch(
        &SCRATCH,
        2 * rows * dim + TILE * dim + rows * TILE,
        |scratch| {
            let (q, rest) = scratch.split_at_mut(rows * dim);
            let (sums, rest) = rest.split_at_mut(rows * dim);
            let (keys, scores) = rest.split_at_mut(TILE * dim);
            for (row, to) in q.chunks_exact_mut(dim).enumerate() {
                let from = &task.step.q[task.place(row)..][..dim];
                to.iter_mut()
                    .zip(from)
                    .for_each(|(to, x)| *to = x * task.shape.scale);
            }
            sums.fill(0.0);
            let scores = scores.as_chunks_mut().0;
            let running = vec![Running::START; rows];
            dispatch(
                level,
                Prefill {
                    task,
                    q,
                    sums,
                    keys,
                    scores,
                    running,
                },
            );
        },
    );
}

struct Prefill<'a> {
    task: &'a Task<'a>,
    /// `[rows, head_dim]`, already scaled.
    q: &'a [f32],
    /// `[rows, head_dim]`.
    sums: &'a mut [f32],
    /// A tile's keys, `[head_dim, TILE]`.
    keys: &'a mut [f32],
    /// `[rows, TILE]`: scores, then weights.
    scores: &'a mut [[f32; TILE]],
    running: Vec<Running>,
}

impl Kernel for Prefill<'_> {
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (task, dim, rows) = (self.task, self.task.shape.head_dim, self.scores.len());
        let end = task.end(rows - 1);
        let (keys, values) = (task.head(task.step.k), task.head(task.step.v));
        for start in (task.step.first..end).step_by(TILE) {
            let tile = start * dim..end.min(start + TILE) * dim;
            // Rows before this one see nothing of the tile.
            let seen = (0..rows).find(|&row| task.end(row) > start).unwrap_or(rows);
            self.transpose(s, &keys[tile.clone()]);
            self.score(s, seen);
            let mut factors = [1.0; TILE_ROWS];
            let mut row = seen;
            while row < rows {
                let count = (rows - row).min(TILE_ROWS);
                for i in 0..count {
                    let visible = (task.end(row + i) - start).min(tile.len() / dim);
                    let scores = &mut self.scores[row + i];
                    factors[i] = self.running[row + i].weigh(s, scores, visible);
                }
                self.gather(s, row, count, &factors, &values[tile.clone()]);
                row += count;
            }
        }
        for row in 0..rows {
            let factor = self.running[row].normaliser();
            let to = task.out.at(task.place(row), dim);
            for (d, sum) in self.sums[row * dim..][..dim].iter().enumerate() {
                // SAFETY: inside the `dim` elements at `to`, which are this task's alone.
                unsafe { *to.add(d) = sum * factor };
            }
        }
    }
}

impl Prefill<'_> {
    /// `[n, head_dim]` to `[head_dim, TILE]`; what is beyond `n` stays as it was.
    #[inline(always)]
    fn transpose<S: Simd>(&mut self, s: S, from: &[f32]) {
        let dim = self.task.shape.head_dim;
        let count = from.len() / dim;
        assert!(count <= TILE && self.keys.len() == dim * TILE);
        let whole_keys = count - count % S::LANES;
        let whole_dims = dim - dim % S::LANES;
        for j in (0..whole_keys).step_by(S::LANES) {
            for d in (0..whole_dims).step_by(S::LANES) {
                // SAFETY: whole blocks inside `from` and `keys`.
                unsafe {
                    let to = self.keys.as_mut_ptr().add(d * TILE + j);
                    s.transpose(from.as_ptr().add(j * dim + d), dim, to, TILE);
                }
            }
        }
        for j in 0..count {
            for d in if j < whole_keys { whole_dims } else { 0 }..dim {
                self.keys[d * TILE + j] = from[j * dim + d];
            }
        }
    }

    /// The scores of all rows from `row` with all keys of the tile.
    #[inline(always)]
    fn score<S: Simd>(&mut self, s: S, mut row: usize) {
        let rows = self.scores.len();
        while rows - row >= TILE_ROWS {
            self.score_rows::<S, TILE_ROWS>(s, row);
            row += TILE_ROWS;
        }
        while row < rows {
            self.score_rows::<S, 1>(s, row);
            row += 1;
        }
    }

    #[inline(always)]
    fn score_rows<S: Simd, const R: usize>(&mut self, s: S, row: usize) {
        let dim = self.task.shape.head_dim;
        let q = &self.q[row * dim..(row + R) * dim];
        let scores = &mut self.scores[row..row + R];
        assert_eq!(self.keys.len(), dim * TILE);
        for j in (0..TILE).step_by(2 * S::LANES) {
            let mut sums = [[s.splat(0.0); 2]; R];
            for d in 0..dim {
                // SAFETY: `j + 2 * LANES <= TILE`, and `keys` has `dim` rows of TILE; `q` has
                // `R` rows of `dim`.
                unsafe {
                    let k = self.keys.as_ptr().add(d * TILE + j);
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
    }

    /// `sums = sums * factor + weights values` for `count` rows, values `[n, head_dim]`.
    #[inline(always)]
    fn gather<S: Simd>(
        &mut self,
        s: S,
        row: usize,
        count: usize,
        factors: &[f32; TILE_ROWS],
        values: &[f32],
    ) {
        let dim = self.task.shape.head_dim;
        let mut d = 0;
        while dim - d >= 2 * S::LANES {
            if count == TILE_ROWS {
                self.gather_rows::<S, TILE_ROWS, 2>(s, row, factors, values, d);
            } else {
                for r in 0..count {
                    self.gather_rows::<S, 1, 2>(s, row + r, &factors[r..], values, d);
                }
            }
            d += 2 * S::LANES;
        }
        if dim - d >= S::LANES {
            for r in 0..count {
                self.gather_rows::<S, 1, 1>(s, row + r, &factors[r..], values, d);
            }
            d += S::LANES;
        }
        for r in 0..count {
            for d in d..dim {
                let column = values.iter().skip(d).step_by(dim);
                let sum = &mut self.sums[(row + r) * dim + d];
                let weights = &self.scores[row + r];
                *sum = column
                    .zip(weights)
                    .fold(*sum * factors[r], |sum, (v, w)| sum + w * v);
            }
        }
    }

    /// The same for `R` rows and `C` vectors from `d`.
    #[inline(always)]
    fn gather_rows<S: Simd, const R: usize, const C: usize>(
        &mut self,
        s: S,
        row: usize,
        factors: &[f32],
        values: &[f32],
        d: usize,
    ) {
        let dim = self.task.shape.head_dim;
        assert!(d + C * S::LANES <= dim && factors.len() >= R);
        let weights = &self.scores[row..row + R];
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
}
