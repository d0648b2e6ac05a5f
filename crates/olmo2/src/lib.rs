//! OLMo 2 as a generic burn module.
#![deny(missing_docs)]

mod attention;
mod cache;
mod cast;
pub mod config;
mod generate;
mod input;
mod linear;
mod loss;
mod mask;
mod model;
mod norm;
mod pass;
mod plan;
mod precision;
pub mod rope;
pub mod sampling;
pub mod tokenizer;

pub use cache::{CacheOptions, KvCache};
pub use config::{ConfigError, Olmo2Config};
pub use generate::{
    DOLMA2_TOKENS, FinishReason, GenerateError, GenerateParams, Generation, Session, Timings,
};
pub use input::{ForwardInput, ForwardOutput, InputError, LogitRows};
pub use linear::{Embedding, Linear};
pub use loss::causal_lm_loss;
pub use model::{Attention, Decoder, DecoderLayer, Mlp, Olmo2};
pub use norm::RmsNorm;
pub use precision::{Precision, PrecisionError};
pub use sampling::{Sampler, SamplingError, SamplingParams};
pub use tokenizer::Tokenizer;
