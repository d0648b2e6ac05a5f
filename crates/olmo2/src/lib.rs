//! OLMo 2 as a generic burn module.
#![deny(missing_docs)]

pub mod config;
pub mod layout;
pub mod rope;
mod safetensors;
pub mod weights;

pub use config::{ConfigError, Olmo2Config};
pub use weights::{StoredTensor, Weights, WeightsError};
