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

mod cache;
mod decode;
mod element;
mod prefill;
mod running;
mod store;
#[cfg(test)]
mod tests;

pub use cache::{CACHE_BLOCK, CacheMut, CacheRef, cache_blocks};
pub use store::store;

use crate::buffer::{Scratch, SharedMut, Unwritten, with_scratch};
use crate::level::{self, Level};
use crate::pool;
use element::{CacheElement, CacheRows};
use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Keys of a tile.
const TILE: usize = 64;
/// Positions that one thread takes of a single query. Fixed, so that the order of sums is too.
const CHUNK: usize = 1024;
/// CacheRows (queries times the heads that share keys) of a block, at most where that is possible.
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

/// Attention of several sequences in one parallel region. Returns their outputs one after the other,
/// `[queries_i, heads, head_dim]` each, the layout that the output projection reads.
///
/// Positions beyond a query's own are read, but do not affect the result as long as they are finite;
/// positions before `first` and beyond the last query's are not read.
///
/// # Panics
/// A size is 0, `heads` is not a multiple of `kv_heads`, a length does not fit, or keys and values
/// are stored differently.
pub fn attend(shape: &AttentionShape, steps: &[AttentionStep<'_>]) -> Vec<f32> {
    check_shape(shape);
    let work = steps.iter().map(|step| check_step(shape, step)).sum();
    let mut out = Unwritten::new(steps.iter().map(|step| step.q.len()).sum());
    let len = steps.iter().map(|step| partials_len(shape, step)).sum();
    with_scratch(&PARTIALS, len, |partials| {
        let plans = Plans {
            shape,
            steps,
            out: out.shared(),
            partials: SharedMut::new(partials),
        };
        run(&plans, work);
        plans.iter().for_each(Plan::combine);
    });
    // SAFETY: the tasks write every element, or `combine` does.
    unsafe { out.written() }
}

/// Runs all tasks; each goes to the thread that is free first.
fn run(plans: &Plans<'_>, work: usize) {
    let level = level::level();
    let tasks = plans.iter().map(|plan| plan.tasks()).sum();
    let parts = pool::threads()
        .min(work.div_ceil(WORK_PER_THREAD).max(1))
        .min(tasks);
    let next = AtomicUsize::new(0);
    pool::run(parts, |_| {
        while let Some(task) = plans.task(next.fetch_add(1, Ordering::Relaxed)) {
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

/// The steps of a call with the memory for their results.
struct Plans<'a> {
    shape: &'a AttentionShape,
    steps: &'a [AttentionStep<'a>],
    out: SharedMut<'a>,
    partials: SharedMut<'a>,
}

impl<'a> Plans<'a> {
    fn iter(&self) -> impl Iterator<Item = Plan<'a>> {
        let &Self {
            shape,
            out,
            partials,
            ..
        } = self;
        self.steps.iter().scan((0, 0), move |(at, partial), step| {
            let (len, partials_len) = (step.q.len(), partials_len(shape, step));
            let plan = Plan {
                shape,
                step,
                out: out.part(*at, len),
                partials: partials.part(*partial, partials_len),
            };
            (*at, *partial) = (*at + len, *partial + partials_len);
            Some(plan)
        })
    }

    /// The `index`-th task of all steps. Found anew for each index, so that a decoded token needs no
    /// list of tasks.
    fn task(&self, mut index: usize) -> Option<Task<'a>> {
        for plan in self.iter() {
            let count = plan.tasks();
            if index < count {
                return Some(plan.task(index));
            }
            index -= count;
        }
        None
    }
}

/// A step with the memory for its results.
#[derive(Clone, Copy)]
struct Plan<'a> {
    shape: &'a AttentionShape,
    step: &'a AttentionStep<'a>,
    out: SharedMut<'a>,
    partials: SharedMut<'a>,
}

impl<'a> Plan<'a> {
    fn queries(&self) -> usize {
        self.step.q.len() / (self.shape.heads * self.shape.head_dim)
    }

    /// Heads that share one head of keys and values.
    fn group(&self) -> usize {
        self.shape.heads / self.shape.kv_heads
    }

