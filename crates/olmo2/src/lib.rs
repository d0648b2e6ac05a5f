//! OLMo 2 as a generic burn module.
#![deny(missing_docs)]

mod attention;
mod cache;
mod cast;
pub mod config;
mod input;
mod linear;
mod loss;
mod mask;
mod model;
mod norm;
mod pass;
mod precision;
pub mod rope;

pub use cache::{CacheOptions, KvCache};
pub use config::{ConfigError, Olmo2Config};
pub use input::{ForwardInput, ForwardOutput, InputError, LogitRows};
pub use linear::{Embedding, Linear};
pub use loss::causal_lm_loss;
pub use model::{Attention, Decoder, DecoderLayer, Mlp, Olmo2};
pub use norm::RmsNorm;
pub use precision::{Precision, PrecisionError};
