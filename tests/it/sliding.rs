//! Sliding layers of Olmo 3, whose cache keeps a window: chunks, batches, truncation and copies
//! against transformers' answers over the whole prompt.

use burn::prelude::*;
use olmo2::{CacheDtype, CacheOptions, ForwardInput, InputError, KvCache, LoadOptions, Olmo2};
use olmo2_tests::{GoldenPrompt, assert_close, golden_folder, golden_prompts, on_cpus, values};

const GOLDEN: &str = "olmo3-tiny";
const WINDOW: usize = 8;
const VOCAB: usize = 300;
const TOLERANCE: f32 = 1e-3;

fn model<B: Backend>() -> Olmo2<B> {
    let device = B::Device::default();
    Olmo2::load(&golden_folder(GOLDEN), &LoadOptions::default(), &device).expect("a model")
}

/// Prompt, its logits and what follows greedily; the prompt is longer than the window.
fn long() -> GoldenPrompt {
    let prompt = golden_prompts(GOLDEN).pop().expect("prompts");
    assert!(prompt.ids.len() > 3 * WINDOW);
    prompt
}

fn cache<B: Backend>(model: &Olmo2<B>, slots: usize, chunk: usize) -> KvCache<B> {
    model.new_cache(CacheOptions {
        slots,
        capacity: 512,
        chunk,
        dtype: Some(CacheDtype::F32),
    })
}

/// Logits of a run in slot 0, `[tokens, vocab]`.
fn feed<B: Backend>(model: &Olmo2<B>, cache: &mut KvCache<B>, ids: &[u32]) -> Vec<f32> {
    let input = ForwardInput::ids(ids).with_cache(cache);
    let output = model.forward(input).expect("a run that fits");
    values(output.logits.expect("logits"))
}

/// The positions of the cache move several times: 512 are allocated in multiples of 256 at most.
fn greedy_decoding_moves_the_window<B: Backend>() {
    let (model, golden) = (model::<B>(), long());
    let mut cache = cache(&model, 1, 5);
    let mut found = Vec::new();
    for chunk in golden.ids.chunks(5) {
        found.extend(feed(&model, &mut cache, chunk));
    }
    assert_close("chunks of 5", &found, &golden.logits, TOLERANCE);
    let mut logits = found[found.len() - VOCAB..].to_vec();
    for &id in &golden.greedy {
        let best = (0..VOCAB).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
        assert_eq!(best, Some(id as usize));
        logits = feed(&model, &mut cache, &[id]);
    }
}

/// A long sequence, run through a cache that keeps little of it, equals a pass without a cache.
fn a_window_far_from_the_beginning_is_right<B: Backend>() {
    let model = model::<B>();
    let ids: Vec<u32> = (0..300).map(|i| (i * 37 + 5) % VOCAB as u32).collect();
    let whole = model.forward(ForwardInput::ids(&ids)).expect("no cache");
    let whole = values(whole.logits.expect("logits"));
    let mut cache = cache(&model, 1, 20);
    let mut found = Vec::new();
    for chunk in ids.chunks(20) {
        found.extend(feed(&model, &mut cache, chunk));
    }
    assert_close("300 tokens", &found, &whole, TOLERANCE);
    let full = 2 * 512 + 6 * 256;
    let head = 16 * 4;
    assert!(
        cache.size_bytes() <= 2 * 2 * head * full,
        "{}",
        cache.size_bytes()
    );
}

fn runs_of_several_slots_equal_each_alone<B: Backend>() {
    let (model, golden) = (model::<B>(), long());
    let mut cache = cache(&model, 3, 6);
    let last = |len: usize| &golden.logits[(len - 1) * VOCAB..len * VOCAB];
    let mut start = [0, 0, 0];
    for lens in [[6, 2, 1], [6, 5, 1], [6, 5, 6], [6, 6, 1]] {
        let runs = (0..3).map(|slot| golden.ids[start[slot]..start[slot] + lens[slot]].to_vec());
        let input = ForwardInput::runs(runs.collect())
            .slots(vec![2, 0, 1])
            .with_cache(&mut cache);
        let output = model.forward(input.last_logits()).expect("runs that fit");
        let logits = values(output.logits.expect("logits"));
        for (slot, logits) in logits.chunks_exact(VOCAB).enumerate() {
            start[slot] += lens[slot];
            assert_close("a run", logits, last(start[slot]), TOLERANCE);
        }
    }
}

fn what_is_cut_off_is_run_again<B: Backend>() {
    let (model, golden) = (model::<B>(), long());
    let mut roomy = cache(&model, 2, 512);
    feed(&model, &mut roomy, &golden.ids);
    assert_eq!(roomy.truncate(0, 12), 12);
    assert_eq!(roomy.copy_prefix(0, 1, 12), 12);
    for slot in [0, 1] {
        let input = ForwardInput::ids(&golden.ids[12..]).slots(vec![slot]);
        let output = model.forward(input.with_cache(&mut roomy)).expect("room");
        let found = values(output.logits.expect("logits"));
        assert_close("cut at 12", &found, &golden.logits[12 * VOCAB..], TOLERANCE);
    }
}

fn a_longer_run_than_the_chunk_is_refused<B: Backend>() {
    let (model, golden) = (model::<B>(), long());
    let mut cache = cache(&model, 1, 6);
    let input = ForwardInput::ids(&golden.ids[..7]).with_cache(&mut cache);
    let error = model.forward(input).expect_err("too long a run");
    assert!(
        matches!(
            error,
            InputError::Chunk {
                tokens: 7,
                chunk: 6
            }
        ),
        "{error}"
    );
    assert!(cache.is_empty(0));
}

on_cpus!(
    greedy_decoding_moves_the_window,
    a_window_far_from_the_beginning_is_right,
    runs_of_several_slots_equal_each_alone,
    what_is_cut_off_is_run_again,
    a_longer_run_than_the_chunk_is_refused,
);

#[cfg(feature = "wgpu")]
mod wgpu {
    use olmo2_tests::backends::Wgpu;

    // Of the tests above those of few shapes, which are tuned on Vulkan in software.
    #[test]
    fn greedy_decoding_moves_the_window() {
        super::greedy_decoding_moves_the_window::<Wgpu>();
    }

    #[test]
    fn runs_of_several_slots_equal_each_alone() {
        super::runs_of_several_slots_equal_each_alone::<Wgpu>();
    }
}