    /// Queries of a task where there are several.
    fn block(&self) -> usize {
        (BLOCK_ROWS * self.shape.kv_heads / self.shape.heads).max(1)
    }

    /// The number of tasks.
    fn tasks(&self) -> usize {
        match self.queries() {
            1 => self.shape.kv_heads * chunks(self.shape, self.step),
            queries => self.shape.kv_heads * queries.div_ceil(self.block()),
        }
    }

    /// The `index`-th task. Long tasks come first, so that threads end together: late queries see
    /// more keys.
    fn task(self, index: usize) -> Task<'a> {
        match self.queries() {
            1 => self.task_of_keys(index),
            queries => self.task_of_queries(index, queries),
        }
    }

    /// `index` is `kv_head * chunks + chunk`.
    fn task_of_keys(self, index: usize) -> Task<'a> {
        let chunks = chunks(self.shape, self.step);
        let end = self.step.offset + 1;
        let start = (self.step.first + index % chunks * CHUNK).min(end);
        let at = index * self.group() * (self.shape.head_dim + 2);
        let partial = (chunks > 1).then_some(at);
        let keys = start..end.min(start + CHUNK);
        Task {
            plan: self,
            kv_head: index / chunks,
            part: TaskRange::Keys { keys, partial },
        }
    }

    /// `index` is `block * kv_heads + kv_head`, with blocks from the last on.
    fn task_of_queries(self, index: usize, queries: usize) -> Task<'a> {
        let (kv_heads, block) = (self.shape.kv_heads, self.block());
        let start = (queries.div_ceil(block) - 1 - index / kv_heads) * block;
        let queries = start..queries.min(start + block);
        Task {
            plan: self,
            kv_head: index % kv_heads,
            part: TaskRange::Queries(queries),
        }
    }

    /// Combines the results of the chunks of keys, if there are several.
    fn combine(self) {
        let dim = self.shape.head_dim;
        let per_head = self.partials.len() / self.shape.kv_heads;
        if per_head == 0 {
            return;
        }
        for head in 0..self.shape.heads {
            let (kv_head, row) = (head / self.group(), head % self.group());
            let first = kv_head * per_head + row * (dim + 2);
            let len = (kv_head + 1) * per_head - first;
            let partials = self.partials.at(first, len);
            let out = self.out.at(head * dim, dim);
            // SAFETY: all tasks have ended, and wrote all partial results; nobody else has the
            // output, which is zeroed before it becomes a slice.
            let (partials, out) = unsafe {
                out.write_bytes(0, dim);
                (
                    std::slice::from_raw_parts(partials, len),
                    std::slice::from_raw_parts_mut(out, dim),
                )
            };
            decode::combine(partials, self.group() * (dim + 2), out);
        }
    }
}

/// A part of one sequence's attention, for the heads that share one head of keys and values.
struct Task<'a> {
    plan: Plan<'a>,
    kv_head: usize,
    part: TaskRange,
}

enum TaskRange {
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

    fn run_on<E: CacheElement>(&self, level: Level, cache: [(&'a [E], &'a [half::bf16]); 2]) {
        let shape = self.plan.shape;
        let rows = cache.map(|(elements, scales)| {
            let head = CacheRows {
                elements,
                scales,
                dim: shape.head_dim,
            };
            head.slice(self.kv_head * shape.capacity..(self.kv_head + 1) * shape.capacity)
        });
        match &self.part {
            TaskRange::Queries(queries) => prefill::run(level, self, queries.len(), rows),
            TaskRange::Keys { keys, partial } => {
                decode::run(level, self, keys.clone(), *partial, rows)
            }
        }
    }

    fn group(&self) -> usize {
        self.plan.group()
    }

    fn first_query(&self) -> usize {
        match &self.part {
            TaskRange::Queries(queries) => queries.start,
            TaskRange::Keys { .. } => 0,
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
fn check_step(shape: &AttentionShape, step: &AttentionStep<'_>) -> usize {
    let row = shape.heads * shape.head_dim;
    assert_eq!(
        step.q.len() % row,
        0,
        "`q` is not a whole number of queries"
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
