//! The state that all layers of one pass share, a part of it for each layer kind.

use burn::prelude::*;

use super::batch::Batch;
use super::mask::Masks;
use crate::backend::{self, Attention, AttentionShape, Rotation};
use crate::cache::{KvCache, Run};
use crate::nn::{LayerKind, LayerKinds, RmsNorm, Rows};
use crate::precision::Precision;

/// One pass, as its layers see it.
#[derive(Debug)]
pub(crate) struct ForwardState<'a, B: Backend> {
    batch: Batch,
    shape: AttentionShape,
    rows: Rows,
    kind_of_layer: &'a [usize],
    kinds: Vec<KindState<B>>,
    cache: Option<&'a mut KvCache<B>>,
}

/// What the layers of one kind share.
#[derive(Debug)]
struct KindState<B: Backend> {
    rotation: Rotation<B>,
    masks: Masks<B>,
    window: Option<usize>,
    /// The runs as they lie in the cache of these layers.
    runs: Vec<Run>,
}

impl<'a, B: Backend> ForwardState<'a, B> {
    /// Makes room in the cache.
    pub(crate) fn new(
        batch: Batch,
        shape: AttentionShape,
        kinds: &'a LayerKinds,
        precision: Precision,
        mut cache: Option<&'a mut KvCache<B>>,
        device: &B::Device,
    ) -> Self {
        if let Some(cache) = &mut cache {
            cache.reserve(&batch.runs);
        }
        let state = |(i, kind): (usize, &LayerKind)| {
            let layer = kinds.of_layer.iter().position(|&of_layer| of_layer == i);
            let placed = cache.as_ref().zip(layer);
            KindState {
                rotation: batch.rotation(&kind.rope, device),
                masks: Masks::new(kind.window, device),
                window: kind.window,
                runs: placed.map_or_else(
                    || batch.runs.clone(),
                    |(cache, layer)| cache.placed(layer, &batch.runs),
                ),
            }
        };
        Self {
            kinds: kinds.kinds.iter().enumerate().map(state).collect(),
            kind_of_layer: &kinds.of_layer,
            rows: Rows {
                decode: batch.decode_rows(),
                precision,
            },
            shape,
            batch,
            cache,
        }
    }

    /// How the rows of the pass are multiplied.
    pub(crate) fn rows(&self) -> Rows {
        self.rows
    }

    /// Where the caller's tokens lie.
    pub(crate) fn layout(&self) -> &super::Layout {
        self.batch.layout()
    }

    /// Norms and rotates queries and keys, stores keys and values, and attends.
    ///
    /// # Shapes
    /// - `q`: `[1, tokens, heads * head_dim]`; `k`, `v`: `[1, tokens, kv_heads * head_dim]`, as the
    ///   projections leave them
    /// - returns: `[1, tokens, heads * head_dim]`
    pub(crate) fn attend(
        &mut self,
        layer: usize,
        [q, k, v]: [Tensor<B, 3>; 3],
        q_norm: &RmsNorm<B>,
        k_norm: &RmsNorm<B>,
    ) -> Tensor<B, 3> {
        let kind = &self.kinds[self.kind_of_layer[layer]];
        let attention = Attention {
            q,
            k,
            v,
            q_norm: q_norm.as_norm(),
            k_norm: k_norm.as_norm(),
            shape: self.shape,
            rotation: &kind.rotation,
            runs: &kind.runs,
            window: kind.window,
            mask: &|runs, keys| kind.masks.of(runs, keys),
        };
        let storage = self.cache.as_mut().map(|cache| cache.layer_mut(layer));
        backend::attention(attention, storage)
    }

    /// Records in the cache that the pass is done.
    pub(crate) fn finish(self) {
        if let Some(cache) = self.cache {
            cache.advance(&self.batch.runs);
        }
    }
}
