//! The size of a cache: its capacity for a context, and the bytes of its keys and values.

use burn::tensor::DType;

use super::span::max_positions;
use super::{CacheOptions, KEY_BUCKET, allocation_for};
use crate::config::Olmo2Config;

/// Dynamic rope has no maximum length: without a context, the capacity is this many times the
/// trained length, by choice.
const DYNAMIC_CONTEXTS: usize = 4;

impl CacheOptions {
    /// One sequence of `context` positions, or, without a number, of all positions of the model.
    ///
    /// The capacity is then one more than the model has, so that the limit in an error message is
    /// the model's.
    pub fn for_context(config: &Olmo2Config, context: Option<usize>) -> Self {
        let capacity = context.unwrap_or_else(|| match config.max_positions() {
            Some(positions) => positions.saturating_add(1),
            None => {
                let trained = config.max_position_embeddings;
                trained.saturating_mul(DYNAMIC_CONTEXTS).max(4096)
            }
        });
        Self {
            capacity,
            ..Self::default()
        }
    }

    /// Positions that a sequence can use: the capacity or the model's positions, whichever is less.
    pub fn usable_positions(&self, config: &Olmo2Config) -> usize {
        config
            .max_positions()
            .map_or(self.capacity, |positions| positions.min(self.capacity))
    }

    /// Maximum bytes of the cache when no sequence has more than `max_tokens` tokens (`None`: all that
    /// fit), in a model whose activations have the dtype `activations`.
    pub fn bytes(
        &self,
        config: &Olmo2Config,
        max_tokens: Option<usize>,
        activations: DType,
    ) -> u64 {
        let dtype = self.dtype.unwrap_or_default();
        let head = dtype.head_bytes(config.head_dim, activations);
        let position = 2 * config.num_key_value_heads * head;
        let positions = self.usable_positions(config);
        let tokens = max_tokens.unwrap_or(positions).min(positions);
        let allocated = |layer| {
            let max = max_positions(config.window(layer), positions, self.chunk);
            let max = max.next_multiple_of(KEY_BUCKET).max(KEY_BUCKET);
            allocation_for(tokens, max) as u64
        };
        let allocated: u64 = (0..config.num_hidden_layers).map(allocated).sum();
        (allocated * self.slots as u64).saturating_mul(position as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::CacheDtype;
    use super::*;

    #[test]
    fn a_cache_is_counted_as_it_is_allocated() {
        // OLMo 2 1B: 2 x 16 layers x 2048 x 4096 positions x 4 bytes.
        let config = Olmo2Config::from_json(
            r#"{"model_type": "olmo2", "hidden_size": 2048, "num_hidden_layers": 16,
                "num_attention_heads": 16, "max_position_embeddings": 4096}"#,
        )
        .expect("valid");
        let bytes_of = |slots, max_tokens, context, dtype| {
            let options = CacheOptions {
                slots,
                dtype: Some(dtype),
                ..CacheOptions::for_context(&config, context)
            };
            options.bytes(&config, max_tokens, DType::F32)
        };
        let bytes = |slots, max_tokens, dtype| bytes_of(slots, max_tokens, None, dtype);
        let f32 = CacheDtype::F32;
        assert_eq!(bytes(1, None, f32), 1 << 30);
        assert_eq!(bytes(8, Some(1000), f32), 2 << 30);
        let too_long = bytes(1, Some(1_000_000), f32);
        assert_eq!(too_long, 1 << 30, "the model has no more");
        assert_eq!(bytes(1, None, CacheDtype::Bf16), 1 << 29);
        assert_eq!(bytes(1, Some(8), f32), 1 << 26, "256 positions at least");
        let at_most_512 = bytes_of(1, None, Some(300), f32);
        assert_eq!(at_most_512, 1 << 27);
        // 8.5 bits an element.
        assert_eq!(bytes(1, None, CacheDtype::Q8), 17 << 24);
    }
}
