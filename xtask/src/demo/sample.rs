//! Continuations of prompts, to judge a run by.

use anyhow::{Context, Result, anyhow};
use burn::prelude::*;
use olmo2::{CacheOptions, ForwardInput, Olmo2};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tokenizers::Tokenizer;

use super::corpus::END_OF_TEXT;
use super::shape::CONTEXT;
use super::tokenizer::special_id;

/// Continues `prompt` until `<|endoftext|>` or `tokens` tokens; greedy at temperature 0.
///
/// # Errors
/// A prompt longer than the context, or without a token.
pub(crate) fn continuation<B: Backend>(
    model: &Olmo2<B>,
    tokenizer: &Tokenizer,
    prompt: &str,
    temperature: f64,
    tokens: usize,
) -> Result<String> {
    let end = special_id(tokenizer, END_OF_TEXT)?;
    let mut cache = model.new_cache(CacheOptions {
        slots: 1,
        capacity: CONTEXT,
    });
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut input = tokenizer
        .encode(prompt, false)
        .map_err(|error| anyhow!("{error}"))?
        .get_ids()
        .to_vec();
    let room = CONTEXT.saturating_sub(input.len());
    let mut ids = Vec::new();
    for _ in 0..tokens.min(room) {
        let pass = ForwardInput::ids(&input)
            .with_cache(&mut cache)
            .last_logits();
        let logits = model
            .forward(pass)?
            .logits
            .context("the last position has logits")?;
        let logits = logits
            .into_data()
            .to_vec::<f32>()
            .map_err(|error| anyhow!("{error:?}"))?;
        let next = choose(&logits, temperature, &mut rng);
        if next == end {
            break;
        }
        ids.push(next);
        input = vec![next];
    }
    tokenizer
        .decode(&ids, false)
        .map_err(|error| anyhow!("{error}"))
}

fn choose(logits: &[f32], temperature: f64, rng: &mut ChaCha8Rng) -> u32 {
    let best = (0..logits.len())
        .max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
        .unwrap_or_default();
    if temperature == 0.0 {
        return best as u32;
    }
    let top = f64::from(logits[best]);
    let weights: Vec<f64> = logits
        .iter()
        .map(|&logit| ((f64::from(logit) - top) / temperature).exp())
        .collect();
    let mut rest = f64::from(rng.next_u32()) / 4_294_967_296.0 * weights.iter().sum::<f64>();
    let chosen = weights.iter().position(|weight| {
        rest -= weight;
        rest < 0.0
    });
    chosen.unwrap_or(best) as u32
}
