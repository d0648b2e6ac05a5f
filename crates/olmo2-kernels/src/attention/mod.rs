//! `softmax(q k^T * scale) v` over a KV cache, without a matrix of scores, of masks or of repeated
//! heads: a kernel visits keys in tiles of `TILE` from the first one of the window, with a running
//! maximum and sum in f32.
//!
//! The cache is f32, bf16 or 8 bits ([`CacheRef`]). [`store`] writes it; the kernels widen it in
//! registers (one query) or a tile at a time (several queries).
//!
//! One query (decode) reads keys and values in place, once, in chunks of `CHUNK` positions whose
//! results are combined in their order. Several queries (prefill) are processed in blocks, so that
//! each tile is read once for a block. A query's bits depend on its own sequence alone: not on the
//! threads or the other sequences, nor, where the window hides nothing, on the block.
#![allow(
    unsafe_code,
    reason = "vector loads and stores; threads write disjoint outputs"
)]

mod cache;
mod decode;
mod element;
mod plan;
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
use plan::{Plan, Plans, partials_len};
use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Keys of a tile.
const TILE: usize = 64;
/// Positions of a single query that one thread takes. Constant, so that the order of sums is
/// constant too.
const CHUNK: usize = 1024;
/// Maximum number of rows (queries times the heads that share keys) of a block, unless one query
/// has more.
const BLOCK_ROWS: usize = 192;
/// Multiplications below which a second thread costs more than it saves.
const WORK_PER_THREAD: usize = 100_000;

thread_local! {
    static PARTIALS: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
}

/// The sizes of a layer's attention, the same for all sequences.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// Heads of queries; a multiple of `kv_heads`.
    pub heads: usize,
    /// Heads of keys and values; head `h` of the queries uses `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Positions for which the cache has room.
    pub capacity: usize,
    /// The factor of scores, `1 / sqrt(head_dim)` in most models.
    pub scale: f32,
}

/// One sequence's queries and its cache, which already holds their keys and values.
#[derive(Clone, Copy, Debug)]
pub struct AttentionStep<'a> {
    /// `[queries, heads, head_dim]`, as the projection leaves them (after norm and rotation).
    pub q: &'a [f32],
    /// Keys after norm and rotation.
    pub k: CacheRef<'a>,
    /// Values, in the same storage type as the keys.
    pub v: CacheRef<'a>,
    /// The cache's position of the first query. Query `i` sees the last `window` keys up to its own
    /// position, `offset + i`.
    pub offset: usize,
    /// Keys that a query sees at most, its own among them; [`NO_WINDOW`] for all.
    pub window: usize,
}

/// The window of full attention.
pub const NO_WINDOW: usize = usize::MAX;

impl AttentionStep<'_> {
    /// The first position that query `i` sees.
    fn first_key(&self, i: usize) -> usize {
        (self.offset + i + 1).saturating_sub(self.window)
    }
}

/// Attention of several sequences in one parallel region. Returns their outputs one after the
/// other, `[queries_i, heads, head_dim]` each, the layout that the output projection reads.
///
/// Positions beyond a query's own are read, but do not affect the result as long as they are
/// finite; positions before the first query's window and beyond the last query's are not read.
///
/// # Panics
/// A size or a window is 0, `heads` is not a multiple of `kv_heads`, a length does not fit, or keys and values
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
    // SAFETY: the tasks or `combine` write every element.
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

/// A part of one sequence's attention, for the heads that share one head of keys and values.
struct Task<'a> {
    plan: Plan<'a>,
    kv_head: usize,
    part: TaskRange,
}

enum TaskRange {
    /// Some queries, with all keys that they see.
    Queries(Range<usize>),
    /// The only query, with some keys. `partial` is the place of the result among the partial
    /// results; `None` if these are all keys.
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

    /// The offset of row `row` of the task (`query * group + head of the group`) in `q` and in the
    /// output.
    fn place(&self, row: usize) -> usize {
        let (query, head) = (row / self.group(), row % self.group());
        let head = self.kv_head * self.group() + head;
        let shape = self.plan.shape;
        ((self.first_query() + query) * shape.heads + head) * shape.head_dim
    }

    /// The end of the positions that row `row` sees.
    fn end(&self, row: usize) -> usize {
        self.plan.step.offset + self.first_query() + row / self.group() + 1
    }

    /// The first position that row `row` sees.
    fn first_key(&self, row: usize) -> usize {
        self.plan
            .step
            .first_key(self.first_query() + row / self.group())
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

/// Checks one step and returns its number of multiplications.
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
    assert!(step.window > 0, "the window is 0");
    2 * step.q.len() * (end - step.first_key(0))
}
