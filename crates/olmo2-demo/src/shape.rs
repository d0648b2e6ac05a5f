//! The demo model's shape: its `config.json`, and fresh weights from a seed.

use anyhow::Result;
use burn::module::{Module, ModuleMapper, Param};
use burn::prelude::*;
use burn::tensor::TensorData;
use burn::tensor::backend::AutodiffBackend;
use olmo2::{Olmo2, Olmo2Config};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::tokenizer::VOCAB_SIZE;

/// Norms stand behind each block and give it an output of the size of their gains: at 1, an
/// embedding of the usual 0.02 would be lost beside it. These two keep the embedding, which is also
/// the head, in sight: it is half as large as a block's output.
const EMBEDDING_STD: f64 = 0.05;
const GAIN: f64 = 0.1;

/// Positions the model is said to hold; it is trained on rows of half of that.
pub(crate) const CONTEXT: usize = 512;

/// The sizes that are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) hidden: usize,
    pub(crate) intermediate: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
}

/// 2.8 million parameters, 5.6 MB in bf16. Every `in` dimension is a multiple of 32, the block of
/// the quantized formats. Few heads, because on a CPU the scores cost as much as the products.
pub(crate) const DEMO: Shape = Shape {
    hidden: 256,
    intermediate: 480,
    layers: 4,
    heads: 4,
    kv_heads: 2,
};

/// `config.json` as transformers 4 writes it. The ids of special tokens are the tokenizer's.
pub(crate) fn config_json(shape: Shape, end_of_text: u32, pad: u32) -> Value {
    json!({
        "architectures": ["Olmo2ForCausalLM"],
        "attention_bias": false,
        "attention_dropout": 0.0,
        "bos_token_id": null,
        "eos_token_id": end_of_text,
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "initializer_range": 0.02,
        "intermediate_size": shape.intermediate,
        "max_position_embeddings": CONTEXT,
        "model_type": "olmo2",
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "pad_token_id": pad,
        "rms_norm_eps": 1e-6,
        "rope_scaling": null,
        "rope_theta": 10000.0,
        "tie_word_embeddings": true,
        "torch_dtype": "bfloat16",
        "use_cache": true,
        "vocab_size": VOCAB_SIZE,
    })
}

/// A model with weights drawn from `seed`: burn's own initialization has one generator for the
/// whole process, so it would depend on what ran before.
///
/// # Errors
/// A configuration that the library refuses.
pub(crate) fn fresh<B: AutodiffBackend>(
    config: &Value,
    seed: u64,
    device: &B::Device,
) -> Result<Olmo2<B>> {
    let config = Olmo2Config::from_json(&config.to_string())?;
    let mut normal = Normal {
        rng: ChaCha8Rng::seed_from_u64(seed),
        std: EMBEDDING_STD,
    };
    let mut model = Olmo2::new(&config, device);
    model.model.embed_tokens = model.model.embed_tokens.map(&mut normal);
    normal.std = config.initializer_range;
    model.model.layers = model.model.layers.map(&mut normal);
    for layer in &mut model.model.layers {
        for norm in [
            &mut layer.post_attention_layernorm,
            &mut layer.post_feedforward_layernorm,
        ] {
            norm.weight = Param::from_tensor(
                Tensor::from_inner(norm.weight.val().inner() * GAIN).require_grad(),
            );
        }
    }
    Ok(model)
}

/// Draws matrices from a normal distribution and leaves vectors, the gains of norms, at one.
struct Normal {
    rng: ChaCha8Rng,
    std: f64,
}

impl Normal {
    /// Box and Muller's transform of two uniform numbers.
    fn draw(&mut self) -> f32 {
        let mut uniform = || (f64::from(self.rng.next_u32()) + 0.5) / f64::from(u32::MAX);
        let (radius, angle) = (
            (-2.0 * uniform().ln()).sqrt(),
            std::f64::consts::TAU * uniform(),
        );
        (self.std * radius * angle.cos()) as f32
    }
}

impl<B: AutodiffBackend> ModuleMapper<B> for Normal {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let (id, tensor, mapper) = param.consume();
        if D == 1 {
            return Param::from_mapped_value(id, tensor.require_grad(), mapper);
        }
        let values: Vec<f32> = (0..tensor.shape().num_elements())
            .map(|_| self.draw())
            .collect();
        let data = TensorData::new(values, tensor.shape());
        let tensor = Tensor::from_data(data, &tensor.device()).require_grad();
        Param::from_mapped_value(id, tensor, mapper)
    }
}
