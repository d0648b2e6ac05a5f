//! From a folder to a model: a record or a Hugging Face checkpoint, mapped, not copied.

use std::path::Path;

use burn::prelude::*;
use burn::tensor::DType;
use burn_store::ModuleSnapshot;
use thiserror::Error;

use crate::backend::Capabilities;
use crate::config::{ConfigError, Olmo2Config};
use crate::format;
use crate::hint::Hint;
use crate::model::Olmo2;
use crate::precision::{Precision, PrecisionError};
use crate::quantize::{Quantize, QuantizeError};
use crate::storage::{Packed, Weight};
use crate::weights::{StoredWeight, Weights, WeightsError};

/// How a model is loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// What the model computes in; weights keep the dtype that they are stored in, where the
    /// backend reads it.
    pub precision: Precision,
    /// Matrices that are quantized on the way, one after another, into memory of their own; `None`
    /// takes the weights as they are stored. `Some` asks for the formats that it names: weights
    /// that are stored in others are refused.
    pub quantize: Option<Quantize>,
}

/// Why a model could not be loaded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// `config.json`.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The quantization asked for.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// The backend.
    #[error(transparent)]
    Precision(#[from] PrecisionError),
    /// burn refused a tensor that was checked before.
    #[error("burn did not take the weights: {0}")]
    Apply(String),
}

impl Hint for LoadError {
    fn inner(&self) -> Option<&(dyn Hint + 'static)> {
        match self {
            Self::Config(e) => Some(e),
            Self::Weights(e) => Some(e),
            Self::Quantize(e) => Some(e),
            Self::Precision(e) => Some(e),
            _ => None,
        }
    }
}

impl Weights {
    /// Peak bytes needed to load these weights on a backend with these capabilities.
    ///
    /// Backends with in-place kernels keep the stored or quantized form. Others convert to the
    /// compute dtype and, until done, also hold blocks quantized on the way.
    pub fn load_bytes(&self, options: &LoadOptions, capabilities: &Capabilities) -> u64 {
        let precision = options.precision;
        let bytes = self.iter().map(|(name, weight)| {
            let shape = weight.shape();
            let format = options
                .quantize
                .and_then(|choice| choice.format_of(name, shape));
            let quantized = match (format, shape) {
                (Some(format), &[out, input]) => Some(format.bytes([out, input])),
                _ => None,
            };
            let stored = format.map_or(weight.format(), Into::into);
            match capabilities.reads_in_place(precision, stored) {
                true => quantized.unwrap_or(weight.byte_len()),
                false => {
                    let elements: u64 = shape.iter().map(|&dim| dim as u64).product();
                    let converted = elements * precision.compute().size() as u64;
                    // Blocks of a record are widened from the map and take no memory of their own.
                    let blocks = quantized.filter(|_| weight.float().is_some());
                    converted + blocks.unwrap_or_default()
                }
            }
        });
        bytes.sum()
    }
}

impl<B: Backend> Olmo2<B> {
    /// Loads a record or a Hugging Face folder of safetensors.
    ///
    /// # Errors
    /// The config or the weights are not those of an OLMo 2 or Olmo 3 model, or the backend does not
    /// compute in the precision asked for.
    pub fn load(
        folder: &Path,
        options: &LoadOptions,
        device: &B::Device,
    ) -> Result<Self, LoadError> {
        let config = Olmo2Config::from_folder(folder)?;
        let weights = format::open(folder, &config)?;
        Self::from_weights(&config, &weights, options, device)
    }

    /// A model of weights that are already mapped or made.
    ///
    /// On a backend with kernels for what is stored the model shares the memory of `weights`;
    /// elsewhere each is widened to what the backend computes in, once, quantized blocks too.
    ///
    /// # Errors
    /// `weights` were checked against another config or cannot be quantized as asked for, or the
    /// backend does not compute in the precision asked for.
    pub fn from_weights(
        config: &Olmo2Config,
        weights: &Weights,
        options: &LoadOptions,
        device: &B::Device,
    ) -> Result<Self, LoadError> {
        let precision = options.precision;
        let capabilities = Capabilities::of::<B>(device);
        capabilities.check_precision(precision)?;
        let quantized = options
            .quantize
            .map(|quantize| weights.quantized(&quantize));
        let quantized = quantized.transpose()?;
        let weights = quantized.as_ref().unwrap_or(weights);
        let stays_packed =
            |packed: &Packed| capabilities.reads_in_place(precision, packed.format().into());
        let snapshots = weights.snapshots(|weight| match weight {
            // Norms and biases are used in f32 and are small.
            _ if weight.shape().len() == 1 => Some(DType::F32),
            StoredWeight::Float(tensor) => Some(capabilities.stored_dtype(precision, tensor.dtype)),
            StoredWeight::Packed(packed) if stays_packed(packed) => None,
            StoredWeight::Packed(_) => Some(precision.compute()),
        });
        let mut model = Self::new(config, device).with_precision(precision);
        for (name, weight) in model.matrices_mut() {
            let packed = weights.get(&name).and_then(StoredWeight::packed);
            if let Some(packed) = packed.filter(|packed| stays_packed(packed)) {
                *weight = Weight::Packed(packed.clone());
            }
        }
        let result = model.apply(snapshots, None, None, false);
        match result.is_success() && result.missing.is_empty() && result.unused.is_empty() {
            true => Ok(model),
            false => Err(LoadError::Apply(result.to_string())),
        }
    }
}
