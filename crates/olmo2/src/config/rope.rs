//! The rope fields of `config.json`, in the spellings of transformers 4 and 5.

use serde::Deserialize;

use super::ConfigError;

/// The rope fields of `config.json`, resolved from either spelling.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeConfig {
    /// Base of the geometric series of wavelengths.
    pub theta: f64,
    /// How frequencies change beyond the trained length.
    pub kind: RopeKind,
}

/// The rope types, with their parameters.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeKind {
    /// Plain rotary embedding.
    Default,
    /// Positions divided by `factor`.
    Linear {
        /// Ratio of the wanted length to the trained one.
        factor: f64,
    },
    /// NTK scaling whose base grows with the longest length seen.
    Dynamic {
        /// Ratio of the wanted length to the trained one.
        factor: f64,
        /// Length up to which nothing changes.
        trained: usize,
    },
    /// YaRN: interpolation for long wavelengths, extrapolation for short ones.
    Yarn {
        /// Ratio of the wanted length to the trained one.
        factor: f64,
        /// Length before the extension.
        original: usize,
        /// Turns above which a dimension is extrapolated.
        beta_fast: f64,
        /// Turns below which a dimension is interpolated.
        beta_slow: f64,
        /// Scale of cosine and sine.
        attention_factor: f64,
        /// Round the bounds of the ramp to whole dimensions.
        truncate: bool,
    },
    /// Llama 3.1's smoothed scaling.
    Llama3 {
        /// Division of the low frequencies.
        factor: f64,
        /// Wavelengths above `original / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Length before the extension.
        original: usize,
    },
}

/// `rope_scaling` (transformers 4) or `rope_parameters` (transformers 5) as written.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(crate) struct RopeParameters {
    /// The rope of full layers, where the file has one for each kind of layer.
    full_attention: Option<Box<Self>>,
    /// The rope of sliding layers, likewise.
    sliding_attention: Option<Box<Self>>,
    rope_type: Option<String>,
    #[serde(rename = "type")]
    legacy_type: Option<String>,
    rope_theta: Option<f64>,
    partial_rotary_factor: Option<f64>,
    factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
    attention_factor: Option<f64>,
    beta_fast: Option<f64>,
    beta_slow: Option<f64>,
    mscale: Option<f64>,
    mscale_all_dim: Option<f64>,
    truncate: Option<bool>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
}

impl RopeConfig {
    /// Whether the rope stretches beyond the trained length as a sequence grows.
    pub fn is_dynamic(&self) -> bool {
        matches!(self.kind, RopeKind::Dynamic { .. })
    }

    /// Plain rotary embedding.
    pub(super) fn plain(theta: f64) -> Self {
        let kind = RopeKind::Default;
        Self { theta, kind }
    }

    /// Number of positions that the rope reaches in a model of `max_position_embeddings`; `None`
    /// where it stretches as a sequence grows.
    pub fn max_positions(&self, max_position_embeddings: usize) -> Option<usize> {
        let stretched = match self.kind {
            RopeKind::Default => 0.0,
            RopeKind::Linear { factor } => max_position_embeddings as f64 * factor,
            RopeKind::Dynamic { .. } => return None,
            RopeKind::Yarn {
                factor, original, ..
            }
            | RopeKind::Llama3 {
                factor, original, ..
            } => original as f64 * factor,
        };
        Some(max_position_embeddings.max(stretched as usize))
    }
}

impl RopeParameters {
    /// Whether no field is given.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes the ropes of full and of sliding layers out.
    pub(super) fn take_kinds(&mut self) -> [Option<Self>; 2] {
        [&mut self.full_attention, &mut self.sliding_attention]
            .map(|kind| kind.take().map(|kind| *kind))
    }

    /// Checks the fields of one rope; `theta` and `original` stand outside of it in the file.
    pub(super) fn resolve(
        mut self,
        theta: Option<f64>,
        max_position_embeddings: usize,
        original: Option<usize>,
    ) -> Result<RopeConfig, ConfigError> {
        self.original_max_position_embeddings = self.original_max_position_embeddings.or(original);
        let theta = self.rope_theta.or(theta).unwrap_or(10000.0);
        if !(theta.is_finite() && theta > 1.0) {
            return Err(ConfigError::field("rope_theta", "a number above 1", theta));
        }
        if let Some(part) = self.partial_rotary_factor.filter(|part| *part != 1.0) {
            return Err(ConfigError::field("partial_rotary_factor", "1", part));
        }
        let kind = self.kind(max_position_embeddings)?;
        Ok(RopeConfig { theta, kind })
    }

