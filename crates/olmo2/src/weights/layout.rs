//! The tensors of a checkpoint: names, shapes, and the parts of a record that hold them.

use crate::config::Olmo2Config;

/// Name of the embedding, `[vocab, hidden]`.
pub const EMBEDDING: &str = "model.embed_tokens.weight";
/// Name of the language model head, `[vocab, hidden]`; a tied head is the embedding.
pub const HEAD: &str = "lm_head.weight";

/// File name of a record's receipt, which lists the parts.
pub const RECEIPT: &str = "olmo2-record.json";

/// What wrappers of PyTorch put in front of every name: `torch.compile`, `DataParallel`, PEFT.
const PREFIXES: [&str; 3] = ["_orig_mod.", "module.", "base_model.model."];

/// A name without the prefixes of wrappers.
pub(crate) fn without_prefixes(mut name: &str) -> &str {
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)) {
        name = rest;
    }
    name
}

/// A tensor that a checkpoint must hold, under the checkpoint's own name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name in the Hugging Face checkpoint, and path of the module's parameter.
    pub name: String,
    /// Dimensions; a projection is `[out, in]`.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    fn new(name: String, shape: &[usize]) -> Self {
        Self {
            name,
            shape: shape.to_vec(),
        }
    }

    /// Number of elements; `None` if it does not fit a `usize`.
    pub fn elements(&self) -> Option<usize> {
        self.shape
            .iter()
            .try_fold(1, |product: usize, &dim| product.checked_mul(dim))
    }
}

/// The tensors that share one file of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// `head` or `layer-000`, `layer-001`, ...: the file's name without its extension.
    pub name: String,
    /// In the order in which the file holds them.
    pub tensors: Vec<TensorSpec>,
}

impl Part {
    /// Name of the part's file in a record.
    pub fn file_name(&self) -> String {
        format!("{}.bpk", self.name)
    }
}

/// All tensors of a model: first the head (embedding, final norm, language model head), then one
/// part for each layer.
///
/// Tied embeddings have no `lm_head.weight`; `attention_bias` adds four biases to each layer.
pub fn parts(config: &Olmo2Config) -> Vec<Part> {
    let layers = (0..config.num_hidden_layers).map(|layer| layer_part(config, layer));
    std::iter::once(head_part(config)).chain(layers).collect()
}

fn head_part(config: &Olmo2Config) -> Part {
    let (vocab, hidden) = (config.vocab_size, config.hidden_size);
    let mut tensors = vec![
        TensorSpec::new(EMBEDDING.into(), &[vocab, hidden]),
        TensorSpec::new("model.norm.weight".into(), &[hidden]),
    ];
    if !config.tie_word_embeddings {
        tensors.push(TensorSpec::new(HEAD.into(), &[vocab, hidden]));
    }
    Part {
        name: "head".into(),
        tensors,
    }
}

/// q, k and v are neighbors, and so are gate and up: one matmul reads each group.
fn layer_part(config: &Olmo2Config, layer: usize) -> Part {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let (q, kv) = (config.q_size(), config.kv_size());
    let mut tensors = Vec::with_capacity(15);
    let mut push = |name: &str, shape: &[usize]| {
        tensors.push(TensorSpec::new(
            format!("model.layers.{layer}.{name}"),
            shape,
        ));
    };
    push("self_attn.q_proj.weight", &[q, hidden]);
    push("self_attn.k_proj.weight", &[kv, hidden]);
    push("self_attn.v_proj.weight", &[kv, hidden]);
    push("self_attn.o_proj.weight", &[hidden, q]);
    if config.attention_bias {
        push("self_attn.q_proj.bias", &[q]);
        push("self_attn.k_proj.bias", &[kv]);
        push("self_attn.v_proj.bias", &[kv]);
        push("self_attn.o_proj.bias", &[hidden]);
    }
    push("self_attn.q_norm.weight", &[q]);
    push("self_attn.k_norm.weight", &[kv]);
    push("mlp.gate_proj.weight", &[inner, hidden]);
    push("mlp.up_proj.weight", &[inner, hidden]);
    push("mlp.down_proj.weight", &[hidden, inner]);
    push("post_attention_layernorm.weight", &[hidden]);
    push("post_feedforward_layernorm.weight", &[hidden]);
    Part {
        name: format!("layer-{layer:03}"),
        tensors,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(extra: &str) -> Olmo2Config {
        let text = format!(
            r#"{{"model_type": "olmo2", "vocab_size": 100352, "hidden_size": 5120,
                "intermediate_size": 27648, "num_hidden_layers": 64, "num_attention_heads": 40,
                "num_key_value_heads": 8{extra}}}"#
        );
        Olmo2Config::from_json(&text).expect("a valid config")
    }

    fn count(config: &Olmo2Config) -> usize {
        parts(config).iter().map(|part| part.tensors.len()).sum()
    }

    #[test]
    fn a_32b_checkpoint_has_707_tensors() {
        // OLMO2.md 1.3: 11 tensors in each of 64 layers, and 3.
        assert_eq!(count(&config("")), 707);
        assert_eq!(
            count(&config(r#", "tie_word_embeddings": true"#)),
            706,
            "tied embeddings have no head"
        );
        assert_eq!(
            count(&config(r#", "attention_bias": true"#)),
            707 + 64 * 4,
            "four biases in each layer"
        );
    }

    #[test]
    fn a_32b_checkpoint_has_32_billion_parameters() {
        // 2 x 100352 x 5120 + 5120 + 64 x (2 x 5120 x 5120 + 2 x 1024 x 5120 + 5120 + 1024
        // + 3 x 27648 x 5120 + 2 x 5120)
        let elements: usize = parts(&config(""))
            .iter()
            .flat_map(|part| &part.tensors)
            .map(|tensor| tensor.elements().expect("it fits"))
            .sum();
        assert_eq!(elements, 32_234_279_936);
    }

    #[test]
    fn the_projections_of_one_input_are_neighbors() {
        let layer = &parts(&config(""))[3];
        assert_eq!(layer.file_name(), "layer-002.bpk");
        let position = |name: &str| {
            let full = format!("model.layers.2.{name}.weight");
            layer.tensors.iter().position(|tensor| tensor.name == full)
        };
        assert_eq!(position("self_attn.q_proj"), Some(0));
        assert_eq!(position("self_attn.k_proj"), Some(1));
        assert_eq!(position("self_attn.v_proj"), Some(2));
        let gate = position("mlp.gate_proj").expect("gate");
        assert_eq!(position("mlp.up_proj"), Some(gate + 1));
    }
}
