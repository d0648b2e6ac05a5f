//! The parameters of a sampler, their ranges, and the errors of sampling.

use crate::hint::Hint;

use serde::{Deserialize, Serialize};

/// How the next token is chosen. The default is greedy decoding with nothing else on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingParams {
    /// Divides the logits; 0 (the default) is greedy decoding. At least 0.
    pub temperature: f32,
    /// Keeps the `k` largest logits, and those equal to the smallest of them. `None` or 0: all.
    pub top_k: Option<usize>,
    /// Keeps the fewest most likely tokens whose probabilities reach this sum, the one that
    /// crosses it included. From 0 (one token) to 1 (all).
    pub top_p: f32,
    /// Drops tokens less likely than this share of the most likely one. From 0 (off) to 1.
    pub min_p: f32,
    /// Divides positive logits of ids seen in prompt or output, and multiplies negative ones
    /// (transformers). Above 0; 1 is off.
    pub repetition_penalty: f32,
    /// Subtracted from the logits of ids in the output so far (OpenAI). From -2 to 2; 0 is off.
    pub presence_penalty: f32,
    /// Subtracted once for each time that an id is in the output so far (OpenAI). From -2 to 2.
    pub frequency_penalty: f32,
    /// Added to the logits of these ids (OpenAI), from -100 to 100 each; an id given twice gets
    /// both.
    pub logit_bias: Vec<(u32, f32)>,
    /// Seeds the generator; `None` draws a seed, which [`Sampler::seed`](super::Sampler::seed)
    /// returns.
    pub seed: Option<u64>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: None,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: None,
        }
    }
}

impl SamplingParams {
    /// Whether the most likely token is chosen each time.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// Whether a bias or penalty may change the order of the logits.
    pub(super) fn changes_scores(&self) -> bool {
        !self.logit_bias.is_empty()
            || self.repetition_penalty != 1.0
            || self.presence_penalty != 0.0
            || self.frequency_penalty != 0.0
    }

    /// Checks every field against its range.
    ///
    /// # Errors
    /// [`SamplingError::OutOfRange`] names the first field that is out of its range, NaN included.
    pub fn validate(&self) -> Result<(), SamplingError> {
        let check = |field, allowed, found: f32, ok: bool| {
            if ok {
                Ok(())
            } else {
                Err(SamplingError::OutOfRange {
                    field,
                    allowed,
                    found,
                })
            }
        };
        // Every test is a comparison that NaN fails.
        let t = self.temperature;
        check("temperature", "0 or more", t, (0.0..=f32::MAX).contains(&t))?;
        let p = self.top_p;
        check("top_p", "from 0 to 1", p, (0.0..=1.0).contains(&p))?;
        let p = self.min_p;
        check("min_p", "from 0 to 1", p, (0.0..=1.0).contains(&p))?;
        let p = self.repetition_penalty;
        let positive = p > 0.0 && p <= f32::MAX;
        check("repetition_penalty", "above 0", p, positive)?;
        let p = self.presence_penalty;
        check("presence_penalty", "from -2 to 2", p, p.abs() <= 2.0)?;
        let p = self.frequency_penalty;
        check("frequency_penalty", "from -2 to 2", p, p.abs() <= 2.0)?;
        for &(_, bias) in &self.logit_bias {
            check("logit_bias", "from -100 to 100", bias, bias.abs() <= 100.0)?;
        }
        Ok(())
    }
}

/// Why no token could be sampled.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SamplingError {
    /// A parameter outside its range.
    #[error("`{field}` must be {allowed}, found {found}")]
    OutOfRange {
        /// The field of [`SamplingParams`].
        field: &'static str,
        /// Its range, in words.
        allowed: &'static str,
        /// The value.
        found: f32,
    },
    /// A bias for an id that is never sampled.
    #[error("`logit_bias` names token id {id}, expected an id below {allowed}")]
    UnknownBiasId {
        /// The id that was given.
        id: u32,
        /// The number of ids that may be sampled.
        allowed: usize,
    },
    /// A logit, or a logit after bias and penalties, that is NaN or +inf.
    #[error("the logit of token id {id} must be finite or -inf, found {found}")]
    NotFinite {
        /// The first such id.
        id: u32,
        /// Its value.
        found: f32,
    },
    /// No logits at all, or all of them -inf.
    #[error("no token can be sampled: all of {candidates} logits are -inf")]
    NothingToSample {
        /// How many logits there were.
        candidates: usize,
    },
}

impl Hint for SamplingError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::OutOfRange { .. } => return None,
            Self::UnknownBiasId { .. } => "ids beyond the tokenizer's size are padding",
            Self::NotFinite { .. } | Self::NothingToSample { .. } => {
                "the weights contain NaN or infinities, or the arithmetic overflowed, as OLMo 2 does in \
                 f16: compute in f32, and compare the weights with their source"
            }
        };
        Some(hint.to_owned())
    }
}
