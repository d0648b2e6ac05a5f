//! Prefill and decode as an iterator of tokens, and sessions that reuse what a cache holds.

use std::time::{Duration, Instant};

use burn::prelude::*;
use thiserror::Error;

use crate::cache::{CacheOptions, KvCache};
use crate::forward::{ForwardInput, InputError, LogitRows, check_ids};
use crate::model::Olmo2;
use crate::sampling::{Sampler, SamplingError, SamplingParams};

/// Tokens of a prompt that go through the model at once: enough to use the machine, few enough
/// that the scores of attention stay small.
const PREFILL_CHUNK: usize = 512;

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
    /// Greedy, up to the ids that end a text by the model's config.
    ///
    /// Without a tokenizer the padding rows of OLMo 2's vocabulary, from id 100278, are left out.
    pub fn greedy<B: Backend>(model: &Olmo2<B>, max_new_tokens: usize) -> Self {
        Self {
            max_new_tokens,
            sampling: SamplingParams::default(),
            stop_ids: model.config().eos_token_id.clone(),
            allowed_ids: model.config().vocab_size.min(DOLMA2_TOKENS),
        }
    }
}

/// Tokens of OLMo 2's own tokenizer; its embedding is padded to 100352 rows.
pub const DOLMA2_TOKENS: usize = 100_278;

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// An id, or a string, that ends the text.
    Stop,
    /// The wanted number of tokens.
    Length,
}

/// What the time went into.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// Prompt tokens that went through the model; those found in the cache are not among them.
    pub prefill_tokens: usize,
    /// From the start to the logits of the prompt's last token.
    pub prefill: Duration,
    /// From the start to the first token.
    pub first_token: Duration,
    /// Tokens after the first.
    pub decode_tokens: usize,
    /// From the first token to the last.
    pub decode: Duration,
}

impl Timings {
    /// Prompt tokens a second.
    pub fn prefill_tokens_per_second(&self) -> f64 {
        rate(self.prefill_tokens, self.prefill)
    }

    /// Generated tokens a second, the first left out.
    pub fn decode_tokens_per_second(&self) -> f64 {
        rate(self.decode_tokens, self.decode)
    }
}

fn rate(tokens: usize, time: Duration) -> f64 {
    match time.is_zero() {
        true => 0.0,
        false => tokens as f64 / time.as_secs_f64(),
    }
}

/// Why generation could not start or go on.
#[derive(Debug, Error)]
pub enum GenerateError {
    /// The prompt does not fit the model or the cache.
    #[error(transparent)]
    Input(#[from] InputError),
    /// Parameters, or logits, that no token can be chosen by.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// Prompt and output together do not fit.
    #[error(
        "prompt of {prompt} and output of {output} tokens do not fit {limit} positions (`{which}`)"
    )]
    TooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens wanted.
        output: usize,
        /// Positions there are.
        limit: usize,
        /// Which limit it is.
        which: &'static str,
    },
}

impl GenerateError {
    /// One sentence on what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Input(e) => e.hint(),
            Self::Sampling(e) => e.hint(),
            Self::TooLong {
                which: "context", ..
            } => Some("make the context larger, or ask for fewer tokens".into()),
            Self::TooLong { prompt, limit, .. } if prompt >= limit => {
                Some("shorten the prompt".into())
            }
            Self::TooLong { .. } => Some("ask for fewer tokens, or shorten the prompt".into()),
        }
    }
}

/// One sequence with its cache: a prompt that begins like the last one costs only what is new.
#[derive(Debug)]
pub struct Session<'m, B: Backend> {
    model: &'m Olmo2<B>,
    cache: KvCache<B>,
    /// Ids whose keys and values the cache holds.
    held: Vec<u32>,
}

impl<'m, B: Backend> Session<'m, B> {
    /// An empty sequence of up to `capacity` tokens, with a cache in f32.
    pub fn new(model: &'m Olmo2<B>, capacity: usize) -> Self {
        Self::with_options(
            model,
            CacheOptions {
                capacity,
                ..CacheOptions::default()
            },
        )
    }

    /// An empty sequence with one slot of such a cache.
    pub fn with_options(model: &'m Olmo2<B>, options: CacheOptions) -> Self {
        Self {
            model,
            cache: model.new_cache(CacheOptions {
                slots: 1,
                ..options
            }),
            held: Vec::new(),
        }
    }

    /// The cache, for its length and size.
    pub fn cache(&self) -> &KvCache<B> {
        &self.cache
    }

    /// Most tokens that can follow a prompt of `prompt` tokens.
    pub fn room(&self, prompt: usize) -> usize {
        self.limit().0.saturating_sub(prompt)
    }

    fn limit(&self) -> (usize, &'static str) {
        let capacity = (self.cache.capacity(), "context");
        let config = self.model.config();
        match config.rope.is_dynamic() {
            true => capacity,
            false => capacity.min((config.max_position_embeddings, "max_position_embeddings")),
        }
    }

