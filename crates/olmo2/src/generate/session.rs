//! Prefill and decode of one sequence as an iterator of tokens, with reuse of what a cache holds.

use std::time::Instant;

use burn::prelude::*;

use super::error::{GenerateError, PositionLimit};
use super::params::GenerateParams;
use super::prefill::{Chunks, prefill};
use super::timings::Timings;
use crate::cache::{CacheOptions, KvCache};
use crate::forward::{ForwardInput, InputError, LogitRows, check_ids};
use crate::model::Olmo2;
use crate::sampling::Sampler;

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// An id, or a string, that ends the text.
    Stop,
    /// The maximum number of tokens.
    Length,
}

/// One sequence with its model and its cache: a prompt that begins like the last one costs only
/// what is new.
///
/// A session owns its model and can move to another thread. Clones of a model share the memory of
/// its weights. Only a model of [`Olmo2::new`] that has not run yet has none to share: each clone
/// of it draws weights of its own.
#[derive(Debug)]
pub struct Session<B: Backend> {
    model: Olmo2<B>,
    cache: KvCache<B>,
    /// Ids whose keys and values the cache holds.
    cached_ids: Vec<u32>,
}

impl<B: Backend> Session<B> {
    /// An empty sequence of up to `capacity` tokens, with the default cache.
    pub fn new(model: Olmo2<B>, capacity: usize) -> Self {
        let options = CacheOptions {
            capacity,
            ..CacheOptions::default()
        };
        Self::with_options(model, options)
    }

    /// An empty sequence, in one slot of a cache with these options.
    pub fn with_options(model: Olmo2<B>, options: CacheOptions) -> Self {
        let cache = model.new_cache(CacheOptions {
            slots: 1,
            ..options
        });
        Self {
            model,
            cache,
            cached_ids: Vec::new(),
        }
    }

    /// The model.
    pub fn model(&self) -> &Olmo2<B> {
        &self.model
    }

    /// The cache, for its length and size.
    pub fn cache(&self) -> &KvCache<B> {
        &self.cache
    }

    /// Maximum number of tokens that can follow a prompt of `prompt` tokens.
    pub fn max_new_tokens(&self, prompt: usize) -> usize {
        self.limit().0.saturating_sub(prompt)
    }

    fn limit(&self) -> (usize, PositionLimit) {
        let capacity = self.cache.capacity();
        match self.model.config().max_positions() {
            Some(positions) if positions < capacity => (positions, PositionLimit::Model),
            _ => (capacity, PositionLimit::Context),
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
    ) -> Result<Generation<'_, B>, GenerateError> {
        self.check(prompt, params.max_new_tokens)?;
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

    fn check(&self, prompt: &[u32], output: usize) -> Result<(), GenerateError> {
        if prompt.is_empty() {
            return Err(InputError::Empty { rows: 1, seq: 0 }.into());
        }
        check_ids(self.model.config(), prompt)?;
        let (limit, which) = self.limit();
        if prompt.len().saturating_add(output) > limit {
            return Err(GenerateError::TooLong {
                prompt: prompt.len(),
                output,
                limit,
                which,
            });
        }
        Ok(())
    }

    /// Runs the part of the prompt that is not in the cache; returns the last position's logits.
    fn prefill(
        &mut self,
        prompt: &[u32],
        timings: &mut Timings,
    ) -> Result<Vec<f32>, GenerateError> {
        let reused = self.cache.truncate(0, self.reusable(prompt));
        self.cached_ids.truncate(reused);
        timings.prefill_tokens = prompt.len() - reused;
        let (ids, mut logits) = (&prompt[reused..], Vec::new());
        let chunks = Chunks::new(
            |range: std::ops::Range<usize>| match range.end == ids.len() {
                true => LogitRows::Last,
                false => LogitRows::None,
            },
        );
        let (model, cache, cached_ids) = (&self.model, &mut self.cache, &mut self.cached_ids);
        prefill(model, cache, ids, &chunks, |range, output| {
            cached_ids.extend_from_slice(&ids[range]);
            logits = output.logits.map(to_host).unwrap_or_default();
            Ok::<_, GenerateError>(())
        })?;
        Ok(logits)
    }

    /// Number of tokens at the prompt's beginning that are in the cache already.
    ///
    /// The last token is run again even if it is in the cache, because its logits are needed. Keys under
    /// dynamic rope were rotated for another length, so nothing is reused there.
    fn reusable(&self, prompt: &[u32]) -> usize {
        if self.model.config().rope.is_dynamic() {
            return 0;
        }
        let pairs = self.cached_ids.iter().zip(prompt);
        let same = pairs.take_while(|(a, b)| a == b).count();
        same.min(prompt.len().saturating_sub(1))
    }

    /// Runs one token; returns its logits.
    fn decode(&mut self, id: u32) -> Result<Vec<f32>, InputError> {
        let input = ForwardInput::ids(&[id]).with_cache(&mut self.cache);
        let output = self.model.forward(input)?;
        self.cached_ids.push(id);
        Ok(output.logits.map(to_host).unwrap_or_default())
    }
}

/// The values of f32 logits.
fn to_host<B: Backend>(logits: Tensor<B, 2>) -> Vec<f32> {
    let data = logits.into_data().convert::<f32>();
    data.into_vec().expect("converted to f32 just now")
}

/// Iterator over generated ids, up to one that ends the text or the maximum number.
#[derive(Debug)]
pub struct Generation<'s, B: Backend> {
    session: &'s mut Session<B>,
    sampler: Sampler,
    params: GenerateParams,
    /// Logits of the next token, `[vocab_size]`.
    logits: Vec<f32>,
    /// Sampled, and not yet run through the model.
    last: Option<u32>,
    finish: Option<FinishReason>,
    produced: usize,
    started: Instant,
    timings: Timings,
}

