//! The parameters of a generation, and the rule for where a text ends.

use burn::prelude::*;

use crate::config::Olmo2Config;
use crate::config::generation::GenerationConfig;
use crate::model::Olmo2;
use crate::sampling::SamplingParams;
use crate::text::chat::ChatTemplate;
use crate::text::tokenizer::Tokenizer;

/// Tokens of OLMo 2's own tokenizer; its embedding is padded to 100352 rows.
pub const DOLMA2_TOKENS: usize = 100_278;

/// The marks around a turn in ChatML, the format of Olmo 3.
const TURN_MARKS: [&str; 2] = ["<|im_start|>", "<|im_end|>"];

/// Tokens to generate if neither the caller nor `generation_config.json` gives a number.
pub const DEFAULT_NEW_TOKENS: usize = 256;

/// The parameters of a generation.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateParams {
    /// Maximum number of tokens to generate.
    pub max_new_tokens: usize,
    /// How tokens are sampled.
    pub sampling: SamplingParams,
    /// Ids that end the text and are not part of it.
    pub stop_ids: Vec<u32>,
    /// Only ids below this are sampled: the tokenizer's size.
    pub allowed_ids: usize,
}

impl GenerateParams {
    /// The defaults of a model's files, as transformers' `generate` takes them.
    ///
    /// The text ends at the `eos_token_id` of `generation_config.json`, or at that of `config.json` if
    /// the former has none. Ids that the tokenizer does not have are never sampled; without a tokenizer
    /// those are the padding rows of OLMo 2's vocabulary, from id 100278.
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

    /// The same, where `template` is ChatML's, with its marks as stop tokens: `<|im_end|>` ends a turn,
    /// and a model that writes `<|im_start|>` has begun the turn of someone else.
    pub fn with_chat_stops(mut self, template: &ChatTemplate, tokenizer: &Tokenizer) -> Self {
        if !template.source().contains(TURN_MARKS[0]) {
            return self;
        }
        for id in TURN_MARKS
            .iter()
            .filter_map(|mark| tokenizer.token_to_id(mark))
        {
            if !self.stop_ids.contains(&id) {
                self.stop_ids.push(id);
            }
        }
        self
    }

    /// Greedy decoding up to the `eos_token_id` of the model's config, for a model without files.
    /// [`Checkpoint::generate_params`](crate::Checkpoint::generate_params) reads the other files too.
    pub fn greedy<B: Backend>(model: &Olmo2<B>, max_new_tokens: usize) -> Self {
        let params = Self::new(model.config(), &GenerationConfig::default(), None);
        params.with_max_new_tokens(max_new_tokens)
    }

    /// The same with another maximum number of tokens.
    pub fn with_max_new_tokens(mut self, max_new_tokens: usize) -> Self {
        self.max_new_tokens = max_new_tokens;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tokenizer::tests::tokenizer;

    fn params(
        vocab_size: usize,
        generation: &str,
        tokenizer: Option<&Tokenizer>,
    ) -> GenerateParams {
        let config = format!(
            r#"{{"model_type": "olmo2", "vocab_size": {vocab_size}, "eos_token_id": [7, 8]}}"#
        );
        let config = Olmo2Config::from_json(&config).expect("valid");
        let generation = GenerationConfig::from_bytes(generation.as_bytes()).expect("valid");
        GenerateParams::new(&config, &generation, tokenizer)
    }

    #[test]
    fn the_generation_config_decides_what_ends_a_text() {
        assert_eq!(params(100, r#"{"eos_token_id": 9}"#, None).stop_ids, [9]);
        assert_eq!(params(100, "{}", None).stop_ids, [7, 8]);
    }

    #[test]
    fn only_ids_of_tokenizer_and_model_are_chosen() {
        let tokenizer = tokenizer();
        let allowed = |vocab, tokenizer| params(vocab, "{}", tokenizer).allowed_ids;
        assert_eq!(allowed(1000, Some(&tokenizer)), tokenizer.vocab_size());
        assert_eq!(allowed(100, Some(&tokenizer)), 100);
        assert_eq!(allowed(100_352, None), DOLMA2_TOKENS);
        assert_eq!(allowed(100, None), 100);
    }

    #[test]
    fn sampling_and_length_are_those_of_the_generation_config() {
        let json = r#"{"do_sample": true, "temperature": 0.6, "top_k": 0, "max_new_tokens": 5}"#;
        let all = params(100, json, None);
        assert_eq!((all.sampling.temperature, all.sampling.top_k), (0.6, None));
        assert_eq!(all.max_new_tokens, 5);
        let none = params(100, "{}", None);
        assert_eq!(none.sampling, SamplingParams::default());
        assert_eq!(none.max_new_tokens, DEFAULT_NEW_TOKENS);
        assert_eq!(none.with_max_new_tokens(3).max_new_tokens, 3);
    }
}
