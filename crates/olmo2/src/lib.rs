#![cfg_attr(feature = "demo", doc = include_str!("../../../README.md"))]
#![cfg_attr(
    not(feature = "demo"),
    doc = "OLMo 2 and Olmo 3 as a generic burn module."
)]
#![deny(missing_docs)]

mod backend;
mod cache;
mod checkpoint;
pub mod config;
pub mod convert;
#[cfg(feature = "demo")]
pub mod demo;
mod foreign;
pub mod format;
mod forward;
mod generate;
mod hint;
mod load;
mod model;
mod nn;
mod precision;
mod quantize;
pub mod sampling;
mod storage;
mod text;
pub mod weights;

/// Ids and revisions of the Hugging Face hub.
#[cfg(feature = "hub")]
pub use olmo2_hub as hub;

pub use backend::Capabilities;
pub use cache::{CacheDtype, CacheDtypeError, CacheOptions, KvCache, PREFILL_CHUNK};
pub use checkpoint::{Checkpoint, CheckpointError};
pub use config::generation::{GenerationConfig, GenerationConfigError};
pub use config::json::JsonError;
pub use config::{ConfigError, Olmo2Config};
pub use format::record;
pub use forward::{ForwardInput, ForwardOutput, InputError, LogitRows};
pub use generate::{
    Chunks, DEFAULT_NEW_TOKENS, DOLMA2_TOKENS, FinishReason, GenerateError, GenerateParams,
    Generation, PositionLimit, Session, TextStream, Timings, chunk_len, prefill,
};
pub use hint::Hint;
pub use load::{LoadError, LoadOptions};
pub use model::loss::causal_lm_loss;
pub use model::{Attention, Decoder, DecoderLayer, Mlp, Olmo2};
pub use nn::{Embedding, Linear, RmsNorm, RotaryEmbedding};
pub use precision::{Precision, PrecisionError};
pub use quantize::{Quantize, QuantizeError};
pub use sampling::{Sampler, SamplingError, SamplingParams};
pub use storage::{Packed, QuantFormat, UnknownFormat, Weight};
pub use text::chat::{ChatError, ChatTemplate, Message};
pub use text::tokenizer::Tokenizer;
pub use text::{chat, tokenizer};
pub use weights::layout;
pub use weights::{StoredTensor, StoredWeight, Weights, WeightsError};
