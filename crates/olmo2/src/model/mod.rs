//! The graph of OLMo 2, on one page, in the order in which data moves.
//!
//! Field names are the checkpoint's keys, so loading needs no table of names.

use burn::prelude::*;
use burn::tensor::DType;

use crate::backend::{AttentionShape, Capabilities};
use crate::cache::{CacheOptions, KvCache};
use crate::config::Olmo2Config;
use crate::forward::{
    Batch, ForwardInput, ForwardOutput, ForwardState, InputError, Layout, Tokens, Wanted,
};
use crate::nn::{Embedding, LayerKinds, Linear, RmsNorm, Rows, project, project_gated};
use crate::precision::Precision;

pub(crate) mod loss;
mod matrices;

/// `down(silu(gate(x)) * up(x))`.
#[derive(Module, Debug)]
pub struct Mlp<B: Backend> {
    /// `[intermediate_size, hidden_size]`.
    pub gate_proj: Linear<B>,
    /// `[intermediate_size, hidden_size]`.
    pub up_proj: Linear<B>,
    /// `[hidden_size, intermediate_size]`.
    pub down_proj: Linear<B>,
}

impl<B: Backend> Mlp<B> {
    fn new(config: &Olmo2Config, device: &B::Device) -> Self {
        let (hidden, inter, std) = (
            config.hidden_size,
            config.intermediate_size,
            config.initializer_range,
        );
        Self {
            gate_proj: Linear::new([inter, hidden], false, std, device),
            up_proj: Linear::new([inter, hidden], false, std, device),
            down_proj: Linear::new([hidden, inter], false, std, device),
        }
    }

    /// `[1, tokens, hidden_size]` to the same.
    fn forward(&self, x: Tensor<B, 3>, rows: Rows) -> Tensor<B, 3> {
        let mixed = project_gated(x, rows, &self.gate_proj, &self.up_proj);
        let [out] = project(mixed, rows, [&self.down_proj]);
        out
    }
}

/// Self-attention with RMS norms over the full width of queries and keys, before the heads part.
#[derive(Module, Debug)]
pub struct Attention<B: Backend> {
    /// `[heads * head_dim, hidden_size]`.
    pub q_proj: Linear<B>,
    /// `[kv_heads * head_dim, hidden_size]`.
    pub k_proj: Linear<B>,
    /// `[kv_heads * head_dim, hidden_size]`.
    pub v_proj: Linear<B>,
    /// `[hidden_size, heads * head_dim]`.
    pub o_proj: Linear<B>,
    /// `[heads * head_dim]`.
    pub q_norm: RmsNorm<B>,
    /// `[kv_heads * head_dim]`.
    pub k_norm: RmsNorm<B>,
}

impl<B: Backend> Attention<B> {
    fn new(config: &Olmo2Config, device: &B::Device) -> Self {
        let (q, kv, hidden) = (config.q_size(), config.kv_size(), config.hidden_size);
        let (bias, std) = (config.attention_bias, config.initializer_range);
        Self {
            q_proj: Linear::new([q, hidden], bias, std, device),
            k_proj: Linear::new([kv, hidden], bias, std, device),
            v_proj: Linear::new([kv, hidden], bias, std, device),
            o_proj: Linear::new([hidden, q], bias, std, device),
            q_norm: RmsNorm::new(q, config.rms_norm_eps, device),
            k_norm: RmsNorm::new(kv, config.rms_norm_eps, device),
        }
    }

    /// `[1, tokens, hidden_size]` to the same; `state` holds the cache, rotations and masks.
    fn forward(
        &self,
        x: Tensor<B, 3>,
        layer: usize,
        state: &mut ForwardState<'_, B>,
    ) -> Tensor<B, 3> {
        let rows = state.rows();
        let qkv = project(x, rows, [&self.q_proj, &self.k_proj, &self.v_proj]);
        let attended = state.attend(layer, qkv, &self.q_norm, &self.k_norm);
        let [out] = project(attended, rows, [&self.o_proj]);
        out
    }
}

/// One decoder layer: norms stand behind attention and feed-forward, none before.
#[derive(Module, Debug)]
pub struct DecoderLayer<B: Backend> {
    /// Attention.
    pub self_attn: Attention<B>,
    /// Norm of attention's output.
    pub post_attention_layernorm: RmsNorm<B>,
    /// Feed-forward.
    pub mlp: Mlp<B>,
    /// Norm of the feed-forward's output.
    pub post_feedforward_layernorm: RmsNorm<B>,
}

impl<B: Backend> DecoderLayer<B> {
    fn new(config: &Olmo2Config, device: &B::Device) -> Self {
        let norm = || RmsNorm::new(config.hidden_size, config.rms_norm_eps, device);
        Self {
            self_attn: Attention::new(config, device),
            post_attention_layernorm: norm(),
            mlp: Mlp::new(config, device),
            post_feedforward_layernorm: norm(),
        }
    }

    fn forward(
        &self,
        x: Tensor<B, 3>,
        layer: usize,
        state: &mut ForwardState<'_, B>,
    ) -> Tensor<B, 3> {
        let attended = self.self_attn.forward(x.clone(), layer, state);
        let h = self.post_attention_layernorm.forward_onto(x, attended);
        let mixed = self.mlp.forward(h.clone(), state.rows());
        self.post_feedforward_layernorm.forward_onto(h, mixed)
    }
}

