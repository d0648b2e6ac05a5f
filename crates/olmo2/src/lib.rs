//! OLMo 2 as a generic burn module.
#![deny(missing_docs)]

pub mod config;
pub mod rope;

pub use config::{ConfigError, Olmo2Config};
