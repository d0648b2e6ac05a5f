//! The one rule that cuts a prompt into chunks.

use std::ops::Range;

use burn::prelude::*;

use crate::cache::{KvCache, PREFILL_CHUNK};
use crate::config::Olmo2Config;
use crate::forward::{ForwardInput, ForwardOutput, InputError, LogitRows};
use crate::model::Olmo2;

/// How a sequence is cut into passes, and which outputs each pass returns.
#[derive(Debug, Clone, Copy)]
pub struct Chunks<F> {
    /// Maximum number of tokens in a pass.
    pub len: usize,
    /// Whether passes also return hidden states.
    pub hidden_states: bool,
    /// The rows of logits that a pass returns, given the range of ids that it runs.
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

/// Maximum number of tokens in a pass, for a prompt of `prompt` tokens that may be cut into chunks of `max`
/// tokens. Dynamic rope rotates a prompt for its full length, so there it is one pass.
pub fn chunk_len(config: &Olmo2Config, prompt: usize, max: usize) -> usize {
    match config.rope.is_dynamic() {
        true => prompt.max(1),
        false => max.max(1),
    }
}

/// Continues the sequence in slot 0 of `cache` by `ids`, chunk by chunk. `each` gets the output of
/// each pass in order, with the range of `ids` that the pass ran.
///
/// # Errors
/// No ids, or ids that do not fit the model or the cache, and the errors of `each`. The cache then
/// holds the chunks before the one that failed.
pub fn prefill<B: Backend, E: From<InputError>>(
    model: &Olmo2<B>,
    cache: &mut KvCache<B>,
    ids: &[u32],
    chunks: &Chunks<impl Fn(Range<usize>) -> LogitRows>,
    mut each: impl FnMut(Range<usize>, ForwardOutput<B>) -> Result<(), E>,
) -> Result<(), E> {
    let max = cache.chunk().map_or(chunks.len, |max| max.min(chunks.len));
    let chunk = chunk_len(model.config(), ids.len(), max);
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

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use burn::tensor::Tolerance;

    use super::*;
    use crate::cache::CacheOptions;

    const IDS: [u32; 8] = [3, 1, 4, 1, 5, 9, 2, 6];

    fn model(rope: &str) -> Olmo2<Flex> {
        let config = format!(
            r#"{{"model_type": "olmo2", "vocab_size": 50, "hidden_size": 32,
                "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
                "max_position_embeddings": 64, "rope_scaling": {rope}}}"#
        );
        let config = Olmo2Config::from_json(&config).expect("valid");
        Olmo2::new(&config, &Default::default())
    }

    /// Chunks of three tokens that return the logits of every position.
    fn threes() -> Chunks<impl Fn(Range<usize>) -> LogitRows> {
        Chunks {
            len: 3,
            ..Chunks::new(|_| LogitRows::All)
        }
    }

    fn run(model: &Olmo2<Flex>) -> (Vec<Range<usize>>, Tensor<Flex, 2>) {
        let mut cache = model.new_cache(CacheOptions::default());
        let (mut ranges, mut logits) = (Vec::new(), Vec::new());
        prefill(model, &mut cache, &IDS, &threes(), |range, output| {
            assert_eq!(output.hidden_states.len(), 0);
            ranges.push(range);
            logits.extend(output.logits);
            Ok::<_, InputError>(())
        })
        .expect("it fits");
        assert_eq!(cache.len(0), IDS.len());
        (ranges, Tensor::cat(logits, 0))
    }

    #[test]
    fn chunks_give_the_logits_of_one_pass() {
        let model = model("null");
        let (ranges, chunked) = run(&model);
        assert_eq!(ranges, [0..3, 3..6, 6..8]);
        let whole = model.forward(ForwardInput::ids(&IDS)).expect("it fits");
        let whole = whole.logits.expect("logits");
        let tolerance = Tolerance::<f32>::absolute(1e-5);
        chunked
            .into_data()
            .assert_approx_eq(&whole.into_data(), tolerance);
    }

    #[test]
    fn under_dynamic_rope_a_prompt_is_one_chunk() {
        let (ranges, _) = run(&model(r#"{"rope_type": "dynamic", "factor": 2.0}"#));
        assert_eq!((ranges.len(), &ranges[0]), (1, &(0..8)));
    }

    #[test]
    fn an_error_ends_the_run_after_its_chunk() {
        let model = model("null");
        let mut cache = model.new_cache(CacheOptions::default());
        let stop = |range: Range<usize>, _| match range.end {
            6 => Err(InputError::Empty { rows: 0, seq: 0 }),
            _ => Ok(()),
        };
        prefill(&model, &mut cache, &IDS, &threes(), stop).expect_err("at the second chunk");
        assert_eq!(cache.len(0), 6);
        let result = prefill(&model, &mut cache, &[], &threes(), |_, _| Ok(()));
        assert_eq!(result, Err(InputError::Empty { rows: 1, seq: 0 }));
    }
}
