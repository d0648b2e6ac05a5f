//! Formats of checkpoints on disk: each opens to [`Weights`].

pub mod record;
mod safetensors;

use std::path::Path;

use crate::config::Olmo2Config;
use crate::weights::{Weights, WeightsError};

pub use safetensors::{
    SafetensorsError, from_bytes as from_safetensors, write as write_safetensors,
};

/// Maps the weights of a folder: a record if it holds one, otherwise safetensors files.
///
/// Only headers are read.
///
/// # Errors
/// A folder without weights, a damaged file, or a tensor that does not fit `config`; see
/// [`WeightsError`].
pub fn open(folder: &Path, config: &Olmo2Config) -> Result<Weights, WeightsError> {
    match record::Receipt::read(folder)? {
        Some(receipt) => record::open(folder, config, &receipt),
        None => safetensors::open(folder, config).map_err(|error| explain(folder, config, error)),
    }
}

/// The cause of tensors that do not fit a config by which another tool quantized them.
fn explain(folder: &Path, config: &Olmo2Config, error: WeightsError) -> WeightsError {
    let is_of_tensors = matches!(
        error,
        WeightsError::Surplus { .. }
            | WeightsError::Missing { .. }
            | WeightsError::Mismatch {
                what: "dtype" | "shape",
                ..
            }
    );
    match &config.quantization {
        Some(method) if is_of_tensors => WeightsError::Quantized {
            folder: folder.to_owned(),
            method: method.clone(),
        },
        _ => error,
    }
}
