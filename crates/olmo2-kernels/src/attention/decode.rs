//! One query: keys and values are read in place, in chunks that go to several threads. Lanes run
//! along `head_dim`.
//!
//! While a tile's keys are read, its values are prefetched; while its values are read, the next
//! tile's keys are. Both streams are interrupted at every tile, which the CPU's own prefetcher
//! cannot predict.

use super::cache::{CACHE_BLOCK, cache_blocks};
use super::element::{CacheElement, CacheRows, load_part};
use super::running::Running;
use super::{TILE, Task};
use crate::buffer::{Scratch, with_scratch};
use crate::level::Level;
use crate::simd::{Kernel, Simd, dispatch};
use std::cell::RefCell;
use std::ops::Range;

/// Up to this many heads with the same keys, the running sums need no allocation.
const GROUP: usize = 16;

thread_local! {
    static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
}

/// Attends over the positions `visible`. If the query sees only these, this writes the output;
/// otherwise it writes `partial`, for [`combine`].
pub(super) fn run<E: CacheElement>(
    level: Level,
    task: &Task<'_>,
    visible: Range<usize>,
    partial: Option<usize>,
    [keys, values]: [CacheRows<'_, E>; 2],
) {
    let len = task.plan.shape.head_dim * task.group();
    let scales = match E::SCALED {
        true => TILE * cache_blocks(task.plan.shape.head_dim),
        false => 0,
    };
    with_scratch(&SCRATCH, 2 * len + 2 * scales, |scratch| {
        let (q, rest) = scratch.split_at_mut(len);
        let (sums, scales) = rest.split_at_mut(len);
        for row in 0..task.group() {
            let from = &task.plan.step.q[task.place(row)..][..task.plan.shape.head_dim];
            let to = &mut q[row * task.plan.shape.head_dim..][..task.plan.shape.head_dim];
            to.iter_mut()
                .zip(from)
                .for_each(|(to, x)| *to = x * task.plan.shape.scale);
        }
        sums.fill(0.0);
        let decode = Decode {
            task,
            visible,
            partial,
            keys,
            values,
            q,
            sums,
            scales,
        };
        dispatch(level, decode);
    });
}

/// `q` (already scaled) and `sums` are `[group, head_dim]`; `scales` has room for those of a tile
/// of keys and of a tile of values.
struct Decode<'a, E> {
    task: &'a Task<'a>,
    visible: Range<usize>,
    partial: Option<usize>,
    keys: CacheRows<'a, E>,
    values: CacheRows<'a, E>,
    q: &'a [f32],
    sums: &'a mut [f32],
    scales: &'a mut [f32],
}

impl<E: CacheElement> Kernel for Decode<'_, E> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (dim, group) = (self.task.plan.shape.head_dim, self.task.group());
        let mut few = [Running::START; GROUP];
        let mut many = vec![Running::START; if group > GROUP { group } else { 0 }];
        let running = if group > GROUP {
            &mut many
        } else {
            &mut few[..group]
        };
        let (key_scales, value_scales) = self.scales.split_at_mut(self.scales.len() / 2);
        let Range { start, end } = self.visible;
        for start in (start..end).step_by(TILE) {
            let tile = start..end.min(start + TILE);
            let (keys, values) = (
                self.keys.slice(tile.clone()),
                self.values.slice(tile.clone()),
            );
            keys.widen_scales(s, key_scales);
            values.widen_scales(s, value_scales);
            let (keys, values) = (
                CacheTile::new(keys, key_scales),
                CacheTile::new(values, value_scales),
            );
            let next = if tile.end < end { tile.end } else { start };
            let next = self.keys.elements[next * dim..].as_ptr();
            for row in 0..group {
                let mut scores = [0.0; TILE];
                let range = row * dim..(row + 1) * dim;
                let ahead = (row == 0).then_some(values.rows.elements.as_ptr());
                keys.score(s, &self.q[range.clone()], ahead, &mut scores);
                let factor = running[row].weigh(s, &mut scores, 0..keys.rows.len());
                let ahead = (row == 0).then_some(next);
                values.gather(s, &scores, factor, ahead, &mut self.sums[range]);
            }
        }
        let whole = Whole {
            running,
            sums: self.sums,
        };
        match self.partial {
            Some(at) => whole.set_aside(self.task, at),
            None => whole.write_outputs(self.task),
        }
    }
}

