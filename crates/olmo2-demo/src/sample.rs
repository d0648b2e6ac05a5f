//! Continuations of prompts by the library's own generation, to judge a run by.

use anyhow::{Result, anyhow};
use burn::prelude::*;
use olmo2::{GenerateParams, Olmo2, Session};
use tokenizers::Tokenizer;

use crate::shape::CONTEXT;

/// Continues `prompt` until `<|endoftext|>` or `tokens` tokens; greedy at temperature 0.
///
/// # Errors
/// A prompt longer than the context, or without a token.
pub(crate) fn continuation<B: Backend>(
    model: &Olmo2<B>,
    tokenizer: &Tokenizer,
    prompt: &str,
    temperature: f32,
    tokens: usize,
) -> Result<String> {
    let prompt = tokenizer
        .encode(prompt, false)
        .map_err(|error| anyhow!("{error}"))?;
    let mut session = Session::new(model.clone(), CONTEXT);
    let mut params =
        GenerateParams::greedy(model, tokens.min(session.max_new_tokens(prompt.len())));
    params.sampling.temperature = temperature;
    params.sampling.seed = Some(0);
    let ids = session
        .generate(prompt.get_ids(), params)?
        .collect::<Result<Vec<u32>, _>>()?;
    tokenizer
        .decode(&ids, false)
        .map_err(|error| anyhow!("{error}"))
}
