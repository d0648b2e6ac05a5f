//! The embedded model, as the library holds it.

use anyhow::{Result, bail};
use olmo2::chat::ChatTemplate;
use olmo2::generation_config::GenerationConfig;
use olmo2::{Olmo2Config, Tokenizer, Weights};

pub(super) fn config() -> Result<Olmo2Config> {
    bail!("no demo yet")
}

pub(super) fn tokenizer() -> Result<Tokenizer> {
    bail!("no demo yet")
}

pub(super) fn template() -> Result<Option<ChatTemplate>> {
    bail!("no demo yet")
}

pub(super) fn generation() -> Result<GenerationConfig> {
    bail!("no demo yet")
}

pub(super) fn weights(_config: &Olmo2Config) -> Result<Weights> {
    bail!("no demo yet")
}
