//! From one row of logits to one token: greedy, or drawn by a seeded generator on the host.
//!
//! [`Sampler::sample`] runs, in the order of transformers' `_get_logits_processor` (5.23):
//! logit bias, repetition penalty, presence and frequency penalty, then, unless greedy,
//! temperature, top-k, top-p, min-p and the draw. Nothing here uses tensors: a row
//! of logits is a `&[f32]`.

mod filters;
mod logprob;
mod params;

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

pub use logprob::{TokenLogprob, kl_divergence, log_prob, top_logprobs};
pub use params::{SamplingError, SamplingParams};

/// Samples the tokens of one sequence. Its state is the parameters, the generator and the ids seen
/// so far.
///
/// # Randomness
/// The generator is ChaCha with 8 rounds, seeded by `rand_core`'s `seed_from_u64` (PCG32 over the
/// seed), the same on every platform. A call of [`sample`](Self::sample) with a temperature above
/// 0 takes exactly one number from it, [`uniform`](Self::uniform), whatever the filters left; a
/// greedy call takes none. The token is the first, in order of id, at which the running sum of
/// the weights `exp(score)` exceeds that number times their total. A sampler on a device that
/// follows the same rule with the same number agrees, but for rounding in its sums.
#[derive(Debug, Clone)]
pub struct Sampler {
    params: SamplingParams,
    allowed: usize,
    seed: u64,
    rng: ChaCha8Rng,
    /// How often each id was sampled; ids of the prompt alone have 0.
    seen: HashMap<u32, u32>,
    /// The scores of the allowed ids: one buffer for all calls.
    scores: Vec<f32>,
}

impl Sampler {
    /// A sampler for one sequence. Ids at and beyond `allowed` are never chosen: pass the
    /// tokenizer's size, since a model's vocabulary is padded (OLMo 2: 100278 of 100352 rows).
    ///
    /// # Errors
    /// A parameter out of range, or a biased id at or beyond `allowed`.
    pub fn new(params: SamplingParams, allowed: usize) -> Result<Self, SamplingError> {
        params.validate()?;
        if let Some(&(id, _)) = params
            .logit_bias
            .iter()
            .find(|(id, _)| *id as usize >= allowed)
        {
            return Err(SamplingError::UnknownBiasId { id, allowed });
        }
        // Without a seed, std's own random hasher keys are the entropy: no further dependency.
        let seed = params
            .seed
            .unwrap_or_else(|| RandomState::new().build_hasher().finish());
        Ok(Self {
            params,
            allowed,
            seed,
            rng: ChaCha8Rng::seed_from_u64(seed),
            seen: HashMap::new(),
            scores: Vec::new(),
        })
    }

    /// The parameters that this sampler was made with.
    pub fn params(&self) -> &SamplingParams {
        &self.params
    }

    /// The seed in use, given or drawn. A run with this seed samples the same tokens.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Adds the prompt's ids, which the repetition penalty also applies to.
    pub fn observe(&mut self, prompt: &[u32]) {
        for &id in prompt {
            self.seen.entry(id).or_insert(0);
        }
    }

    /// Adds a token that was chosen elsewhere, for example on a device, to the output.
    pub fn accept(&mut self, id: u32) {
        *self.seen.entry(id).or_insert(0) += 1;
    }

    /// The generator's next number in `[0, 1)`: the upper 53 bits of the next 64, times 2^-53.
    ///
    /// A device without `f64` takes it cut (not rounded, which could give 1) to 24 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Samples the next token from one row of raw logits (`[vocab]`, f32) and adds it to the output.
    /// Between equal scores, greedy takes the lowest id.
    ///
    /// # Errors
    /// A NaN or +inf among the allowed logits, or no allowed logit above -inf: the model's
    /// arithmetic has failed, and any token would be noise.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32, SamplingError> {
        let logits = &logits[..self.allowed.min(logits.len())];
        let mut best = filters::argmax(logits)?;
        if self.params.changes_scores() || !self.params.is_greedy() {
            self.scores.clear();
            self.scores.extend_from_slice(logits);
        }
        if self.params.changes_scores() {
            self.penalize();
            best = filters::argmax(&self.scores)?;
        }
        let id = if self.params.is_greedy() {
            best
        } else {
            self.draw(best)
        };
        self.accept(id);
        Ok(id)
    }

    /// Applies bias and penalties to `self.scores`; greedy decoding has them too.
    fn penalize(&mut self) {
        let Self {
            params,
            seen,
            scores,
            ..
        } = self;
        filters::logit_bias(scores, &params.logit_bias);
        filters::repetition_penalty(scores, seen.keys().copied(), params.repetition_penalty);
        filters::output_penalties(
            scores,
            seen.iter().map(|(&id, &count)| (id, count)),
            params.presence_penalty,
            params.frequency_penalty,
        );
    }

    /// Filters `self.scores` and draws one of the rest; `best` is the id of the largest score.
    fn draw(&mut self, best: u32) -> u32 {
        let uniform = self.uniform();
        let scores = &mut self.scores;
        filters::temperature(scores, best, self.params.temperature);
        if let Some(k) = self.params.top_k {
            filters::top_k(scores, k);
        }
        filters::top_p(scores, self.params.top_p);
        filters::min_p(scores, self.params.min_p);
        filters::draw(scores, uniform).unwrap_or(best)
    }
}

#[cfg(test)]
mod tests;
