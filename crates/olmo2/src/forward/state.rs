//! One forward pass, as its layers see it: the seam at which a cache decides how attention is done.

use burn::prelude::*;

use crate::backend;
use crate::backend::plain::attention::{attention, pad_keys};
use crate::cache::KvCache;
use crate::forward::batch::Plan;
use crate::nn::RmsNorm;
use crate::nn::rope::{RotaryEmbedding, Rotation};
use crate::precision::Precision;

/// The state that all layers of one pass share.
#[derive(Debug)]
pub(crate) struct Pass<'c, B: Backend> {
    plan: Plan,
    precision: Precision,
    rotation: Rotation<B>,
    cache: Option<&'c mut KvCache<B>>,
    /// Made when a layer first needs it: own kernels do without.
    mask: Option<Option<Tensor<B, 4, Bool>>>,
    device: B::Device,
}

impl<'c, B: Backend> Pass<'c, B> {
    /// Makes room in the cache and uploads the rotation.
    pub(crate) fn new(
        plan: Plan,
        rope: &RotaryEmbedding,
        precision: Precision,
        mut cache: Option<&'c mut KvCache<B>>,
        device: &B::Device,
    ) -> Self {
        if let Some(cache) = &mut cache {
            cache.reserve(plan.len());
        }
        Self {
            rotation: plan.rotation(rope, device),
            plan,
            precision,
            cache,
            mask: None,
            device: device.clone(),
        }
    }

    /// What products compute in.
    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// Norms and rotates queries and keys, stores keys and values, and attends.
    ///
    /// # Shapes
    /// - `q`: `[batch, seq, heads * head_dim]`; `k`, `v`: `[batch, seq, kv_heads * head_dim]`, as
    ///   the projections leave them
    /// - returns: `[batch, seq, heads * head_dim]`
    pub(crate) fn attend(
        &mut self,
        layer: usize,
        [q, k, v]: [Tensor<B, 3>; 3],
        q_norm: &RmsNorm<B>,
        k_norm: &RmsNorm<B>,
    ) -> Tensor<B, 3> {
        let q = q_norm.forward_rotated(q, &self.rotation);
        let k = k_norm.forward_rotated(k, &self.rotation);
        let v = self.rotation.heads(v);
        match self.cache {
            Some(_) => self.attend_cached(layer, [q, k, v]),
            None => {
                let mask = self
                    .mask
                    .get_or_insert_with(|| self.plan.mask(&self.device));
                let [k, v] = [k, v].map(|x| pad_keys(x.swap_dims(1, 2)));
                attention(q, k, v, mask.clone())
            }
        }
    }

    /// Stores keys and values, `[batch, seq, kv_heads, head_dim]`, and attends over the slots.
    fn attend_cached(&mut self, layer: usize, [q, k, v]: [Tensor<B, 4>; 3]) -> Tensor<B, 3> {
        let cache = self.cache.as_mut().expect("a pass with a cache");
        let rows = &self.plan.rows;
        if let Some(attended) = backend::attend(cache, layer, rows, [&q, &k, &v]) {
            return attended;
        }
        cache.write(layer, rows, k.swap_dims(1, 2), v.swap_dims(1, 2));
        let keys = cache.attended(self.plan.len());
        let mask = || self.plan.cached_mask(keys, &self.device);
        let mask = self.mask.get_or_insert_with(mask).clone();
        let (k, v) = cache.read(layer, rows, keys);
        attention(q, k, v, mask)
    }

    /// Lets the cache know that the pass is done.
    pub(crate) fn finish(self) {
        if let Some(cache) = self.cache {
            cache.advance(&self.plan.rows);
        }
    }
}
