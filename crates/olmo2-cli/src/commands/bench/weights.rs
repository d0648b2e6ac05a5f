//! The bytes of weights that a decoded token reads, and the operations that a token takes.

use burn::module::{ModuleVisitor, Param};
use burn::prelude::*;
use burn::tensor::DType;
use bytes::Bytes;
use olmo2::layout::{EMBEDDING, HEAD};
use olmo2::{Olmo2, Packed, Precision, Weight, Weights};

use super::limits::Work;

/// Arrays below a cache line, such as a lone scale, are not worth a read.
const LINE: usize = 64;

/// Bytes in memory of all layers, the final norm and the head. One row of the embedding is read, so
/// it counts only where it is the head.
pub(super) fn bytes_per_token<B: Backend>(model: &Olmo2<B>) -> u64 {
    // burn's visitors see only floats.
    let matrices = projections(model).map(|(_, weight)| weight);
    let packed = matrices.chain([head(model).1]).filter_map(Weight::packed);
    let mut sum = Sum(packed.map(Packed::byte_len).sum());
    model.model.layers.visit(&mut sum);
    model.model.norm.visit(&mut sum);
    match &model.lm_head {
        Some(head) => head.visit(&mut sum),
        None => model.model.embed_tokens.visit(&mut sum),
    }
    sum.0
}

/// The memory of [`bytes_per_token`] without the norms: the blocks of `model`, or the floats that
/// it shares with `stored`.
pub(super) fn memory<B: Backend>(model: &Olmo2<B>, stored: &Weights) -> Vec<Bytes> {
    let arrays = |(name, weight): (String, &Weight<B>)| match weight.packed() {
        Some(packed) => packed
            .arrays()
            .into_iter()
            .map(|(_, bytes)| bytes)
            .collect(),
        None => Vec::from_iter(stored.float(&name).map(|tensor| tensor.bytes.clone())),
    };
    let matrices = projections(model).chain([head(model)]);
    matrices
        .flat_map(arrays)
        .filter(|bytes| bytes.len() >= LINE)
        .collect()
}

/// Operations of a token in the matrices of all layers.
pub(super) fn work_of_layers<B: Backend>(model: &Olmo2<B>) -> Work {
    let weights = projections(model).map(|(_, weight)| weight);
    work(weights, model.precision())
}

/// Operations of a token's logits.
pub(super) fn work_of_head<B: Backend>(model: &Olmo2<B>) -> Work {
    work([head(model).1], model.precision())
}

fn work<'a, B: Backend>(
    weights: impl IntoIterator<Item = &'a Weight<B>>,
    precision: Precision,
) -> Work {
    let mut work = Work::default();
    for weight in weights {
        let dtype = weight.float().map(|param| param.val().dtype());
        let sum = match (dtype, precision) {
            (None, _) => &mut work.int8,
            (Some(DType::BF16), Precision::Bf16) => &mut work.bf16,
            _ => &mut work.f32,
        };
        *sum += 2 * weight.dims().iter().product::<usize>() as u64;
    }
    work
}

/// The projections of all layers with their names in the checkpoint.
fn projections<B: Backend>(model: &Olmo2<B>) -> impl Iterator<Item = (String, &Weight<B>)> {
    let layers = model.model.layers.iter().enumerate();
    layers.flat_map(|(i, layer)| {
        let name = move |path| format!("model.layers.{i}.{path}.weight");
        layer
            .projections()
            .map(|(path, weight)| (name(path), weight))
    })
}

fn head<B: Backend>(model: &Olmo2<B>) -> (String, &Weight<B>) {
    match &model.lm_head {
        Some(head) => (HEAD.into(), &head.weight),
        None => (EMBEDDING.into(), &model.model.embed_tokens.weight),
    }
}

struct Sum(u64);

impl<B: Backend> ModuleVisitor<B> for Sum {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let tensor = param.val();
        self.0 += (tensor.shape().num_elements() * tensor.dtype().size()) as u64;
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<B, D, Int>>) {
        let tensor = param.val();
        self.0 += (tensor.shape().num_elements() * tensor.dtype().size()) as u64;
    }
}
