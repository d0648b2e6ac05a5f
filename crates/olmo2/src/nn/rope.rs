//! Rotary position embedding: inverse frequencies of each rope type.
//!
//! Formulas are those of transformers' `modeling_rope_utils.py`.

use crate::config::{RopeConfig, RopeKind};

/// The rope of one layer kind: turns positions into cosines and sines.
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

    /// The longest length of a sequence after a pass that reaches `length`, when it was `rope_len`
    /// before (0 for a fresh sequence).
    ///
    /// transformers' `dynamic_frequency_update`: grows with the length, and falls back to the
    /// trained length when a pass is shorter than that. Only dynamic rope has this state; under any
    /// other type it is 0.
    pub fn rope_len(&self, rope_len: usize, length: usize) -> usize {
        match self.config.kind {
            RopeKind::Dynamic { trained, .. } if length < trained => trained,
            RopeKind::Dynamic { trained, .. } => rope_len.max(length).max(trained),
            _ => 0,
        }
    }

    /// Elements of a head.
    pub(crate) fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Inverse frequencies `[head_dim / 2]` of a sequence whose longest length is `rope_len`.
    pub fn inv_freq(&self, rope_len: usize) -> std::borrow::Cow<'_, [f32]> {
        match self.config.kind {
            RopeKind::Dynamic { factor, trained } if rope_len > trained => {
                let dim = self.head_dim as f64;
                let grown = factor * rope_len as f64 / trained as f64 - (factor - 1.0);
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
