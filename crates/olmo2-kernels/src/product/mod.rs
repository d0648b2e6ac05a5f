//! Products of activations with weights that stay as they lie in the file: `[out, in]`,
//! row-major, f32, bf16 or f16, never widened in memory.
//!
//! Up to [`DECODE_ROWS`] rows of activations go through one family of kernels (`decode`)
//! that adds up each output in one order, so that a row alone and the same row in a batch give
//! the same bits, with any number of threads. More rows go through another (`prefill`), where
//! the same holds among them. Between the two, and between levels, the last bits differ.
#![allow(
    unsafe_code,
    reason = "vector loads and stores; threads write disjoint outputs"
)]

mod decode;
mod element;
mod prefill;
#[cfg(test)]
pub(crate) mod tests;

use crate::buffer::SharedMut;
use crate::{level, pool};
use half::{bf16, f16};

/// Most rows of activations that are treated as a decoding step.
pub const DECODE_ROWS: usize = 16;

/// Multiplications below which a second thread costs more than it saves.
const WORK_PER_THREAD: usize = 200_000;

/// The elements of a weight matrix, row-major `[out, in]`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum WeightData<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// bfloat16.
    Bf16(&'a [bf16]),
    /// IEEE 16-bit floats.
    F16(&'a [f16]),
}

impl WeightData<'_> {
    /// How many weights there are.
    #[allow(clippy::len_without_is_empty, reason = "a matrix, not a collection")]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(data) => data.len(),
            Self::Bf16(data) => data.len(),
            Self::F16(data) => data.len(),
        }
    }

    /// One weight, by its place in the row-major order.
    ///
    /// # Panics
    /// There is no such place.
    pub fn get(&self, index: usize) -> f32 {
        match self {
            Self::F32(data) => data[index],
            Self::Bf16(data) => data[index].to_f32(),
            Self::F16(data) => data[index].to_f32(),
        }
    }
}

/// A linear layer's parameters.
#[derive(Clone, Copy, Debug)]
pub struct WeightRef<'a> {
    /// The matrix `[out, in]`; `out` follows from its length.
    pub data: WeightData<'a>,
    /// Added to each row of outputs, `[out]`.
    pub bias: Option<&'a [f32]>,
}

impl<'a> WeightRef<'a> {
    /// A layer without a bias.
    pub fn new(data: WeightData<'a>) -> Self {
        Self { data, bias: None }
    }

    /// The same with a bias `[out]`.
    pub fn with_bias(self, bias: &'a [f32]) -> Self {
        Self {
            bias: Some(bias),
            ..self
        }
    }
}

/// Multiplies one input by several weights in one parallel region:
/// `outputs[i] = x weights[i]^T + bias`, with `x` `[rows, in_features]` and `outputs[i]`
/// `[rows, out_i]`, all row-major.
///
/// The error of an output is at most `(in_features / 4 + 4) * f32::EPSILON` times the sum of
/// its terms' magnitudes for up to [`DECODE_ROWS`] rows, `in_features * f32::EPSILON` times for
/// more; on random data it is below `sqrt(in_features) / 2 + 2` epsilons.
///
/// # Panics
/// `in_features` is 0, or a length does not fit the others.
pub fn project(
    x: &[f32],
    in_features: usize,
    weights: &[WeightRef<'_>],
    outputs: &mut [&mut [f32]],
) {
    let products = check(x, in_features, weights, outputs);
    let rows = x.len() / in_features;
    let work: usize = weights.iter().map(|weight| weight.data.len() * rows).sum();
    if work == 0 {
        return;
    }
    let parts = pool::threads().min(work.div_ceil(WORK_PER_THREAD));
    let input = Input {
        x,
        rows,
        in_features,
        level: level::level(),
        parts,
    };
    if rows <= DECODE_ROWS {
        decode::project(&input, &products);
    } else {
        prefill::project(&input, &products);
    }
}

/// What all products of a call share.
struct Input<'a> {
    x: &'a [f32],
    rows: usize,
    in_features: usize,
    level: level::Level,
    parts: usize,
}

/// One weight with its output.
struct Product<'a> {
    data: WeightData<'a>,
    bias: Option<&'a [f32]>,
    out_features: usize,
    out: SharedMut<'a>,
}

fn check<'a>(
    x: &[f32],
    in_features: usize,
    weights: &[WeightRef<'a>],
    outputs: &'a mut [&mut [f32]],
) -> Vec<Product<'a>> {
    assert_ne!(in_features, 0, "`in_features` is 0");
    assert_eq!(
        x.len() % in_features,
        0,
        "`x` is not a whole number of rows"
    );
    assert_eq!(
        weights.len(),
        outputs.len(),
        "not one output for each weight"
    );
    let rows = x.len() / in_features;
    let pairs = weights.iter().zip(outputs);
    pairs
        .map(|(&WeightRef { data, bias }, out)| {
            assert_eq!(
                data.len() % in_features,
                0,
                "a weight is not a whole number of rows"
            );
            let out_features = data.len() / in_features;
            assert_eq!(
                out.len(),
                rows * out_features,
                "an output's length is not rows * out"
            );
            if let Some(bias) = bias {
                assert_eq!(bias.len(), out_features, "a bias's length is not out");
            }
            Product {
                data,
                bias,
                out_features,
                out: SharedMut::new(out),
            }
        })
        .collect()
}
