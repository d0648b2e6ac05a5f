#![cfg_attr(feature = "demo", doc = include_str!("../../../README.md"))]
#![cfg_attr(not(feature = "demo"), doc = "OLMo 2 as a generic burn module.")]
#![deny(missing_docs)]

mod attention;
mod cache;
mod cast;
pub mod chat;
pub mod config;
pub mod convert;
#[cfg(feature = "demo")]
pub mod demo;
mod generate;
pub mod generation_config;
#[cfg(feature = "hub")]
pub mod hub;
mod input;
mod json;
pub mod layout;
mod linear;
mod load;
mod loss;
mod mask;
mod model;
mod norm;
mod packed;
mod pass;
mod plan;
mod precision;
mod quantize;
pub mod record;
pub mod rope;
mod safetensors;
pub mod sampling;
pub mod tokenizer;
pub mod weights;

pub use cache::{CacheDtype, CacheDtypeError, CacheOptions, KvCache};
pub use chat::{ChatError, ChatTemplate, Message};
pub use config::{ConfigError, Olmo2Config};
pub use generate::{
    DOLMA2_TOKENS, FinishReason, GenerateError, GenerateParams, Generation, Session, Timings,
};
pub use generation_config::{GenerationConfig, GenerationConfigError};
pub use input::{ForwardInput, ForwardOutput, InputError, LogitRows};
pub use json::JsonError;
pub use linear::{Embedding, Linear, Weight};
pub use load::{LoadError, LoadOptions};
pub use loss::causal_lm_loss;
pub use model::{Attention, Decoder, DecoderLayer, Mlp, Olmo2};
pub use norm::RmsNorm;
pub use packed::{Packed, QuantFormat};
pub use precision::{Precision, PrecisionError};
pub use quantize::{Quantize, QuantizeError};
pub use sampling::{Sampler, SamplingError, SamplingParams};
pub use tokenizer::Tokenizer;
pub use weights::{StoredTensor, StoredWeight, Weights, WeightsError};