    fn kind(&self, trained: usize) -> Result<RopeKind, ConfigError> {
        let name = self.rope_type.as_deref().or(self.legacy_type.as_deref());
        match name.unwrap_or("default") {
            "default" => Ok(RopeKind::Default),
            "linear" => Ok(RopeKind::Linear {
                factor: self.factor(None)?,
            }),
            "dynamic" => Ok(RopeKind::Dynamic {
                factor: self.factor(None)?,
                trained,
            }),
            "yarn" => self.yarn(trained),
            "llama3" => self.llama3(),
            other => Err(ConfigError::field(
                "rope_type",
                "`default`, `linear`, `dynamic`, `yarn` or `llama3`",
                format!("`{other}`"),
            )),
        }
    }

    fn factor(&self, otherwise: Option<f64>) -> Result<f64, ConfigError> {
        positive("factor", self.factor.or(otherwise), 1.0)
    }

    fn yarn(&self, trained: usize) -> Result<RopeKind, ConfigError> {
        let original = self.original_max_position_embeddings.unwrap_or(trained);
        if original == 0 {
            let field = "original_max_position_embeddings";
            return Err(ConfigError::field(field, "a number above 0", original));
        }
        let factor = self.factor(Some(trained as f64 / original as f64))?;
        let mscale = |m: f64| {
            if factor <= 1.0 {
                1.0
            } else {
                0.1 * m * factor.ln() + 1.0
            }
        };
        let attention_factor = match (self.attention_factor, self.mscale, self.mscale_all_dim) {
            (Some(given), _, _) => given,
            // Python's truth: a zero counts as absent.
            (None, Some(one), Some(all)) if one != 0.0 && all != 0.0 => mscale(one) / mscale(all),
            _ => mscale(1.0),
        };
        Ok(RopeKind::Yarn {
            factor,
            original,
            beta_fast: positive("beta_fast", nonzero_or(self.beta_fast, 32.0), 0.0)?,
            beta_slow: positive("beta_slow", nonzero_or(self.beta_slow, 1.0), 0.0)?,
            attention_factor: positive("attention_factor", Some(attention_factor), 0.0)?,
            truncate: self.truncate.unwrap_or(true),
        })
    }

    fn llama3(&self) -> Result<RopeKind, ConfigError> {
        let low_freq_factor = positive("low_freq_factor", self.low_freq_factor, 0.0)?;
        let high_freq_factor = positive("high_freq_factor", self.high_freq_factor, 0.0)?;
        if high_freq_factor <= low_freq_factor {
            return Err(ConfigError::field(
                "high_freq_factor",
                format!("a number above `low_freq_factor` {low_freq_factor}"),
                high_freq_factor,
            ));
        }
        let original = self.original_max_position_embeddings.unwrap_or(0);
        if original == 0 {
            let field = "original_max_position_embeddings";
            return Err(ConfigError::field(field, "a number above 0", "none"));
        }
        Ok(RopeKind::Llama3 {
            factor: self.factor(None)?,
            low_freq_factor,
            high_freq_factor,
            original,
        })
    }
}

/// Python's `or`: a zero counts as absent.
fn nonzero_or(value: Option<f64>, otherwise: f64) -> Option<f64> {
    value.filter(|value| *value != 0.0).or(Some(otherwise))
}

/// A finite number of at least `least` (above it, where that is 0).
fn positive(field: &'static str, value: Option<f64>, least: f64) -> Result<f64, ConfigError> {
    match value {
        Some(value) if value.is_finite() && value >= least && value > 0.0 => Ok(value),
        found => Err(ConfigError::field(
            field,
            format!("a number of at least {least}"),
            found.map_or("none".into(), |value| value.to_string()),
        )),
    }
}
