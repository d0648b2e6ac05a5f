//! Layer kinds: layers of one kind share their rotation, and with it the state of a pass.

use super::rope::RotaryEmbedding;
use crate::config::Olmo2Config;

/// The kinds of a model's layers. OLMo 2 has one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LayerKinds {
    /// The rope of each kind.
    pub(crate) ropes: Vec<RotaryEmbedding>,
    /// The kind of each layer.
    pub(crate) of_layer: Vec<usize>,
}

impl LayerKinds {
    pub(crate) fn new(config: &Olmo2Config) -> Self {
        Self {
            ropes: vec![RotaryEmbedding::new(config.rope.clone(), config.head_dim)],
            of_layer: vec![0; config.num_hidden_layers],
        }
    }

    /// The longest length of a sequence after a pass that reaches `length`, when it was `rope_len`
    /// before: that of the kind with dynamic rope, of which a model has one at most.
    pub(crate) fn rope_len(&self, rope_len: usize, length: usize) -> usize {
        let ropes = self.ropes.iter();
        let lengths = ropes.map(|rope| rope.rope_len(rope_len, length));
        lengths.max().unwrap_or(0)
    }
}