/// Embedding, layers and final norm.
#[derive(Module, Debug)]
pub struct Decoder<B: Backend> {
    /// `[vocab_size, hidden_size]`.
    pub embed_tokens: Embedding<B>,
    /// The layers in order.
    pub layers: Vec<DecoderLayer<B>>,
    /// Norm before the head.
    pub norm: RmsNorm<B>,
}

/// An OLMo 2 language model on any burn backend.
#[derive(Module, Debug)]
pub struct Olmo2<B: Backend> {
    /// The decoder.
    pub model: Decoder<B>,
    /// `[vocab_size, hidden_size]`; absent where it is tied to the embedding.
    pub lm_head: Option<Linear<B>>,
    config: Olmo2Config,
    kinds: LayerKinds,
    precision: Precision,
}

impl<B: Backend> Olmo2<B> {
    /// A model with fresh weights, for training. Weights are made when first used.
    pub fn new(config: &Olmo2Config, device: &B::Device) -> Self {
        let shape = [config.vocab_size, config.hidden_size];
        let std = config.initializer_range;
        Self {
            model: Decoder {
                embed_tokens: Embedding::new(shape, std, device),
                layers: (0..config.num_hidden_layers)
                    .map(|_| DecoderLayer::new(config, device))
                    .collect(),
                norm: RmsNorm::new(config.hidden_size, config.rms_norm_eps, device),
            },
            lm_head: (!config.tie_word_embeddings).then(|| Linear::new(shape, false, std, device)),
            kinds: LayerKinds::new(config),
            precision: Precision::default(),
            config: config.clone(),
        }
    }

    /// The architecture.
    pub fn config(&self) -> &Olmo2Config {
        &self.config
    }

    /// What the model computes in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The same weights, computed with in another precision.
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// The device of the weights, on which ids are expected.
    pub fn device(&self) -> B::Device {
        self.model.norm.weight.lazy_device()
    }

    /// An empty cache for this model.
    pub fn new_cache(&self, options: CacheOptions) -> KvCache<B> {
        let device = self.device();
        let capabilities = Capabilities::of::<B>(&device);
        let setup = capabilities.cache_setup(self.precision, options.dtype);
        KvCache::new(&self.config, options, setup, &device)
    }

    /// Runs the model.
    ///
    /// # Errors
    /// An input that does not fit the model or the cache; nothing is computed then, and the cache
    /// is as it was.
    pub fn forward(&self, input: ForwardInput<'_, B>) -> Result<ForwardOutput<B>, InputError> {
        let batch = Batch::new(&self.config, &self.kinds, &input)?;
        let wanted = batch.wanted(input.logits)?;
        let device = self.device();
        let mut x = self.embed(input.tokens, batch.layout(), &device);
        let shape = self.attention_shape();
        let (kinds, precision) = (&self.kinds, self.precision);
        let mut state = ForwardState::new(batch, shape, kinds, precision, input.cache, &device);

        let mut hidden_states = Vec::new();
        for (i, layer) in self.model.layers.iter().enumerate() {
            if input.hidden_states {
                hidden_states.push(state.layout().leave(x.clone()));
            }
            x = layer.forward(x, i, &mut state);
        }
        let logits = self.logits(x.clone(), &wanted);
        if input.hidden_states {
            hidden_states.push(state.layout().leave(self.model.norm.forward(x)));
        }
        state.finish();
        Ok(ForwardOutput {
            logits,
            hidden_states,
        })
    }

    fn attention_shape(&self) -> AttentionShape {
        AttentionShape {
            heads: self.config.num_attention_heads,
            kv_heads: self.config.num_key_value_heads,
            head_dim: self.config.head_dim,
        }
    }

    /// `[1, tokens, hidden_size]` in the dtype of activations.
    fn embed(&self, tokens: Tokens<B>, layout: &Layout, device: &B::Device) -> Tensor<B, 3> {
        let dtype = Capabilities::of::<B>(device).activations(self.precision);
        let embedding = &self.model.embed_tokens;
        match tokens {
            Tokens::Host(ids) | Tokens::Runs(ids) => {
                embedding.forward_host(&layout.ids(&ids), dtype, device)
            }
            Tokens::Device(ids) => layout.enter(embedding.forward(ids, dtype)),
            Tokens::Embeds(embeds) => layout.enter(embeds.cast(dtype)),
        }
    }

    /// Final norm and head of the wanted rows, `[rows, vocab_size]` in f32.
    fn logits(&self, x: Tensor<B, 3>, wanted: &Wanted) -> Option<Tensor<B, 2>> {
        if wanted.rows.is_empty() {
            return None;
        }
        let x = self.model.norm.forward(wanted.select(x));
        let rows = Rows {
            decode: wanted.decode,
            precision: self.precision,
        };
        let [logits] = match &self.lm_head {
            Some(head) => project(x, rows, [head]),
            None => project(x, rows, [&self.model.embed_tokens.as_head()]),
        };
        let logits = logits.squeeze_dim::<2>(0).cast(DType::F32);
        Some(wanted.in_order(logits))
    }
}

#[cfg(test)]
mod tests;