/// The state after all keys of a task: `[group]` and `[group, head_dim]`.
struct Whole<'a> {
    running: &'a [Running],
    sums: &'a [f32],
}

impl Whole<'_> {
    #[inline(always)]
    fn write_outputs(&self, task: &Task<'_>) {
        let dim = task.plan.shape.head_dim;
        for (row, sums) in self.sums.chunks_exact(dim).enumerate() {
            let factor = self.running[row].normalizer();
            let to = task.plan.out.at(task.place(row), dim);
            for (d, sum) in sums.iter().enumerate() {
                // SAFETY: inside the `dim` elements at `to`, which belong to this task alone.
                unsafe { *to.add(d) = sum * factor };
            }
        }
    }

    /// Writes each row's maximum, sum and summed values.
    #[inline(always)]
    fn set_aside(&self, task: &Task<'_>, at: usize) {
        let dim = task.plan.shape.head_dim;
        for (row, sums) in self.sums.chunks_exact(dim).enumerate() {
            let Running { max, sum } = self.running[row];
            let to = task.plan.partials.at(at + row * (dim + 2), dim + 2);
            // SAFETY: `dim + 2` elements, which belong to this task alone.
            unsafe {
                *to = max;
                *to.add(1) = sum;
                std::ptr::copy_nonoverlapping(sums.as_ptr(), to.add(2), dim);
            }
        }
    }
}

/// Combines a row's partial results in the order of their keys. Each is a maximum, a sum and
/// `out.len()` summed values; they lie `stride` apart. `out` starts as zeros.
pub(super) fn combine(partials: &[f32], stride: usize, out: &mut [f32]) {
    let len = out.len() + 2;
    let parts = || partials.chunks(stride).map(|part| &part[..len]);
    let max = parts().fold(f32::MIN, |max, part| max.max(part[0]));
    let mut total = 0.0;
    for part in parts() {
        let factor = (part[0] - max).exp();
        total += factor * part[1];
        let pairs = out.iter_mut().zip(&part[2..]);
        pairs.for_each(|(out, sum)| *out += factor * sum);
    }
    // As with one chunk: zeros if no key is visible.
    let factor = if total == 0.0 { 0.0 } else { 1.0 / total };
    out.iter_mut().for_each(|out| *out *= factor);
}

/// Up to [`TILE`] keys or values, with their scales in f32.
struct CacheTile<'a, E> {
    rows: CacheRows<'a, E>,
    scales: &'a [f32],
    blocks: usize,
}

impl<'a, E: CacheElement> CacheTile<'a, E> {
    #[inline(always)]
    fn new(rows: CacheRows<'a, E>, scales: &'a [f32]) -> Self {
        let blocks = cache_blocks(rows.dim);
        assert!(rows.len() <= TILE && (!E::SCALED || scales.len() >= rows.len() * blocks));
        Self {
            rows,
            scales,
            blocks,
        }
    }

    /// Prefetches the rows at the same offset from `ahead` as row `row` has from the tile's start.
    #[inline(always)]
    fn prefetch<S: Simd>(&self, s: S, ahead: Option<*const E>, row: usize, rows: usize) {
        if let Some(ahead) = ahead {
            let bytes = self.rows.dim * size_of::<E>();
            for line in (0..rows * bytes).step_by(64) {
                s.prefetch(ahead.cast::<u8>().wrapping_add(row * bytes + line));
            }
        }
    }

    /// The scores of one query with each key.
    #[inline(always)]
    fn score<S: Simd>(&self, s: S, q: &[f32], ahead: Option<*const E>, scores: &mut [f32; TILE]) {
        let count = self.rows.len();
        let mut j = 0;
        while count - j >= 4 {
            self.prefetch(s, ahead, j, 4);
            self.dots::<S, 4>(s, q, j, scores);
            j += 4;
        }
        while j < count {
            self.prefetch(s, ahead, j, 1);
            self.dots::<S, 1>(s, q, j, scores);
            j += 1;
        }
    }

