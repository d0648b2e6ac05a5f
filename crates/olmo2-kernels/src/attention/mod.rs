//! `softmax(q k^T * scale) v` over a KV cache, without a matrix of scores, of masks or of
//! repeated heads: keys are visited in tiles of `TILE` from the first visible one, with a
//! running maximum and sum in f32.
//!
//! The cache is f32, bf16 or 8 bits ([`CacheRef`]); [`store`] writes it, and what is read is
//! widened in registers (for one query) or a tile at a time (for several).
//!
//! One query (decoding) reads keys and values in place, once, in chunks of `CHUNK` positions
//! whose results are put together in their order; several (prefill) are taken in blocks, so that
//! each tile is read once for a block. Within each of the two ways a query's bits depend on
//! nothing but its own keys: not on the threads, the block, the other sequences, nor on how much
//! padding lies before `first`.
#![allow(
    unsafe_code,
    reason = "vector loads and stores; threads write disjoint outputs"
)]

mod decode;
mod element;
mod held;
mod prefill;
mod running;
mod store;
#[cfg(test)]
mod tests;

pub use held::{CACHE_BLOCK, CacheMut, CacheRef, cache_blocks};
pub use store::store;

use crate::buffer::{Scratch, SharedMut, with_scratch};
use crate::level::{self, Level};
use crate::pool;
use element::{Element, Rows};
use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Keys of a tile.
const TILE: usize = 64;
/// Positions that one thread takes of a single query. Fixed, so that the order of sums is too.
const CHUNK: usize = 1024;
/// Rows (queries times the heads that share keys) of a block, at most where that is possible.
const BLOCK_ROWS: usize = 192;
/// Multiplications below which a second thread costs more than it saves.
const WORK_PER_THREAD: usize = 100_000;

thread_local! {
    static PARTIALS: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
}

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
    /// Keys, after norm and rotation.
    pub k: CacheRef<'a>,
    /// Values, stored as the keys are.
    pub v: CacheRef<'a>,
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
/// A size is 0, `heads` is not a multiple of `kv_heads`, a length does not fit, or keys and values
/// are stored differently.
pub fn attend(shape: &AttentionShape, steps: &[AttentionStep<'_>], outputs: &mut [&mut [f32]]) {
    assert_eq!(steps.len(), outputs.len(), "not one output for each step");
    check_shape(shape);
    let work = steps.iter().zip(&mut *outputs);
    let work: usize = work.map(|(step, out)| check_step(shape, step, out)).sum();
    let len = steps.iter().map(|step| partials_len(shape, step)).sum();
    with_scratch(&PARTIALS, len, |partials| {
        let (mut tasks, mut at) = (Vec::new(), 0);
        let shared = SharedMut::new(partials);
        for (step, out) in steps.iter().zip(&mut *outputs) {
            let plan = Plan {
                shape,
                step,
                out: SharedMut::new(out),
                partials: shared,
            };
            plan.push_tasks(at, &mut tasks);
            at += partials_len(shape, step);
        }
        run(&tasks, work);
        drop(tasks);
        let mut partials = &*partials;
        for (step, out) in steps.iter().zip(outputs) {
            let (own, rest) = partials.split_at(partials_len(shape, step));
            combine(shape, own, out);
            partials = rest;
        }
    });
}

/// Does all tasks, each on the thread that is free first.
fn run(tasks: &[Task<'_>], work: usize) {
    let level = level::level();
    let parts = pool::threads()
        .min(work.div_ceil(WORK_PER_THREAD).max(1))
        .min(tasks.len());
    let next = AtomicUsize::new(0);
    pool::run(parts, |_| {
        while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
            task.run(level);
        }
    });
}

/// Chunks of a single query's keys; 1 for several queries, which are parted otherwise.
fn chunks(shape: &AttentionShape, step: &AttentionStep<'_>) -> usize {
    match step.q.len() / (shape.heads * shape.head_dim) {
        1 => (step.offset + 1)
            .saturating_sub(step.first)
            .div_ceil(CHUNK)
            .max(1),
        _ => 1,
    }
}

/// Room for the results of chunks: `[kv_heads, chunks, group, 2 + head_dim]`.
fn partials_len(shape: &AttentionShape, step: &AttentionStep<'_>) -> usize {
    match chunks(shape, step) {
        1 => 0,
        chunks => shape.heads * chunks * (shape.head_dim + 2),
    }
}

/// Puts the results of a step's chunks together.
fn combine(shape: &AttentionShape, partials: &[f32], out: &mut [f32]) {
    if partials.is_empty() {
        return;
    }
    let group = shape.heads / shape.kv_heads;
    let row = shape.head_dim + 2;
    let heads = partials.chunks_exact(partials.len() / shape.kv_heads);
    for (partials, out) in heads.zip(out.chunks_exact_mut(group * shape.head_dim)) {
        for (i, out) in out.chunks_exact_mut(shape.head_dim).enumerate() {
            decode::combine(&partials[i * row..], group * row, out);
        }
    }
}

/// A step with where its results go.
#[derive(Clone, Copy)]
struct Plan<'a> {
    shape: &'a AttentionShape,
    step: &'a AttentionStep<'a>,
    out: SharedMut<'a>,
    partials: SharedMut<'a>,
}

