//! Layer kinds: layers of one kind share their rotation and window, and with them the state of a
//! pass.

use super::rope::RotaryEmbedding;
use crate::config::{LayerType, Olmo2Config};

/// What layers of one kind share.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LayerKind {
    pub(crate) rope: RotaryEmbedding,
    /// Positions that a layer attends to at most; `None` for all.
    pub(crate) window: Option<usize>,
}

/// The kinds of a model's layers. OLMo 2 has one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LayerKinds {
    pub(crate) kinds: Vec<LayerKind>,
    /// The kind of each layer.
    pub(crate) of_layer: Vec<usize>,
}

impl LayerKinds {
    pub(crate) fn new(config: &Olmo2Config) -> Self {
        let kind = |rope: &crate::config::RopeConfig, window| LayerKind {
            rope: RotaryEmbedding::new(rope.clone(), config.head_dim),
            window,
        };
        let full = kind(&config.rope, None);
        let Some(sliding) = &config.sliding else {
            return Self {
                kinds: vec![full],
                of_layer: vec![0; config.num_hidden_layers],
            };
        };
        let kind_of = |layer: &LayerType| match layer {
            LayerType::FullAttention => 0,
            LayerType::SlidingAttention => 1,
        };
        Self {
            kinds: vec![full, kind(&sliding.rope, Some(sliding.window))],
            of_layer: sliding.layer_types.iter().map(kind_of).collect(),
        }
    }

    /// The longest length of a sequence after a pass that reaches `length`, when it was `rope_len`
    /// before: that of the kind with dynamic rope, of which a model has one at most.
    pub(crate) fn rope_len(&self, rope_len: usize, length: usize) -> usize {
        let kinds = self.kinds.iter();
        let lengths = kinds.map(|kind| kind.rope.rope_len(rope_len, length));
        lengths.max().unwrap_or(0)
    }
}
