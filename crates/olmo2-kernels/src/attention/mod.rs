//! `softmax(q k^T * scale) v` over a KV cache, without a matrix of scores, of masks or of
//! repeated heads: keys are visited in tiles of `TILE` from the first visible one, with a
//! running maximum and sum in f32 (Milakov and Gimelshein 2018, "Online normalizer calculation
//! for softmax").
//!
//! One query (decoding) reads keys and values in place, once; several (prefill) are taken in
//! blocks, so that each tile is read once for a block. Within each of the two ways a query's
//! bits depend on nothing but its own keys: not on the threads, the block, the other sequences,
//! nor on how much padding lies before `first`.
#![allow(
    unsafe_code,
    reason = "vector loads and stores; threads write disjoint outputs"
)]

mod decode;
mod prefill;
#[cfg(test)]
mod tests;

use crate::buffer::SharedMut;
use crate::simd::Simd;
use crate::{level, pool};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Keys of a tile.
const TILE: usize = 64;
/// Rows (queries times the heads that share keys) of a block, about.
const BLOCK_ROWS: usize = 64;
/// Multiplications below which a second thread costs more than it saves.
const WORK_PER_THREAD: usize = 100_000;
/// The running maximum before the first key.
const LOWEST: f32 = f32::MIN;

/// The sizes that a layer's attention has for all sequences.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// Heads of queries; a multiple of `kv_heads`.
    pub heads: usize,
    /// Heads of keys and values; head `h` of the queries uses `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Positions that the cache has room for.
    pub capacity: usize,
    /// What scores are multiplied by, `1 / sqrt(head_dim)` in most models.
    pub scale: f32,
}

/// One sequence's queries with its cache, keys and values of these positions already in it.
#[derive(Clone, Copy, Debug)]
pub struct AttentionStep<'a> {
    /// `[queries, heads, head_dim]`, as the projection leaves them (after norm and rotation).
    pub q: &'a [f32],
    /// `[kv_heads, capacity, head_dim]`.
    pub k: &'a [f32],
    /// `[kv_heads, capacity, head_dim]`.
    pub v: &'a [f32],
    /// The cache's position of the first query: query `i` sees keys `first ..= offset + i`.
    pub offset: usize,
    /// The first visible position (behind left padding). A query before it sees nothing, and
    /// its output is zero.
    pub first: usize,
}

/// Attention of several sequences in one parallel region; `outputs[i]` is
/// `[queries_i, heads, head_dim]`, the layout that the output projection reads.
///
/// Positions beyond a query's own are read but have no influence as long as they are finite;
/// positions before `first` and beyond the last query's are not read.
///
/// # Panics
/// A size is 0, `heads` is not a multiple of `kv_heads`, or a length does not fit.
pub fn attend(shape: &AttentionShape, steps: &[AttentionStep<'_>], outputs: &mut [&mut [f32]]) {
    assert_eq!(steps.len(), outputs.len(), "not one output for each step");
    check_shape(shape);
    let mut tasks = Vec::new();
    let mut work = 0;
    for (step, out) in steps.iter().zip(outputs) {
        work += check_step(shape, step, out);
        push_tasks(shape, step, SharedMut::new(out), &mut tasks);
    }
    let level = level::level();
    let parts = pool::threads()
        .min(work.div_ceil(WORK_PER_THREAD).max(1))
        .min(tasks.len());
    let next = AtomicUsize::new(0);
    pool::run(parts, |_| {
        while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
            match task.queries.len() {
                1 if task.step.q.len() == shape.heads * shape.head_dim => decode::run(level, task),
                _ => prefill::run(level, task),
            }
        }
    });
}

/// Some queries of one sequence, for the heads that share one head of keys and values.
struct Task<'a> {
    shape: &'a AttentionShape,
    step: &'a AttentionStep<'a>,
    out: SharedMut<'a>,
    kv_head: usize,
    queries: std::ops::Range<usize>,
}

