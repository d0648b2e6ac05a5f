//! Why generation could not start or go on.

use std::fmt;

use thiserror::Error;

use crate::forward::InputError;
use crate::hint::Hint;
use crate::sampling::SamplingError;

/// Why generation could not start or go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// The prompt does not fit the model or the cache.
    #[error(transparent)]
    Input(#[from] InputError),
    /// Parameters, or logits, that no token can be chosen by.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// Prompt and output together do not fit.
    #[error(
        "prompt of {prompt} and output of {output} tokens do not fit the {which}'s {limit} positions"
    )]
    TooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Maximum number of tokens to generate.
        output: usize,
        /// Positions that exist.
        limit: usize,
        /// The limit that was reached.
        which: PositionLimit,
    },
}

/// The limit on the positions of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PositionLimit {
    /// The capacity of the cache.
    Context,
    /// [`Olmo2Config::max_positions`](crate::Olmo2Config::max_positions).
    Model,
}

impl fmt::Display for PositionLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Context => "context",
            Self::Model => "model",
        })
    }
}

impl Hint for GenerateError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::TooLong {
                which: PositionLimit::Context,
                ..
            } => "make the context larger, or ask for fewer tokens",
            Self::TooLong { prompt, limit, .. } if prompt >= limit => "shorten the prompt",
            Self::TooLong { .. } => "ask for fewer tokens, or shorten the prompt",
            _ => return self.inner()?.hint(),
        };
        Some(hint.into())
    }

    fn inner(&self) -> Option<&(dyn Hint + 'static)> {
        match self {
            Self::Input(e) => Some(e),
            Self::Sampling(e) => Some(e),
            _ => None,
        }
    }
}
