//! A cache changes nothing: cached, chunked, padded and batched passes equal one full pass.

use burn::prelude::*;
use olmo2::{CacheOptions, ForwardInput, KvCache, LogitRows, Olmo2, Olmo2Config};
use olmo2_tests::{assert_close, on_every_backend, values};

const VOCAB: usize = 96;
const TOLERANCE: f32 = 1e-4;

fn config() -> Olmo2Config {
    Olmo2Config::from_json(
        r#"{"model_type": "olmo2", "vocab_size": 96, "hidden_size": 48, "intermediate_size": 80,
            "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2,
            "max_position_embeddings": 512, "rope_theta": 10000.0, "initializer_range": 0.2}"#,
    )
    .expect("a valid config")
}

fn model<B: Backend>() -> Olmo2<B> {
    let device = B::Device::default();
    Olmo2::new(&config(), &device)
}

/// A fixed sequence that visits the vocabulary.
fn ids(len: usize, seed: u32) -> Vec<u32> {
    (0..len as u32)
        .map(|i| (i * 37 + seed * 11 + 5) % VOCAB as u32)
        .collect()
}

fn cache<B: Backend>(model: &Olmo2<B>, slots: usize) -> KvCache<B> {
    let capacity = 512;
    model.new_cache(CacheOptions { slots, capacity })
}

fn full<B: Backend>(model: &Olmo2<B>, ids: &[u32]) -> Vec<f32> {
    let out = model
        .forward(ForwardInput::ids(ids))
        .expect("a valid input");
    values(out.logits.expect("logits"))
}

fn feed<B: Backend>(model: &Olmo2<B>, cache: &mut KvCache<B>, ids: &[u32]) -> Vec<f32> {
    let out = model
        .forward(ForwardInput::ids(ids).with_cache(cache))
        .expect("a valid input");
    values(out.logits.expect("logits"))
}

/// The causal trap of OLMo2.md 1.8: with more keys than queries the diagonal must stay at the
/// bottom right. 300 tokens cross a bucket's bound, so the cache also grows on the way.
fn chunked_prefill_and_decode_match_full_pass<B: Backend>() {
    let model = model::<B>();
    let ids = ids(300, 1);
    let expected = full(&model, &ids);
    let mut cache = cache(&model, 1);
    let mut found = Vec::new();
    let mut rest = ids.as_slice();
    for len in [100, 1, 1, 7, 150, 40, 1] {
        let (chunk, tail) = rest.split_at(len);
        found.extend(feed(&model, &mut cache, chunk));
        rest = tail;
    }
    assert!(rest.is_empty());
    assert_eq!(cache.len(0), 300);
    assert_close("logits", &found, &expected, TOLERANCE);
}

on_every_backend!(chunked_prefill_and_decode_match_full_pass);
