//! The rotation of one pass: cosines and sines of each token, on the host until a link wants them
//! on the device.

use std::cell::OnceCell;

use burn::prelude::*;
use burn::tensor::{DType, TensorData};

/// Tables of the rotary embedding of one layer kind, a row of `head_dim` for each token of a pass.
///
/// Always f32: in bf16 positions above 256 are no longer exact.
#[derive(Debug)]
pub(crate) struct Rotation<B: Backend> {
    /// `[tokens, head_dim]`, both halves of a row alike.
    cos: Vec<f32>,
    /// `[tokens, head_dim]`, the first half of a row negated, so that a rotation by halves is one
    /// permutation.
    sin: Vec<f32>,
    head_dim: usize,
    device: B::Device,
    on_device: OnceCell<DeviceTables<B>>,
}

#[derive(Debug)]
struct DeviceTables<B: Backend> {
    /// `[1, tokens, 1, head_dim]`, to broadcast over heads.
    cos: Tensor<B, 4>,
    sin: Tensor<B, 4>,
    /// `[head_dim]`: the second half of a head, then the first.
    swap: Tensor<B, 1, Int>,
}

impl<B: Backend> Rotation<B> {
    /// # Shapes
    /// - `cos`, `sin`: `[tokens, head_dim / 2]`
    pub(crate) fn new(cos: &[f32], sin: &[f32], head_dim: usize, device: &B::Device) -> Self {
        let half = head_dim / 2;
        let doubled = |table: &[f32], sign: f32| {
            let mut full = Vec::with_capacity(2 * table.len());
            for row in table.chunks_exact(half) {
                full.extend(row.iter().map(|x| sign * x));
                full.extend_from_slice(row);
            }
            full
        };
        Self {
            cos: doubled(cos, 1.0),
            sin: doubled(sin, -1.0),
            head_dim,
            device: device.clone(),
            on_device: OnceCell::new(),
        }
    }

    /// Cosines and sines on the host, `[tokens, head_dim]`.
    #[cfg(feature = "flex")]
    pub(crate) fn tables(&self) -> [&[f32]; 2] {
        [&self.cos, &self.sin]
    }

    /// Elements of a head.
    pub(crate) fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Rotates halves in burn's operations: `x * cos + cat(-x2, x1) * sin`, in f32, cast back.
    ///
    /// # Shapes
    /// - `x`: `[1, tokens, heads, head_dim]`, returned in the same shape and dtype
    pub(crate) fn apply(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let tables = self.on_device.get_or_init(|| self.upload());
        let dtype = x.dtype();
        let x = x.cast(DType::F32);
        let swapped = x.clone().select(3, tables.swap.clone());
        (x * tables.cos.clone() + swapped * tables.sin.clone()).cast(dtype)
    }

    /// One upload for both tables; the permutation is made on the device.
    fn upload(&self) -> DeviceTables<B> {
        let (tokens, dim) = (self.cos.len() / self.head_dim, self.head_dim);
        let both = [self.cos.as_slice(), self.sin.as_slice()].concat();
        let data = TensorData::new(both, [2, tokens, 1, dim]);
        let both = Tensor::<B, 4>::from_data(data, (&self.device, DType::F32));
        let table = |i| both.clone().slice([i..i + 1, 0..tokens, 0..1, 0..dim]);
        let indices = |range: std::ops::Range<usize>| {
            Tensor::arange(range.start as i64..range.end as i64, &self.device)
        };
        DeviceTables {
            cos: table(0),
            sin: table(1),
            swap: Tensor::cat(vec![indices(dim / 2..dim), indices(0..dim / 2)], 0),
        }
    }
}
