//! Rotary position embedding: inverse frequencies for each rope type, and the tables of a pass.
//!
//! Formulas are those of transformers' `modeling_rope_utils.py`. Tables are f32 whatever the
//! model computes in: in bf16 the positions above 256 are no longer exact.

use burn::prelude::*;
use burn::tensor::{DType, TensorData};
use serde::Deserialize;

use crate::config::ConfigError;

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
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct RopeParameters {
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

    /// Joins the two spellings; where both are given, `rope_parameters` wins field by field.
    pub(crate) fn resolve(
        theta: Option<f64>,
        scaling: Option<RopeParameters>,
        parameters: Option<RopeParameters>,
        max_position_embeddings: usize,
    ) -> Result<Self, ConfigError> {
        let fields = parameters
            .unwrap_or_default()
            .or(scaling.unwrap_or_default());
        let theta = fields.rope_theta.or(theta).unwrap_or(10000.0);
        if !(theta.is_finite() && theta > 1.0) {
            return Err(ConfigError::field("rope_theta", "a number above 1", theta));
        }
        if let Some(part) = fields.partial_rotary_factor.filter(|part| *part != 1.0) {
            return Err(ConfigError::field("partial_rotary_factor", "1", part));
        }
        let kind = fields.kind(max_position_embeddings)?;
        Ok(Self { theta, kind })
    }
}

impl RopeParameters {
    fn or(self, other: Self) -> Self {
        Self {
            rope_type: self.rope_type.or(other.rope_type),
            legacy_type: self.legacy_type.or(other.legacy_type),
            rope_theta: self.rope_theta.or(other.rope_theta),
            partial_rotary_factor: self.partial_rotary_factor.or(other.partial_rotary_factor),
            factor: self.factor.or(other.factor),
            original_max_position_embeddings: self
                .original_max_position_embeddings
                .or(other.original_max_position_embeddings),
            attention_factor: self.attention_factor.or(other.attention_factor),
            beta_fast: self.beta_fast.or(other.beta_fast),
            beta_slow: self.beta_slow.or(other.beta_slow),
            mscale: self.mscale.or(other.mscale),
            mscale_all_dim: self.mscale_all_dim.or(other.mscale_all_dim),
            truncate: self.truncate.or(other.truncate),
            low_freq_factor: self.low_freq_factor.or(other.low_freq_factor),
            high_freq_factor: self.high_freq_factor.or(other.high_freq_factor),
        }
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
            beta_fast: positive("beta_fast", self.beta_fast.or(Some(32.0)), 0.0)?,
            beta_slow: positive("beta_slow", self.beta_slow.or(Some(1.0)), 0.0)?,
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

/// The rope of one kind of layer: turns positions into tables of cosines and sines.
///
/// OLMo 2 has one for all layers; the type is apart so that a layer can hold another.
#[derive(Debug, Clone, PartialEq)]
pub struct RotaryEmbedding {
    config: RopeConfig,
    head_dim: usize,
    /// `[head_dim / 2]`, of every rope type but the dynamic one beyond its trained length.
    inv_freq: Vec<f32>,
    attention_scaling: f32,
}

impl RotaryEmbedding {
    /// Computes the inverse frequencies once.
    pub fn new(config: RopeConfig, head_dim: usize) -> Self {
        let inv_freq = inv_freq(&config, head_dim);
        let attention_scaling = match config.kind {
            RopeKind::Yarn {
                attention_factor, ..
            } => attention_factor as f32,
            _ => 1.0,
        };
        Self {
            config,
            head_dim,
            inv_freq,
            attention_scaling,
        }
    }

    /// The longest length after a pass that reaches `length`, when `longest` was the longest so
    /// far (0 for a fresh sequence).
    ///
    /// transformers' `dynamic_frequency_update`: grows with the length, and falls back to the
    /// trained length when a pass is shorter than that. Only dynamic rope has this state.
    pub fn longest(&self, longest: usize, length: usize) -> usize {
        match self.config.kind {
            RopeKind::Dynamic { trained, .. } if length < trained => trained,
            RopeKind::Dynamic { trained, .. } => longest.max(length).max(trained),
            _ => 0,
        }
    }

    /// Inverse frequencies `[head_dim / 2]` of a sequence whose longest length is `longest`.
    pub fn inv_freq(&self, longest: usize) -> std::borrow::Cow<'_, [f32]> {
        match self.config.kind {
            RopeKind::Dynamic { factor, trained } if longest > trained => {
                let dim = self.head_dim as f64;
                let grown = factor * longest as f64 / trained as f64 - (factor - 1.0);
                let base = self.config.theta * grown.powf(dim / (dim - 2.0));
                geometric(base, self.head_dim).into()
            }
            _ => (&self.inv_freq).into(),
        }
    }

    /// Appends cosines and sines of one position, `[head_dim / 2]` each, scaled.
    pub(crate) fn push(
        &self,
        inv_freq: &[f32],
        position: usize,
        cos: &mut Vec<f32>,
        sin: &mut Vec<f32>,
    ) {
        for &freq in inv_freq {
            // The angle is rounded to f32, as torch rounds it; its cosine is then exact.
            let angle = f64::from(position as f32 * freq);
            cos.push(angle.cos() as f32 * self.attention_scaling);
            sin.push(angle.sin() as f32 * self.attention_scaling);
        }
    }
}

/// Tables of one pass, f32, shaped `[rows, seq, 1, head_dim]` to broadcast over heads; `rows` is
/// 1 where all rows of the batch stand at the same positions.
#[derive(Debug, Clone)]
pub struct Rotation<B: Backend> {
    cos: Tensor<B, 4>,
    /// Its first half is negated, so that a rotation by halves is one permutation.
    sin: Tensor<B, 4>,
    /// `[head_dim]`: the second half of a head, then the first.
    swap: Tensor<B, 1, Int>,
}

impl<B: Backend> Rotation<B> {
    /// Uploads the tables: `cos`, `sin` are `[rows, seq, head_dim / 2]`.
    pub(crate) fn new(
        cos: &[f32],
        sin: &[f32],
        [rows, seq, half]: [usize; 3],
        device: &B::Device,
    ) -> Self {
        let shape = [rows, seq, 1, 2 * half];
        let doubled = |table: &[f32], sign: f32| {
            let full = table
                .chunks_exact(half)
                .flat_map(|row| row.iter().map(move |x| sign * x).chain(row.iter().copied()))
                .collect::<Vec<_>>();
            Tensor::from_data(TensorData::new(full, shape), (device, DType::F32))
        };
        let swap = (half..2 * half)
            .chain(0..half)
            .map(|i| i as i32)
            .collect::<Vec<_>>();
        Self {
            cos: doubled(cos, 1.0),
            sin: doubled(sin, -1.0),
            swap: Tensor::from_data(TensorData::new(swap, [2 * half]), device),
        }
    }

