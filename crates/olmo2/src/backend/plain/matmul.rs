//! Matmuls in the dtype of the input, by a transposed view of the weight.

use burn::prelude::*;
use burn::tensor::activation::silu;

use crate::backend::request::{Matmul, MatmulWeight};

pub(in crate::backend) fn matmul<B: Backend, const N: usize>(
    matmul: &Matmul<B>,
    weights: &[MatmulWeight<'_, B>; N],
) -> [Tensor<B, 2>; N] {
    weights.each_ref().map(|weight| multiply(&matmul.x, weight))
}

pub(in crate::backend) fn matmul_gated<B: Backend>(
    matmul: &Matmul<B>,
    [gate, up]: &[MatmulWeight<'_, B>; 2],
) -> Tensor<B, 2> {
    silu(multiply(&matmul.x, gate)) * multiply(&matmul.x, up)
}

fn multiply<B: Backend>(x: &Tensor<B, 2>, weight: &MatmulWeight<'_, B>) -> Tensor<B, 2> {
    let dtype = x.dtype();
    let matrix = weight.weight.tensor(dtype, &x.device());
    let y = apart(x.clone(), matrix.transpose());
    match &weight.bias {
        Some(bias) => y + bias.clone().cast(dtype).unsqueeze(),
        None => y,
    }
}

/// `x matrix`. Burn's fusion may join a matmul with the operations that read it, and for a single
/// row choose a kernel that misreads a transposed matrix (tracel-ai/cubek#262, mended after 0.2).
/// It joins nothing across a reshape to fewer dimensions, so a single row takes that way.
fn apart<B: Backend>(x: Tensor<B, 2>, matrix: Tensor<B, 2>) -> Tensor<B, 2> {
    let ([rows, input], [_, out]) = (x.dims(), matrix.dims());
    match rows {
        1 => {
            let y = x.reshape([1, 1, input]).matmul(matrix.unsqueeze::<3>());
            y.reshape([1, out])
        }
        _ => x.matmul(matrix),
    }
}
