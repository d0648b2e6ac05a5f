//! The matrices of a model by their names: what can lie in quantized blocks.

use burn::prelude::*;

use super::{DecoderLayer, Olmo2};
use crate::storage::Weight;
use crate::weights::layout::{EMBEDDING, HEAD};

/// The projections of a layer, each with its path.
macro_rules! projections {
    ($layer:expr, $($mutable:tt)?) => {[
        ("self_attn.q_proj", &$($mutable)? $layer.self_attn.q_proj.weight),
        ("self_attn.k_proj", &$($mutable)? $layer.self_attn.k_proj.weight),
        ("self_attn.v_proj", &$($mutable)? $layer.self_attn.v_proj.weight),
        ("self_attn.o_proj", &$($mutable)? $layer.self_attn.o_proj.weight),
        ("mlp.gate_proj", &$($mutable)? $layer.mlp.gate_proj.weight),
        ("mlp.up_proj", &$($mutable)? $layer.mlp.up_proj.weight),
        ("mlp.down_proj", &$($mutable)? $layer.mlp.down_proj.weight),
    ]};
}

impl<B: Backend> DecoderLayer<B> {
    /// The projections' weights, each with its path in the layer.
    pub fn projections(&self) -> [(&'static str, &Weight<B>); 7] {
        projections!(self,)
    }
}

impl<B: Backend> Olmo2<B> {
    /// Whether any matrix lies in quantized blocks.
    pub fn is_quantized(&self) -> bool {
        let head = self.lm_head.as_ref().map(|head| &head.weight);
        let layers = self.model.layers.iter();
        let projections = layers.flat_map(|layer| layer.projections().map(|(_, weight)| weight));
        let mut all = projections
            .chain(head)
            .chain([&self.model.embed_tokens.weight]);
        all.any(|weight| weight.packed().is_some())
    }

    /// Every matrix with its name in the checkpoint.
    pub(crate) fn matrices_mut(&mut self) -> Vec<(String, &mut Weight<B>)> {
        let embedding = &mut self.model.embed_tokens.weight;
        let mut all = vec![(EMBEDDING.to_owned(), embedding)];
        if let Some(head) = &mut self.lm_head {
            all.push((HEAD.to_owned(), &mut head.weight));
        }
        for (i, layer) in self.model.layers.iter_mut().enumerate() {
            let name = |path: &str| format!("model.layers.{i}.{path}.weight");
            let projections = projections!(layer, mut);
            all.extend(projections.map(|(path, weight)| (name(path), weight)));
        }
        all
    }
}
