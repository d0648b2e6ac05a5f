//! Long inputs through the model in pieces, so that the logits of one piece are all that is held.

use std::ops::Range;

use anyhow::Result;
use burn::prelude::*;
use olmo2::{ForwardInput, ForwardOutput, KvCache, LogitRows, Olmo2};

/// What each pass returns.
pub(crate) struct Wanted<F> {
    /// Tokens of a pass.
    pub(crate) chunk: usize,
    /// Also the hidden states.
    pub(crate) hidden: bool,
    /// The rows of logits, given the positions of the pass.
    pub(crate) rows: F,
}

/// Runs `ids` from an empty `cache`, and hands each pass's output to `each`, in order.
///
/// Dynamic RoPE rotates a sequence for its full length, so there it is one pass.
///
/// # Errors
/// Ids that do not fit the model or the cache, and what `each` says.
pub(crate) fn run<B: Backend>(
    model: &Olmo2<B>,
    cache: &mut KvCache<B>,
    ids: &[u32],
    wanted: &Wanted<impl Fn(Range<usize>) -> LogitRows>,
    mut each: impl FnMut(Range<usize>, ForwardOutput<B>) -> Result<()>,
) -> Result<()> {
    cache.clear();
    let chunk = match model.config().rope.is_dynamic() {
        true => ids.len().max(1),
        false => wanted.chunk,
    };
    let mut start = 0;
    loop {
        let range = start..ids.len().min(start + chunk);
        let mut input = ForwardInput::ids(&ids[range.clone()])
            .with_cache(cache)
            .logits((wanted.rows)(range.clone()));
        if wanted.hidden {
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

/// The values of a tensor in f32, row by row.
///
/// # Errors
/// The device failed.
pub(crate) fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Result<Vec<f32>> {
    let data = tensor.into_data().convert::<f32>();
    data.into_vec()
        .map_err(|error| anyhow::anyhow!("cannot read values from the device: {error:?}"))
}
