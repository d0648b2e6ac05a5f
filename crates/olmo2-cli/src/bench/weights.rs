//! The bytes of weights that one decoded token reads.

use burn::module::{ModuleVisitor, Param};
use burn::prelude::*;
use olmo2::{Olmo2, Packed, Weight};

/// All layers, the final norm and the head, as they lie in memory; of the embedding one row is
/// read, so it counts where it is the head.
pub(super) fn bytes_per_token<B: Backend>(model: &Olmo2<B>) -> u64 {
    let layers = model.model.layers.iter();
    let projections = layers.flat_map(|layer| layer.projections().map(|(_, weight)| weight));
    let head = match &model.lm_head {
        Some(head) => &head.weight,
        None => &model.model.embed_tokens.weight,
    };
    // burn's visitors see floats alone.
    let packed = projections.chain([head]).filter_map(Weight::packed);
    let mut bytes = Bytes(packed.map(Packed::byte_len).sum());
    model.model.layers.visit(&mut bytes);
    model.model.norm.visit(&mut bytes);
    match &model.lm_head {
        Some(head) => head.visit(&mut bytes),
        None => model.model.embed_tokens.visit(&mut bytes),
    }
    bytes.0
}

struct Bytes(u64);

impl<B: Backend> ModuleVisitor<B> for Bytes {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let tensor = param.val();
        self.0 += (tensor.shape().num_elements() * tensor.dtype().size()) as u64;
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<B, D, Int>>) {
        let tensor = param.val();
        self.0 += (tensor.shape().num_elements() * tensor.dtype().size()) as u64;
    }
}