impl Task<'_> {
    /// Heads that share one head of keys and values.
    fn group(&self) -> usize {
        self.shape.heads / self.shape.kv_heads
    }

    /// Where row `row` of the task (`query * group + head of the group`) lies in `q` and out.
    fn place(&self, row: usize) -> usize {
        let (query, head) = (row / self.group(), row % self.group());
        let head = self.kv_head * self.group() + head;
        ((self.queries.start + query) * self.shape.heads + head) * self.shape.head_dim
    }

    /// The positions that row `row` sees end here.
    fn end(&self, row: usize) -> usize {
        self.step.offset + self.queries.start + row / self.group() + 1
    }

    /// This head's positions of keys or values.
    fn head<'a>(&self, cache: &'a [f32]) -> &'a [f32] {
        let len = self.shape.capacity * self.shape.head_dim;
        &cache[self.kv_head * len..][..len]
    }
}

/// Long tasks first, so that threads end together: late queries see more keys.
fn push_tasks<'a>(
    shape: &'a AttentionShape,
    step: &'a AttentionStep<'a>,
    out: SharedMut<'a>,
    tasks: &mut Vec<Task<'a>>,
) {
    let queries = step.q.len() / (shape.heads * shape.head_dim);
    let block = (BLOCK_ROWS * shape.kv_heads / shape.heads).max(1);
    for start in (0..queries).step_by(block).rev() {
        for kv_head in 0..shape.kv_heads {
            let queries = start..queries.min(start + block);
            tasks.push(Task {
                shape,
                step,
                out,
                kv_head,
                queries,
            });
        }
    }
}

fn check_shape(shape: &AttentionShape) {
    let &AttentionShape {
        heads,
        kv_heads,
        head_dim,
        ..
    } = shape;
    assert!(
        heads > 0 && kv_heads > 0 && head_dim > 0,
        "a size is 0 in {shape:?}"
    );
    assert_eq!(
        heads % kv_heads,
        0,
        "`heads` is not a multiple of `kv_heads`"
    );
}

/// Checks one step and returns its multiplications.
fn check_step(shape: &AttentionShape, step: &AttentionStep<'_>, out: &[f32]) -> usize {
    let row = shape.heads * shape.head_dim;
    assert_eq!(
        step.q.len() % row,
        0,
        "`q` is not a whole number of queries"
    );
    assert_eq!(
        step.q.len(),
        out.len(),
        "`q` and its output differ in length"
    );
    let cache = shape.kv_heads * shape.capacity * shape.head_dim;
    assert_eq!(
        step.k.len(),
        cache,
        "`k` is not [kv_heads, capacity, head_dim]"
    );
    assert_eq!(
        step.v.len(),
        cache,
        "`v` is not [kv_heads, capacity, head_dim]"
    );
    let end = step.offset + step.q.len() / row;
    assert!(
        end <= shape.capacity,
        "queries end at {end}, beyond {}",
        shape.capacity
    );
    2 * step.q.len() * (end.saturating_sub(step.first))
}

/// A row's running maximum and sum.
#[derive(Clone, Copy)]
struct Running {
    largest: f32,
    sum: f32,
}

impl Running {
    const START: Self = Self {
        largest: LOWEST,
        sum: 0.0,
    };

    /// Turns `visible` scores of a tile into weights, in place, with zeros behind them, and
    /// returns the factor for what was summed up before.
    #[inline(always)]
    fn weigh<S: Simd>(&mut self, s: S, scores: &mut [f32; TILE], visible: usize) -> f32 {
        scores[visible..].fill(LOWEST);
        let p = scores.as_mut_ptr();
        let mut largest = s.splat(self.largest);
        for i in (0..TILE).step_by(S::LANES) {
            // SAFETY: LANES divides TILE.
            largest = unsafe { s.max(largest, s.load(p.add(i))) };
        }
        let largest = s.largest(largest);
        let factor = s.largest(s.exp(s.splat(self.largest - largest)));
        for i in (0..TILE).step_by(S::LANES) {
            // SAFETY: LANES divides TILE.
            unsafe { s.store(p.add(i), s.exp(s.sub(s.load(p.add(i)), s.splat(largest)))) };
        }
        scores[visible..].fill(0.0);
        let mut sum = s.splat(0.0);
        let p = scores.as_ptr();
        for i in (0..TILE).step_by(S::LANES) {
            // SAFETY: LANES divides TILE.
            sum = unsafe { s.add(sum, s.load(p.add(i))) };
        }
        self.sum = self.sum * factor + s.sum(sum);
        self.largest = largest;
        factor
    }

    /// What the summed values are multiplied by in the end: 0 where nothing was visible.
    fn normaliser(self) -> f32 {
        if self.sum == 0.0 { 0.0 } else { 1.0 / self.sum }
    }
}
