//! What to generate, and the rule that says where a text ends.

use burn::prelude::*;

use crate::config::Olmo2Config;
use crate::config::generation::GenerationConfig;
use crate::model::Olmo2;
use crate::sampling::SamplingParams;
use crate::text::tokenizer::Tokenizer;

/// Tokens of OLMo 2's own tokenizer; its embedding is padded to 100352 rows.
pub const DOLMA2_TOKENS: usize = 100_278;

/// Tokens to generate where neither the caller nor `generation_config.json` says how many.
pub const DEFAULT_NEW_TOKENS: usize = 256;

/// What to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateParams {
    /// Tokens to generate at most.
    pub max_new_tokens: usize,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Ids that end the text; not part of it.
    pub stop_ids: Vec<u32>,
    /// Ids at and beyond this are never chosen: the tokenizer's size.
    pub allowed_ids: usize,
}

impl GenerateParams {
    /// The defaults of a model's files, as transformers' `generate` takes them.
    ///
    /// The ids of `generation_config.json` that end a text stand above those of `config.json`. Ids
    /// that the tokenizer does not have are never chosen; without a tokenizer those are the padding
    /// rows of OLMo 2's vocabulary, from id 100278.
    pub fn new(
        config: &Olmo2Config,
        generation: &GenerationConfig,
        tokenizer: Option<&Tokenizer>,
    ) -> Self {
        let stop_ids = match generation.eos_token_id.is_empty() {
            true => &config.eos_token_id,
            false => &generation.eos_token_id,
        };
        let known = tokenizer.map_or(DOLMA2_TOKENS, Tokenizer::vocab_size);
        let mut sampling = SamplingParams::default();
        generation.apply_to(&mut sampling);
        Self {
            max_new_tokens: generation.max_new_tokens.unwrap_or(DEFAULT_NEW_TOKENS),
            sampling,
            stop_ids: stop_ids.clone(),
            allowed_ids: known.min(config.vocab_size),
        }
    }

    /// Greedy, up to the ids that end a text by the model's config alone: for a model without files.
    /// [`Checkpoint::generate_params`](crate::Checkpoint::generate_params) knows the files.
    pub fn greedy<B: Backend>(model: &Olmo2<B>, max_new_tokens: usize) -> Self {
        let params = Self::new(model.config(), &GenerationConfig::default(), None);
        params.with_max_new_tokens(max_new_tokens)
    }

    /// The same with another number of tokens at most.
    pub fn with_max_new_tokens(mut self, max_new_tokens: usize) -> Self {
        self.max_new_tokens = max_new_tokens;
        self
    }
}