    /// The scores with `N` keys from `from`. Two partial sums each keep the chains of additions
    /// short and the units busy.
    #[inline(always)]
    fn dots<S: Simd, const N: usize>(&self, s: S, q: &[f32], from: usize, scores: &mut [f32]) {
        let dim = self.rows.dim;
        assert!(q.len() == dim && from + N <= self.rows.len());
        let mut sums = [[s.splat(0.0); 2]; N];
        for d in (0..dim).step_by(CACHE_BLOCK) {
            let count = (dim - d).min(CACHE_BLOCK);
            let mut part = match E::SCALED {
                true => [[s.splat(0.0); 2]; N],
                false => sums,
            };
            // SAFETY: `q` and each of the `N` keys have `count` elements from `d`.
            unsafe {
                let (q, k) = (
                    q.as_ptr().add(d),
                    self.rows.elements.as_ptr().add(from * dim + d),
                );
                if count == CACHE_BLOCK {
                    for i in 0..CACHE_BLOCK / S::LANES {
                        let x = s.load(q.add(i * S::LANES));
                        for n in 0..N {
                            let k = E::load(s, k.add(n * dim + i * S::LANES));
                            part[n][i % 2] = s.fma(x, k, part[n][i % 2]);
                        }
                    }
                } else {
                    for i in (0..count).step_by(S::LANES) {
                        let x = load_part(s, q.add(i), count - i);
                        for n in 0..N {
                            let k = load_part(s, k.add(n * dim + i), count - i);
                            part[n][0] = s.fma(x, k, part[n][0]);
                        }
                    }
                }
            }
            if E::SCALED {
                for n in 0..N {
                    let scale = s.splat(self.scales[(from + n) * self.blocks + d / CACHE_BLOCK]);
                    sums[n][0] = s.fma(s.add(part[n][0], part[n][1]), scale, sums[n][0]);
                }
            } else {
                sums = part;
            }
        }
        for n in 0..N {
            scores[from + n] = s.sum(s.add(sums[n][0], sums[n][1]));
        }
    }

    /// `sums = sums * factor + weights values`.
    #[inline(always)]
    fn gather<S: Simd>(
        &self,
        s: S,
        weights: &[f32; TILE],
        factor: f32,
        ahead: Option<*const E>,
        sums: &mut [f32],
    ) {
        let dim = self.rows.dim;
        let mut d = 0;
        // The first columns visit all rows, so they can prefetch the next tile.
        let mut ahead = ahead;
        macro_rules! columns {
            ($($count:literal)*) => { $(
                while dim - d >= $count * S::LANES {
                    self.columns::<S, $count>(s, weights, factor, ahead.take(), sums, d);
                    d += $count * S::LANES;
                }
            )* };
        }
        columns!(8 4 2 1);
        for d in d..dim {
            let mut sum = sums[d] * factor;
            for (j, weight) in weights[..self.rows.len()].iter().enumerate() {
                let scale = match E::SCALED {
                    true => self.scales[j * self.blocks + d / CACHE_BLOCK],
                    false => 1.0,
                };
                sum += weight * (self.rows.elements[j * dim + d].to_f32() * scale);
            }
            sums[d] = sum;
        }
    }

    /// As [`gather`](Self::gather) for `C` vectors from `d`, a multiple of `C * LANES`.
    #[inline(always)]
    fn columns<S: Simd, const C: usize>(
        &self,
        s: S,
        weights: &[f32; TILE],
        factor: f32,
        ahead: Option<*const E>,
        sums: &mut [f32],
        d: usize,
    ) {
        let dim = self.rows.dim;
        assert!(d + C * S::LANES <= dim && sums.len() == dim);
        let (to, from) = (sums.as_mut_ptr(), self.rows.elements.as_ptr());
        let mut acc = [s.splat(0.0); C];
        // SAFETY: the columns lie inside `sums` and inside each row, and each row has `blocks`
        // scales, if it has any.
        unsafe {
            for c in 0..C {
                acc[c] = s.mul(s.load(to.add(d + c * S::LANES)), s.splat(factor));
            }
            for (j, &weight) in weights[..self.rows.len()].iter().enumerate() {
                self.prefetch(s, ahead, j, 1);
                let w = s.splat(weight);
                for c in 0..C {
                    let v = E::load(s, from.add(j * dim + d + c * S::LANES));
                    let w = match E::SCALED {
                        true => {
                            let block = d / CACHE_BLOCK + c * S::LANES / CACHE_BLOCK;
                            let scale = *self.scales.as_ptr().add(j * self.blocks + block);
                            s.mul(w, s.splat(scale))
                        }
                        false => w,
                    };
                    acc[c] = s.fma(w, v, acc[c]);
                }
            }
            for c in 0..C {
                s.store(to.add(d + c * S::LANES), acc[c]);
            }
        }
    }
}