    /// Rotates halves: `x * cos + cat(-x2, x1) * sin`, in f32, cast back.
    ///
    /// # Shapes
    /// - `x`: `[batch, seq, heads, head_dim]`, returned in the same shape and dtype
    pub fn apply(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let dtype = x.dtype();
        let x = x.cast(DType::F32);
        let swapped = x.clone().select(3, self.swap.clone());
        (x * self.cos.clone() + swapped * self.sin.clone()).cast(dtype)
    }
}

/// `theta^(-2i / dim)` in f32, as torch computes it.
fn geometric(theta: f64, dim: usize) -> Vec<f32> {
    (0..dim / 2)
        .map(|i| 1.0 / (theta as f32).powf(2.0 * i as f32 / dim as f32))
        .collect()
}

fn inv_freq(config: &RopeConfig, dim: usize) -> Vec<f32> {
    let base = geometric(config.theta, dim);
    match config.kind {
        RopeKind::Default | RopeKind::Dynamic { .. } => base,
        RopeKind::Linear { factor } => base.iter().map(|f| f / factor as f32).collect(),
        RopeKind::Llama3 {
            factor,
            low_freq_factor: low,
            high_freq_factor: high,
            original,
        } => {
            let smooth = |freq: f32| {
                let turns = original as f64 * f64::from(freq) / std::f64::consts::TAU;
                let keep = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                (f64::from(freq) * ((1.0 - keep) / factor + keep)) as f32
            };
            base.into_iter().map(smooth).collect()
        }
        RopeKind::Yarn {
            factor,
            original,
            beta_fast,
            beta_slow,
            truncate,
            ..
        } => {
            let at = |turns: f64| {
                let ratio = original as f64 / (turns * std::f64::consts::TAU);
                dim as f64 * ratio.ln() / (2.0 * config.theta.ln())
            };
            let (low, high) = match truncate {
                true => (at(beta_fast).floor(), at(beta_slow).ceil()),
                false => (at(beta_fast), at(beta_slow)),
            };
            let (low, high) = (low.max(0.0), high.min(dim as f64 - 1.0));
            let width = if high == low { 0.001 } else { high - low };
            let blend = |(i, freq): (usize, f32)| {
                let interpolated = ((i as f64 - low) / width).clamp(0.0, 1.0);
                let freq = f64::from(freq);
                (freq / factor * interpolated + freq * (1.0 - interpolated)) as f32
            };
            base.into_iter().enumerate().map(blend).collect()
        }
    }
}
