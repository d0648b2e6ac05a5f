//! The small OLMo 2 of `assets/demo`, embedded: it runs without network and download.
//!
//! An ordinary Hugging Face folder, made by `cargo xtask train-demo`; its model card is
//! `assets/demo/README.md`.

use std::path::Path;

use burn::prelude::*;

use crate::config::generation::{GenerationConfig, GenerationConfigError};
use crate::config::{ConfigError, Olmo2Config};
use crate::format;
use crate::load::{LoadError, LoadOptions};
use crate::model::Olmo2;
use crate::text::chat::{ChatError, ChatTemplate};
use crate::text::tokenizer::{Tokenizer, TokenizerError};
use crate::weights::{Weights, WeightsError};

/// `config.json`.
pub const CONFIG: &str = include_str!("../assets/demo/config.json");
/// `generation_config.json`.
pub const GENERATION_CONFIG: &str = include_str!("../assets/demo/generation_config.json");
/// `tokenizer.json`.
pub const TOKENIZER: &str = include_str!("../assets/demo/tokenizer.json");
/// `tokenizer_config.json`, with the chat template.
pub const TOKENIZER_CONFIG: &str = include_str!("../assets/demo/tokenizer_config.json");

/// `model.safetensors`, aligned so that its elements can be read in place.
static WEIGHTS: &Aligned<[u8]> = &Aligned(*include_bytes!("../assets/demo/model.safetensors"));

#[repr(align(64))]
struct Aligned<T: ?Sized>(T);

/// The architecture.
///
/// # Errors
/// None in a build whose tests pass, as for all functions here.
pub fn config() -> Result<Olmo2Config, ConfigError> {
    Olmo2Config::from_json(CONFIG)
}

/// The defaults for generation.
///
/// # Errors
/// As [`config`].
pub fn generation_config() -> Result<GenerationConfig, GenerationConfigError> {
    GenerationConfig::from_bytes(GENERATION_CONFIG.as_bytes())
}

/// The tokenizer.
///
/// # Errors
/// As [`config`].
pub fn tokenizer() -> Result<Tokenizer, TokenizerError> {
    Tokenizer::from_bytes(TOKENIZER.as_bytes(), Some(TOKENIZER_CONFIG.as_bytes()))
}

/// The chat template: that of OLMo 2 Instruct.
///
/// # Errors
/// As [`config`].
pub fn chat_template() -> Result<Option<ChatTemplate>, ChatError> {
    ChatTemplate::from_bytes(None, Some(TOKENIZER_CONFIG.as_bytes()))
}

/// The weights; their memory is that of the program.
///
/// # Errors
/// As [`config`].
pub fn weights(config: &Olmo2Config) -> Result<Weights, WeightsError> {
    let bytes = bytes::Bytes::from_static(&WEIGHTS.0);
    format::from_safetensors(config, Path::new("the embedded model"), &bytes)
}

/// Loads the model.
///
/// # Errors
/// The backend does not compute in the precision asked for.
pub fn load<B: Backend>(options: &LoadOptions, device: &B::Device) -> Result<Olmo2<B>, LoadError> {
    let config = config()?;
    Olmo2::from_weights(&config, &weights(&config)?, options, device)
}