impl<B: Backend> Generation<'_, B> {
    /// Why the text ended; `None` while it has not.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finish
    }

    /// Ends the text here, as at a stop string.
    pub fn stop(&mut self) {
        self.finish = Some(FinishReason::Stop);
    }

    /// Where the time went so far.
    pub fn timings(&self) -> Timings {
        self.timings
    }

    /// The seed of the sampler.
    pub fn seed(&self) -> u64 {
        self.sampler.seed()
    }

    /// The logits that the last token was sampled from, `[vocab_size]`; before the first token those
    /// that it will be sampled from; empty if `max_new_tokens` is 0.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// The next id, or `None` where it ends the text.
    fn step(&mut self) -> Result<Option<u32>, GenerateError> {
        if let Some(id) = self.last {
            self.logits = self.session.decode(id)?;
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

impl<B: Backend> Iterator for Generation<'_, B> {
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
                // After an error the logits are not those of the next token.
                self.finish = Some(FinishReason::Stop);
                Some(Err(error))
            }
        }
    }
}

#[cfg(all(test, feature = "flex", feature = "demo"))]
mod tests {
    use burn::backend::Flex;

    use super::*;
    use crate::demo;
    use crate::load::LoadOptions;
    use crate::quantize::Quantize;
    use crate::storage::{QuantFormat, Weight};

    /// Where the weights of every matrix lie.
    fn addresses(mut model: Olmo2<Flex>) -> Vec<usize> {
        let of = |weight: &Weight<Flex>| match weight {
            Weight::Float(param) => param
                .val()
                .into_primitive()
                .tensor()
                .bytes()
                .as_ptr()
                .addr(),
            Weight::Packed(packed) => packed.arrays()[0].1.as_ptr().addr(),
        };
        let matrices = model.matrices_mut();
        matrices.iter().map(|(_, weight)| of(weight)).collect()
    }

    #[test]
    fn clones_of_a_model_share_the_memory_of_its_weights() {
        for quantize in [None, Some(Quantize::all(QuantFormat::Q8))] {
            let options = LoadOptions {
                quantize,
                ..LoadOptions::default()
            };
            let model = demo::load(&options, &Default::default()).expect("the demo model");
            let session = Session::new(model.clone(), 64);
            assert_eq!(addresses(session.model().clone()), addresses(model));
        }
    }
}
