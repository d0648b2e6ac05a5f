//! How the attention of several sequences is split into tasks, without a list of them.

use super::{AttentionShape, AttentionStep, BLOCK_ROWS, CHUNK, Task, TaskRange, decode};
use crate::buffer::SharedMut;

/// Chunks of a single query's keys; 1 for several queries, which are split otherwise.
fn chunks(shape: &AttentionShape, step: &AttentionStep<'_>) -> usize {
    match step.q.len() / (shape.heads * shape.head_dim) {
        1 => (step.offset + 1 - step.first_key(0)).div_ceil(CHUNK),
        _ => 1,
    }
}

/// Room for the results of chunks: `[kv_heads, chunks, group, 2 + head_dim]`.
pub(super) fn partials_len(shape: &AttentionShape, step: &AttentionStep<'_>) -> usize {
    match chunks(shape, step) {
        1 => 0,
        chunks => shape.heads * chunks * (shape.head_dim + 2),
    }
}

/// The steps of a call with the memory for their results.
pub(super) struct Plans<'a> {
    pub(super) shape: &'a AttentionShape,
    pub(super) steps: &'a [AttentionStep<'a>],
    pub(super) out: SharedMut<'a>,
    pub(super) partials: SharedMut<'a>,
}

impl<'a> Plans<'a> {
    pub(super) fn iter(&self) -> impl Iterator<Item = Plan<'a>> {
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

    /// The `index`-th task of all steps. Computed for each index, so that a decoded token needs no
    /// list of tasks.
    pub(super) fn task(&self, mut index: usize) -> Option<Task<'a>> {
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
pub(super) struct Plan<'a> {
    pub(super) shape: &'a AttentionShape,
    pub(super) step: &'a AttentionStep<'a>,
    pub(super) out: SharedMut<'a>,
    pub(super) partials: SharedMut<'a>,
}

impl<'a> Plan<'a> {
    fn queries(&self) -> usize {
        self.step.q.len() / (self.shape.heads * self.shape.head_dim)
    }

    /// Heads that share one head of keys and values.
    pub(super) fn group(&self) -> usize {
        self.shape.heads / self.shape.kv_heads
    }

    /// Queries of a task, if a step has several.
    fn block(&self) -> usize {
        (BLOCK_ROWS * self.shape.kv_heads / self.shape.heads).max(1)
    }

    /// The number of tasks.
    pub(super) fn tasks(&self) -> usize {
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
        let start = self.step.first_key(0) + index % chunks * CHUNK;
        let at = index * self.group() * (self.shape.head_dim + 2);
        let partial = (chunks > 1).then_some(at);
        let keys = start..end.min(start + CHUNK);
        Task {
            plan: self,
            kv_head: index / chunks,
            part: TaskRange::Keys { keys, partial },
        }
    }

    /// `index` is `block * kv_heads + kv_head`; blocks count from the last one.
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
    pub(super) fn combine(self) {
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
            // SAFETY: all tasks have ended and have written all partial results. No thread uses the
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
