//! `config.json`: every field that decides the graph, in the spellings of transformers 4 and 5.

pub mod generation;
pub(crate) mod json;
mod layers;
mod rope;
mod unused;

use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use crate::hint::Hint;

use json::JsonError;

use layers::{LayerFields, RopeFields};
use rope::RopeParameters;

pub use layers::{LayerType, SlidingConfig};
pub use rope::{RopeConfig, RopeKind};

/// Olmo 3's `model_type`.
const OLMO3: &str = "olmo3";
/// What Olmo 3 was called before its release.
const RETROFIT: &str = "olmo2-retrofit";
/// The values of `model_type` that run here; `olmo_1124` is what OLMo 2 was called before its
/// release.
const MODEL_TYPES: [&str; 3] = ["olmo2", "olmo_1124", OLMO3];
/// More layers than any checkpoint will have; a corrupt count must not start a long loop.
const MAX_LAYERS: usize = 4096;
/// No dimension of a real model comes near; products of two still fit 64 bits with room.
const MAX_DIMENSION: usize = 1 << 28;

/// The architecture of an OLMo 2 or Olmo 3 checkpoint, checked.
///
/// Field names are those of Hugging Face's `config.json`; what transformers leaves to a default or
/// derives (`num_key_value_heads`, `head_dim`) is resolved here.
#[derive(Debug, Clone, PartialEq)]
pub struct Olmo2Config {
    /// Rows of the embedding and of the head. OLMo 2 pads 100278 tokens to 100352 rows.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Number of decoder layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; query heads share them in groups.
    pub num_key_value_heads: usize,
    /// Width of one head; `hidden_size / num_attention_heads` where the file does not say.
    pub head_dim: usize,
    /// Positions that the model was trained on.
    pub max_position_embeddings: usize,
    /// Added to the mean square in every RMS norm.
    pub rms_norm_eps: f64,
    /// Standard deviation of freshly initialized weights.
    pub initializer_range: f64,
    /// The head is the embedding.
    pub tie_word_embeddings: bool,
    /// The four projections of attention carry a bias.
    pub attention_bias: bool,
    /// Rotary position embedding of layers with full attention: all layers of OLMo 2.
    pub rope: RopeConfig,
    /// The sliding layers of Olmo 3, where there are any.
    pub sliding: Option<SlidingConfig>,
    /// Beginning-of-sequence id; OLMo 2 has none.
    pub bos_token_id: Option<u32>,
    /// Ids that end a text.
    pub eos_token_id: Vec<u32>,
    /// Padding id.
    pub pad_token_id: Option<u32>,
    /// The method by which another tool says that it quantized the weights.
    pub quantization: Option<String>,
}

/// Why a `config.json` was refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read `{path}`: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Not JSON, or a field of another type.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// Another architecture.
    #[error(
        "`model_type` in `config.json`: expected `olmo2` or `olmo3`, found {}",
        found.as_ref().map_or("none".into(), |found| format!("`{found}`"))
    )]
    ModelType {
        /// What the file says, if it does.
        found: Option<String>,
    },
    /// The settings of a trainer.
    #[error("`config.json` is a trainer's: the checkpoint has not been converted")]
    Trainer,
    /// A field that is missing, out of range, or not supported.
    #[error("`{field}` in `config.json`: expected {expected}, found {found}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What would be accepted.
        expected: String,
        /// What the file says.
        found: String,
    },
}

impl ConfigError {
    /// A field whose value cannot be used.
    pub(crate) fn field(
        field: &'static str,
        expected: impl Into<String>,
        found: impl std::fmt::Display,
    ) -> Self {
        Self::Field {
            field,
            expected: expected.into(),
            found: found.to_string(),
        }
    }
}

impl Hint for ConfigError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Io { .. } => Some("a checkpoint is a folder with `config.json`".into()),
            Self::ModelType { found } if found.as_deref() == Some(RETROFIT) => Some(
                "that is Olmo 3 before its release; today's checkpoints of it have `olmo3`".into(),
            ),
            Self::ModelType { .. } => {
                Some("OLMo 2 and Olmo 3 run here; OLMo 1 is another model".into())
            }
            Self::Trainer => Some(
                "convert it for transformers first, by its `convert_olmo2_weights_to_hf.py`".into(),
            ),
            Self::Json(_) | Self::Field { .. } => None,
        }
    }
}

