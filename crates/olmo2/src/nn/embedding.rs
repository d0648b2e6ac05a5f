//! The matrix of the vocabulary: rows are looked up at the entrance, and at the exit, where it is
//! tied to the head, multiplied.

use burn::prelude::*;
use burn::tensor::{DType, TensorData};

use super::linear::Linear;
use crate::storage::{Packed, Weight};

/// A row for each token id.
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

    /// Looks up ids that are on the device.
    ///
    /// # Shapes
    /// - `ids`: `[batch, seq]`
    /// - returns: `[batch, seq, hidden_size]` in `dtype`
    ///
    /// # Panics
    /// An id that the matrix has no row for. Blocks are read on the host, and the ids with them.
    pub fn forward(&self, ids: Tensor<B, 2, Int>, dtype: DType) -> Tensor<B, 3> {
        let param = match &self.weight {
            Weight::Float(param) => param,
            Weight::Packed(packed) => {
                let ([batch, seq], device) = (ids.dims(), ids.device());
                let ids: Vec<u32> = ids.into_data().iter::<u32>().collect();
                let rows = look_up(packed, &ids, dtype, &device);
                return rows.reshape([batch, seq, packed.shape()[1]]);
            }
        };
        burn::tensor::module::embedding(param.val(), ids).cast(dtype)
    }

    /// Looks up ids that are on the host.
    ///
    /// # Shapes
    /// - returns: `[1, ids, hidden_size]` in `dtype`
    ///
    /// # Panics
    /// An id that the matrix has no row for.
    pub(crate) fn forward_host(
        &self,
        ids: &[u32],
        dtype: DType,
        device: &B::Device,
    ) -> Tensor<B, 3> {
        if let Weight::Packed(packed) = &self.weight {
            return look_up(packed, ids, dtype, device);
        }
        let ids: Vec<i32> = ids.iter().map(|id| *id as i32).collect();
        let shape = [1, ids.len()];
        self.forward(
            Tensor::from_data(TensorData::new(ids, shape), device),
            dtype,
        )
    }

    /// The head that is tied to this matrix.
    pub(crate) fn as_head(&self) -> Linear<B> {
        Linear {
            weight: self.weight.clone(),
            bias: None,
        }
    }
}

/// Rows of a packed matrix, `[1, ids, hidden_size]` in `dtype`.
fn look_up<B: Backend>(
    packed: &Packed,
    ids: &[u32],
    dtype: DType,
    device: &B::Device,
) -> Tensor<B, 3> {
    let [_, hidden] = *packed.shape();
    let mut rows = vec![0.0; ids.len() * hidden];
    for (&id, row) in ids.iter().zip(rows.chunks_exact_mut(hidden)) {
        packed.row(id as usize, row);
    }
    let data = TensorData::new(rows, [1, ids.len(), hidden]);
    Tensor::<B, 3>::from_data(data, (device, DType::F32)).cast(dtype)
}
