//! Ids to run a model on where nobody gave any.

use olmo2::{DOLMA2_TOKENS, Olmo2Config};

/// Ids spread over the vocabulary.
pub(super) fn fixed_ids(count: usize, config: &Olmo2Config) -> Vec<u32> {
    let vocab = config.vocab_size.min(DOLMA2_TOKENS);
    (0..count)
        .map(|i| ((i * 7919 + 13) % vocab) as u32)
        .collect()
}
