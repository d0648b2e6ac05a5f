//! The one rule by which a prompt is cut into chunks.

use std::ops::Range;

use burn::prelude::*;

use crate::cache::KvCache;
use crate::config::Olmo2Config;
use crate::forward::{ForwardInput, ForwardOutput, InputError, LogitRows};
use crate::model::Olmo2;

/// Tokens of a prompt that go through the model at once: enough to use the machine, few enough
/// that the scores of attention stay small.
pub const PREFILL_CHUNK: usize = 512;

/// How a sequence goes through the model, and what each pass returns.
#[derive(Debug, Clone, Copy)]
pub struct Chunks<F> {
    /// Tokens of a pass at most.
    pub len: usize,
    /// Whether passes also return hidden states.
    pub hidden_states: bool,
    /// The rows of logits that a pass returns, given its positions in the sequence.
    pub rows: F,
}

impl<F: Fn(Range<usize>) -> LogitRows> Chunks<F> {
    /// Chunks of [`PREFILL_CHUNK`] tokens without hidden states.
    pub fn new(rows: F) -> Self {
        Self {
            len: PREFILL_CHUNK,
            hidden_states: false,
            rows,
        }
    }
}

/// Tokens of a pass at most for a prompt of `prompt` tokens: dynamic rope rotates a prompt for its
/// full length, so there it is one pass.
fn chunk_len(config: &Olmo2Config, prompt: usize, chunk: usize) -> usize {
    match config.rope.is_dynamic() {
        true => prompt.max(1),
        false => chunk.max(1),
    }
}

/// Runs `ids` after what slot 0 of `cache` holds, chunk by chunk, and hands each pass's positions
/// among `ids` and output to `each`, in order.
///
/// # Errors
/// Ids that do not fit the model or the cache, and the errors of `each`.
pub fn prefill<B: Backend, E: From<InputError>>(
    model: &Olmo2<B>,
    cache: &mut KvCache<B>,
    ids: &[u32],
    chunks: &Chunks<impl Fn(Range<usize>) -> LogitRows>,
    mut each: impl FnMut(Range<usize>, ForwardOutput<B>) -> Result<(), E>,
) -> Result<(), E> {
    let chunk = chunk_len(model.config(), ids.len(), chunks.len);
    let mut start = 0;
    loop {
        let range = start..ids.len().min(start + chunk);
        let mut input = ForwardInput::ids(&ids[range.clone()])
            .with_cache(cache)
            .logits((chunks.rows)(range.clone()));
        if chunks.hidden_states {
            input = input.hidden_states();
        }
        let output = model.forward(input)?;
        start = range.end;
        each(range, output)?;
        if start == ids.len() {
            return Ok(());
        }
    }
}
