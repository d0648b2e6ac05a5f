//! Projections, and where several of them read one input.

use burn::module::Param;
use burn::nn::Initializer;
use burn::prelude::*;

use crate::backend::{self, Matmul, MatmulWeight};
use crate::precision::Precision;
use crate::storage::Weight;

/// A projection whose weight lies as in the checkpoint: `[out, in]`, one output's weights in a row.
#[derive(Module, Debug)]
pub struct Linear<B: Backend> {
    /// `[out, in]`.
    pub weight: Weight<B>,
    /// `[out]`.
    pub bias: Option<Param<Tensor<B, 1>>>,
}

impl<B: Backend> Linear<B> {
    /// Normal weights of standard deviation `std`, zero bias.
    pub fn new([out, input]: [usize; 2], bias: bool, std: f64, device: &B::Device) -> Self {
        Self {
            weight: Weight::normal([out, input], std, device),
            bias: bias.then(|| Initializer::Zeros.init([out], device)),
        }
    }

    pub(crate) fn as_weight(&self) -> MatmulWeight<'_, B> {
        MatmulWeight {
            weight: &self.weight,
            bias: self.bias.as_ref().map(Param::val),
        }
    }
}

/// How the rows of a matmul are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rows {
    /// The first rows, which belong to runs of few tokens and go through decode kernels.
    pub(crate) decode: usize,
    /// What the matmul computes in.
    pub(crate) precision: Precision,
}

/// Multiplies one input by several weights: q, k and v.
///
/// # Shapes
/// - `x`: `[1, tokens, in]`
/// - returns: `[1, tokens, out]` for each weight, in the dtype of `x`
pub(crate) fn project<B: Backend, const N: usize>(
    x: Tensor<B, 3>,
    rows: Rows,
    linears: [&Linear<B>; N],
) -> [Tensor<B, 3>; N] {
    let weights = linears.map(Linear::as_weight);
    backend::matmul(&input(x, rows), &weights).map(Tensor::unsqueeze)
}

/// `silu(gate(x)) * up(x)`.
///
/// # Shapes
/// - `x`: `[1, tokens, in]`
/// - returns: `[1, tokens, out]` in the dtype of `x`
pub(crate) fn project_gated<B: Backend>(
    x: Tensor<B, 3>,
    rows: Rows,
    gate: &Linear<B>,
    up: &Linear<B>,
) -> Tensor<B, 3> {
    let weights = [gate, up].map(Linear::as_weight);
    backend::matmul_gated(&input(x, rows), &weights).unsqueeze()
}

fn input<B: Backend>(x: Tensor<B, 3>, rows: Rows) -> Matmul<B> {
    let [batch, tokens, input] = x.dims();
    Matmul {
        x: x.reshape([batch * tokens, input]),
        decode_rows: rows.decode,
        precision: rows.precision,
    }
}
