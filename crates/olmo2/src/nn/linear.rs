//! The holders of weight matrices, and where a weight decides its product.

use burn::module::Param;
use burn::nn::Initializer;
use burn::prelude::*;
use burn::tensor::activation::silu;
use burn::tensor::{DType, TensorData};

use crate::backend;
use crate::precision::Precision;
use crate::storage::{Packed, Weight};

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
}

/// Multiplies one input by several weights: q, k and v.
///
/// A backend with an own kernel for the weight's format does it in one pass over memory; every
/// other multiplies by a transposed view, in the dtype of `x`.
///
/// # Shapes
/// - `x`: `[batch, seq, in]`
/// - returns: `[batch, seq, out]` for each weight, in the dtype of `x`
pub(crate) fn project<B: Backend, const N: usize>(
    x: Tensor<B, 3>,
    precision: Precision,
    linears: [&Linear<B>; N],
) -> [Tensor<B, 3>; N] {
    let [batch, seq, input] = x.dims();
    let rows = x.reshape([batch * seq, input]);
    let products = backend::project(&rows, precision.rounding(), linears)
        .unwrap_or_else(|| linears.map(|linear| product(rows.clone(), linear)));
    products.map(|y| {
        let out = y.dims()[1];
        y.reshape([batch, seq, out])
    })
}

/// `silu(gate(x)) * up(x)`, under the same conditions in one call.
///
/// # Shapes
/// - `x`: `[batch, seq, in]`
/// - returns: `[batch, seq, out]` in the dtype of `x`
pub(crate) fn project_gated<B: Backend>(
    x: Tensor<B, 3>,
    precision: Precision,
    gate: &Linear<B>,
    up: &Linear<B>,
) -> Tensor<B, 3> {
    let [batch, seq, input] = x.dims();
    let rows = x.reshape([batch * seq, input]);
    let y = backend::project_gated(&rows, precision.rounding(), [gate, up])
        .unwrap_or_else(|| silu(product(rows.clone(), gate)) * product(rows, up));
    let out = y.dims()[1];
    y.reshape([batch, seq, out])
}

/// The product in burn's operations.
fn product<B: Backend>(x: Tensor<B, 2>, linear: &Linear<B>) -> Tensor<B, 2> {
    let dtype = x.dtype();
    let weight = linear.weight.tensor(dtype, &x.device());
    let y = x.matmul(weight.transpose());
    match &linear.bias {
        Some(bias) => y + bias.val().cast(dtype).unsqueeze(),
        None => y,
    }
}

/// The matrix of the vocabulary: rows are looked up at the entrance, and at the exit, where it is
/// tied to the head, multiplied.
#[derive(Module, Debug)]
pub struct Embedding<B: Backend> {
    /// `[vocab_size, hidden_size]`.
    pub weight: Weight<B>,
}

impl<B: Backend> Embedding<B> {
    /// Normal weights of standard deviation `std`.
    pub fn new([vocab, hidden]: [usize; 2], std: f64, device: &B::Device) -> Self {
        Self {
            weight: Weight::normal([vocab, hidden], std, device),
        }
    }

    /// Looks ids up.
    ///
    /// # Shapes
    /// - `ids`: `[batch, seq]`
    /// - returns: `[batch, seq, hidden_size]` in `dtype`
    ///
    /// # Panics
    /// An id that the matrix has no row for.
    pub fn forward(&self, ids: Tensor<B, 2, Int>, dtype: DType) -> Tensor<B, 3> {
        let rows = match &self.weight {
            Weight::Float(param) => burn::tensor::module::embedding(param.val(), ids),
            Weight::Packed(packed) => look_up(packed, ids),
        };
        rows.cast(dtype)
    }

    /// The head that is tied to this matrix.
    pub(crate) fn as_head(&self) -> Linear<B> {
        Linear {
            weight: self.weight.clone(),
            bias: None,
        }
    }
}

/// Rows of a packed matrix, `[batch, seq, hidden_size]` in f32.
fn look_up<B: Backend>(packed: &Packed, ids: Tensor<B, 2, Int>) -> Tensor<B, 3> {
    let ([batch, seq], [_, hidden]) = (ids.dims(), *packed.shape());
    let device = ids.device();
    let ids = ids.into_data();
    let mut rows = vec![0.0; batch * seq * hidden];
    for (id, row) in ids.iter::<i64>().zip(rows.chunks_exact_mut(hidden)) {
        packed.row(usize::try_from(id).expect("an id is not negative"), row);
    }
    let data = TensorData::new(rows, [batch, seq, hidden]);
    Tensor::from_data(data, (&device, DType::F32))
}