impl<'a> Plan<'a> {
    /// Long tasks first, so that threads end together: late queries see more keys.
    fn push_tasks(self, mut at: usize, tasks: &mut Vec<Task<'a>>) {
        let Self { shape, step, .. } = self;
        let task = |kv_head, part| Task {
            plan: self,
            kv_head,
            part,
        };
        let queries = step.q.len() / (shape.heads * shape.head_dim);
        let chunks = chunks(shape, step);
        if queries == 1 {
            let end = step.offset + 1;
            for kv_head in 0..shape.kv_heads {
                for chunk in 0..chunks {
                    let start = (step.first + chunk * CHUNK).min(end);
                    let keys = start..end.min(start + CHUNK);
                    let partial = (chunks > 1).then_some(at);
                    tasks.push(task(kv_head, Part::Keys { keys, partial }));
                    at += shape.heads / shape.kv_heads * (shape.head_dim + 2);
                }
            }
            return;
        }
        let block = (BLOCK_ROWS * shape.kv_heads / shape.heads).max(1);
        for start in (0..queries).step_by(block).rev() {
            for kv_head in 0..shape.kv_heads {
                let queries = start..queries.min(start + block);
                tasks.push(task(kv_head, Part::Queries(queries)));
            }
        }
    }
}

/// A part of one sequence's attention, for the heads that share one head of keys and values.
struct Task<'a> {
    plan: Plan<'a>,
    kv_head: usize,
    part: Part,
}

enum Part {
    /// Some queries with all keys that they see.
    Queries(Range<usize>),
    /// The only query with some keys, and where in the partial results the outcome goes; nowhere
    /// where these are all keys.
    Keys {
        keys: Range<usize>,
        partial: Option<usize>,
    },
}

impl<'a> Task<'a> {
    fn run(&self, level: Level) {
        match (self.plan.step.k, self.plan.step.v) {
            (CacheRef::F32(k), CacheRef::F32(v)) => {
                self.run_on(level, [(k, &[][..]), (v, &[][..])]);
            }
            (CacheRef::Bf16(k), CacheRef::Bf16(v)) => {
                self.run_on(level, [(k, &[][..]), (v, &[][..])]);
            }
            (
                CacheRef::Q8 { quants: k, scales },
                CacheRef::Q8 {
                    quants: v,
                    scales: v_scales,
                },
            ) => self.run_on(level, [(k, scales), (v, v_scales)]),
            _ => unreachable!("keys and values were found to be stored alike"),
        }
    }

    fn run_on<E: Element>(&self, level: Level, cache: [(&'a [E], &'a [half::bf16]); 2]) {
        let shape = self.plan.shape;
        let rows = cache.map(|(elements, scales)| {
            let head = Rows {
                elements,
                scales,
                dim: shape.head_dim,
            };
            head.slice(self.kv_head * shape.capacity..(self.kv_head + 1) * shape.capacity)
        });
        match &self.part {
            Part::Queries(queries) => prefill::run(level, self, queries.len(), rows),
            Part::Keys { keys, partial } => decode::run(level, self, keys.clone(), *partial, rows),
        }
    }

    /// Heads that share one head of keys and values.
    fn group(&self) -> usize {
        self.plan.shape.heads / self.plan.shape.kv_heads
    }

    fn first_query(&self) -> usize {
        match &self.part {
            Part::Queries(queries) => queries.start,
            Part::Keys { .. } => 0,
        }
    }

    /// Where row `row` of the task (`query * group + head of the group`) lies in `q` and out.
    fn place(&self, row: usize) -> usize {
        let (query, head) = (row / self.group(), row % self.group());
        let head = self.kv_head * self.group() + head;
        let shape = self.plan.shape;
        ((self.first_query() + query) * shape.heads + head) * shape.head_dim
    }

    /// The positions that row `row` sees end here.
    fn end(&self, row: usize) -> usize {
        self.plan.step.offset + self.first_query() + row / self.group() + 1
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
    step.k.check("k", shape);
    step.v.check("v", shape);
    assert!(
        step.k.is_alike(&step.v),
        "`k` and `v` are stored differently"
    );
    let end = step.offset + step.q.len() / row;
    assert!(
        end <= shape.capacity,
        "queries end at {end}, beyond {}",
        shape.capacity
    );
    2 * step.q.len() * (end.saturating_sub(step.first))
}