    /// Continues `prompt`.
    ///
    /// # Errors
    /// An empty prompt, an unknown id, bad parameters, or more tokens than there are positions;
    /// nothing is computed then.
    pub fn generate(
        &mut self,
        prompt: &[u32],
        params: GenerateParams,
    ) -> Result<Generation<'_, 'm, B>, GenerateError> {
        if prompt.is_empty() {
            return Err(InputError::Empty { rows: 1, seq: 0 }.into());
        }
        check_ids(self.model.config(), prompt)?;
        let (limit, which) = self.limit();
        if prompt.len().saturating_add(params.max_new_tokens) > limit {
            return Err(GenerateError::TooLong {
                prompt: prompt.len(),
                output: params.max_new_tokens,
                limit,
                which,
            });
        }
        let mut sampler = Sampler::new(params.sampling.clone(), params.allowed_ids)?;
        sampler.observe(prompt);
        let started = Instant::now();
        let mut timings = Timings::default();
        let (logits, finish) = match params.max_new_tokens {
            0 => (Vec::new(), Some(FinishReason::Length)),
            _ => (self.prefill(prompt, &mut timings)?, None),
        };
        timings.prefill = started.elapsed();
        Ok(Generation {
            session: self,
            sampler,
            params,
            logits,
            last: None,
            finish,
            produced: 0,
            started,
            timings,
        })
    }

    /// Runs what the cache does not hold yet, in chunks; returns the last position's logits.
    fn prefill(
        &mut self,
        prompt: &[u32],
        timings: &mut Timings,
    ) -> Result<Vec<f32>, GenerateError> {
        // The last token is run again even if it is held: its logits are wanted. Keys under
        // dynamic rope were rotated for another length, so nothing is reused there.
        let same = self
            .held
            .iter()
            .zip(prompt)
            .take_while(|(a, b)| a == b)
            .count();
        let reused = match self.model.config().rope.is_dynamic() {
            true => 0,
            false => same.min(prompt.len().saturating_sub(1)),
        };
        self.cache.truncate(0, reused);
        self.held.truncate(reused);
        timings.prefill_tokens = prompt.len() - reused;
        // Dynamic rope rotates a whole prompt for its full length.
        let chunk = match self.model.config().rope.is_dynamic() {
            true => prompt.len().max(1),
            false => PREFILL_CHUNK,
        };
        let (mut rest, mut logits) = (&prompt[reused..], Vec::new());
        loop {
            let (now, later) = rest.split_at(rest.len().min(chunk));
            let rows = if later.is_empty() {
                LogitRows::Last
            } else {
                LogitRows::None
            };
            logits = self.run(now, rows)?.unwrap_or(logits);
            rest = later;
            if rest.is_empty() {
                return Ok(logits);
            }
        }
    }

    fn run(&mut self, ids: &[u32], rows: LogitRows) -> Result<Option<Vec<f32>>, InputError> {
        let input = ForwardInput::ids(ids)
            .with_cache(&mut self.cache)
            .logits(rows);
        let output = self.model.forward(input)?;
        self.held.extend_from_slice(ids);
        Ok(output.logits.map(host))
    }
}

/// The values of f32 logits.
fn host<B: Backend>(logits: Tensor<B, 2>) -> Vec<f32> {
    let data = logits.into_data().convert::<f32>();
    data.into_vec().expect("converted to f32 just now")
}

/// A text in the making: yields ids until one ends the text, or enough are there.
#[derive(Debug)]
pub struct Generation<'s, 'm, B: Backend> {
    session: &'s mut Session<'m, B>,
    sampler: Sampler,
    params: GenerateParams,
    /// Of the position whose next token is chosen, `[vocab_size]`.
    logits: Vec<f32>,
    /// Chosen, and not yet through the model.
    last: Option<u32>,
    finish: Option<FinishReason>,
    produced: usize,
    started: Instant,
    timings: Timings,
}

impl<B: Backend> Generation<'_, '_, B> {
    /// Why the text ended; `None` while it goes on.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finish
    }

    /// Ends the text here, as at a stop string.
    pub fn stop(&mut self) {
        self.finish = Some(FinishReason::Stop);
    }

    /// What the time went into so far.
    pub fn timings(&self) -> Timings {
        self.timings
    }

    /// The seed that tokens are drawn by.
    pub fn seed(&self) -> u64 {
        self.sampler.seed()
    }

    /// The logits that the last token was chosen by, `[vocab_size]`; before the first token those
    /// that it will be chosen by, and empty where no token is wanted.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// The next id, or `None` where it ends the text.
    fn step(&mut self) -> Result<Option<u32>, GenerateError> {
        if let Some(id) = self.last {
            let logits = self.session.run(&[id], LogitRows::Last)?;
            self.logits = logits.unwrap_or_default();
        }
        let id = self.sampler.sample(&self.logits)?;
        if self.last.is_none() {
            self.timings.first_token = self.started.elapsed();
        }
        Ok((!self.params.stop_ids.contains(&id)).then_some(id))
    }

    fn count(&mut self) {
        self.produced += 1;
        if self.produced > 1 {
            self.timings.decode = self.started.elapsed() - self.timings.first_token;
            self.timings.decode_tokens = self.produced - 1;
        }
        if self.produced == self.params.max_new_tokens {
            self.finish = Some(FinishReason::Length);
        }
    }
}

impl<B: Backend> Iterator for Generation<'_, '_, B> {
    type Item = Result<u32, GenerateError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finish.is_some() {
            return None;
        }
        match self.step() {
            Ok(Some(id)) => {
                self.last = Some(id);
                self.count();
                Some(Ok(id))
            }
            Ok(None) => {
                self.finish = Some(FinishReason::Stop);
                None
            }
            Err(error) => {
                // A model that failed once has nothing more to say.
                self.finish = Some(FinishReason::Stop);
                Some(Err(error))
            }
        }
    }
}
