//! Rotary position embedding: inverse frequencies for each rope type, and the tables of a pass.
//!
//! Formulas are those of transformers' `modeling_rope_utils.py`. Tables are f32 whatever the
//! model computes in: in bf16 the positions above 256 are no longer exact.

use burn::prelude::*;
use burn::tensor::{DType, TensorData};

use crate::config::{RopeConfig, RopeKind};

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
pub(crate) struct Rotation<B: Backend> {
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

    /// Cosines and sines, for own kernels.
    pub(crate) fn tables(&self) -> [&Tensor<B, 4>; 2] {
        [&self.cos, &self.sin]
    }

    /// Parts heads: `[batch, seq, heads * head_dim]` to `[batch, seq, heads, head_dim]`.
    pub(crate) fn heads(&self, x: Tensor<B, 3>) -> Tensor<B, 4> {
        let ([batch, seq, width], head_dim) = (x.dims(), self.cos.dims()[3]);
        x.reshape([batch, seq, width / head_dim, head_dim])
    }

    /// Rotates halves: `x * cos + cat(-x2, x1) * sin`, in f32, cast back.
    ///
    /// # Shapes
    /// - `x`: `[batch, seq, heads, head_dim]`, returned in the same shape and dtype
    pub(crate) fn apply(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
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