/// The file as it is written; what may be absent is optional.
#[derive(Debug, Deserialize)]
struct RawConfig {
    model_type: Option<String>,
    /// OLMo-core's settings of the model.
    model: Option<serde::de::IgnoredAny>,
    vocab_size: Option<usize>,
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    hidden_act: Option<String>,
    max_position_embeddings: Option<usize>,
    initializer_range: Option<f64>,
    rms_norm_eps: Option<f64>,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    rope_theta: Option<f64>,
    rope_scaling: Option<RopeParameters>,
    rope_parameters: Option<RopeParameters>,
    original_max_position_embeddings: Option<usize>,
    layer_types: Option<Vec<LayerType>>,
    /// Of transformers.
    quantization_config: Option<serde_json::Value>,
    /// Of mlx-lm.
    quantization: Option<serde_json::Value>,
    #[serde(default, deserialize_with = "json::given")]
    sliding_window: Option<Option<usize>>,
    #[serde(default, deserialize_with = "json::optional_id")]
    bos_token_id: Option<u32>,
    #[serde(default = "default_eos", deserialize_with = "json::ids")]
    eos_token_id: Vec<u32>,
    #[serde(default = "default_pad", deserialize_with = "json::optional_id")]
    pad_token_id: Option<u32>,
}

/// transformers' default where the field is absent; an explicit `null` means none.
fn default_eos() -> Vec<u32> {
    vec![50279]
}

fn default_pad() -> Option<u32> {
    Some(1)
}

impl Olmo2Config {
    /// Reads `config.json` of a checkpoint folder.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json), and when the file cannot be read.
    pub fn from_folder(folder: &Path) -> Result<Self, ConfigError> {
        let path = folder.join("config.json");
        let text =
            std::fs::read_to_string(&path).map_err(|source| ConfigError::Io { path, source })?;
        Self::from_json(&text)
    }

    /// Parses and checks the text of a `config.json`.
    ///
    /// Absent fields take the defaults of transformers' `Olmo2Config`.
    ///
    /// # Errors
    /// Another `model_type`, an unknown rope type, an activation other than `silu`, or sizes that
    /// do not fit together.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let raw: RawConfig = json::parse("config.json", text.as_bytes())?;
        let model_type = raw.model_type.as_deref();
        if model_type.is_none() && raw.model.is_some() {
            return Err(ConfigError::Trainer);
        }
        if !model_type.is_some_and(|name| MODEL_TYPES.contains(&name)) {
            let found = raw.model_type;
            return Err(ConfigError::ModelType { found });
        }
        if let Some(act) = raw.hidden_act.as_deref().filter(|act| *act != "silu") {
            return Err(ConfigError::field("hidden_act", "`silu`", act));
        }
        let config = raw.resolve()?;
        config.check()?;
        Ok(config)
    }

    /// Width of all query heads together: rows of `q_proj`.
    pub fn q_size(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Width of all key (or value) heads together: rows of `k_proj`.
    pub fn kv_size(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// Positions that a layer attends to at most, its own among them; `None` for all.
    pub fn window(&self, layer: usize) -> Option<usize> {
        let sliding = self.sliding.as_ref()?;
        let slides = sliding.layer_types.get(layer) == Some(&LayerType::SlidingAttention);
        slides.then_some(sliding.window)
    }

    /// Number of positions that a sequence may have: `max_position_embeddings`, or more where the
    /// rope of full layers stretches it. `None` under dynamic rope, which stretches as the sequence
    /// grows.
    pub fn max_positions(&self) -> Option<usize> {
        self.rope.max_positions(self.max_position_embeddings)
    }

    fn check(&self) -> Result<(), ConfigError> {
        for (field, value, max) in [
            ("vocab_size", self.vocab_size, MAX_DIMENSION),
            ("hidden_size", self.hidden_size, MAX_DIMENSION),
            ("intermediate_size", self.intermediate_size, MAX_DIMENSION),
            ("num_attention_heads", self.num_attention_heads, 1 << 16),
            ("num_key_value_heads", self.num_key_value_heads, 1 << 16),
            ("head_dim", self.head_dim, 1 << 12),
            (
                "max_position_embeddings",
                self.max_position_embeddings,
                MAX_DIMENSION,
            ),
        ] {
            check_size(field, value, max).map_err(|error| match field {
                "head_dim" => {
                    let found = self.head_dim_and_source();
                    ConfigError::field(field, format!("1 to {max}"), found)
                }
                _ => error,
            })?;
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(ConfigError::field(
                "head_dim",
                "an even number",
                self.head_dim_and_source(),
            ));
        }
        if !self
            .num_attention_heads
            .is_multiple_of(self.num_key_value_heads)
        {
            return Err(ConfigError::field(
                "num_key_value_heads",
                format!(
                    "a divisor of `num_attention_heads` {}",
                    self.num_attention_heads
                ),
                self.num_key_value_heads,
            ));
        }
        if !(self.rms_norm_eps.is_finite() && self.rms_norm_eps >= 0.0) {
            return Err(ConfigError::field(
                "rms_norm_eps",
                "a number >= 0",
                self.rms_norm_eps,
            ));
        }
        if !(self.initializer_range.is_finite() && self.initializer_range >= 0.0) {
            let found = self.initializer_range;
            return Err(ConfigError::field(
                "initializer_range",
                "a number >= 0",
                found,
            ));
        }
        Ok(())
    }
}

impl Olmo2Config {
    /// The width of a head, and the fields that it comes of where the file may not name it.
    fn head_dim_and_source(&self) -> String {
        let (hidden, heads) = (self.hidden_size, self.num_attention_heads);
        match self.head_dim.checked_mul(heads) == Some(hidden) {
            true => format!(
                "{}, `hidden_size` {hidden} by `num_attention_heads` {heads}",
                self.head_dim
            ),
            false => self.head_dim.to_string(),
        }
    }
}

impl RawConfig {
    /// Fills in transformers' defaults (`configuration_olmo2.py`).
    fn resolve(self) -> Result<Olmo2Config, ConfigError> {
        let hidden_size = self.hidden_size.unwrap_or(4096);
        let heads = self.num_attention_heads.unwrap_or(32);
        let max_position_embeddings = self.max_position_embeddings.unwrap_or(2048);
        let head_dim = match self.head_dim {
            Some(head_dim) => head_dim,
            None if heads == 0 || !hidden_size.is_multiple_of(heads) => {
                let expected = format!("a divisor of `hidden_size` {hidden_size}");
                return Err(ConfigError::field("num_attention_heads", expected, heads));
            }
            None => hidden_size / heads,
        };
        let num_hidden_layers = self.num_hidden_layers.unwrap_or(32);
        // First, since a list of layers is made of it.
        check_size("num_hidden_layers", num_hidden_layers, MAX_LAYERS)?;
        let ropes = RopeFields {
            theta: self.rope_theta,
            scaling: self.rope_scaling,
            parameters: self.rope_parameters,
            max_position_embeddings,
            original_max_position_embeddings: self.original_max_position_embeddings,
        };
        let [rope, sliding_rope] = ropes.resolve()?;
        let layers = LayerFields {
            is_olmo3: self.model_type.as_deref() == Some(OLMO3),
            num_layers: num_hidden_layers,
            layer_types: self.layer_types,
            sliding_window: self.sliding_window,
        };
        let kinds = layers.resolve()?;
        Ok(Olmo2Config {
            vocab_size: self.vocab_size.unwrap_or(50304),
            hidden_size,
            intermediate_size: self.intermediate_size.unwrap_or(11008),
            num_hidden_layers,
            num_attention_heads: heads,
            num_key_value_heads: self.num_key_value_heads.unwrap_or(heads),
            head_dim,
            max_position_embeddings,
            rms_norm_eps: self.rms_norm_eps.unwrap_or(1e-5),
            initializer_range: self.initializer_range.unwrap_or(0.02),
            tie_word_embeddings: self.tie_word_embeddings.unwrap_or(false),
            attention_bias: self.attention_bias.unwrap_or(false),
            rope,
            sliding: kinds.map(|(window, layer_types)| SlidingConfig {
                window,
                rope: sliding_rope,
                layer_types,
            }),
            bos_token_id: self.bos_token_id,
            eos_token_id: self.eos_token_id,
            pad_token_id: self.pad_token_id,
            quantization: quantization(
                self.quantization_config.as_ref(),
                self.quantization.as_ref(),
            ),
        })
    }
}

fn check_size(field: &'static str, value: usize, max: usize) -> Result<(), ConfigError> {
    match value == 0 || value > max {
        true => Err(ConfigError::field(field, format!("1 to {max}"), value)),
        false => Ok(()),
    }
}

/// Name and bits of the method of another tool.
fn quantization(
    config: Option<&serde_json::Value>,
    mlx: Option<&serde_json::Value>,
) -> Option<String> {
    let of = |fields: &serde_json::Value, name: &str| {
        let bits = fields["bits"].as_u64();
        format!(
            "{name}{}",
            bits.map_or(String::new(), |bits| format!(", {bits} bits"))
        )
    };
    let config = config.filter(|fields| fields.is_object());
    let mlx = mlx.filter(|fields| fields.is_object());
    match (config, mlx) {
        (_, Some(fields)) => Some(of(fields, "`quantization` of mlx")),
        (Some(fields), None) => {
            let method = fields["quant_method"]
                .as_str()
                .unwrap_or("quantization_config");
            let method: String = method
                .chars()
                .filter(|c| !c.is_control())
                .take(40)
                .collect();
            Some(of(fields, &format!("`{method}`")))
        }
        (None, None) => None,
    }
}
