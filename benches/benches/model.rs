//! Layers and models on a backend: `cargo bench -p olmo2-benches --bench model`.
//!
//! One layer of OLMo 2 1B at its real width with a small vocabulary, and the whole embedded model,
//! in each format of weights; `olmo2-cli bench` measures whole models of real size.
//!
//! Allocations are counted as well. An iteration of `layer_decode` or `model_decode` is one decoded
//! token: its count stands in the first line under `alloc:`, its bytes in the second. The
//! command for these alone is `cargo bench -p olmo2-benches --bench model -- decode`.

use burn::backend::Flex;
use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher};
use olmo2::{CacheOptions, ForwardInput, Olmo2};
use olmo2_benches::{Format, embedded, layer, sized};

/// Counts the allocations of each iteration, at the cost of some nanoseconds each.
#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    olmo2_kernels::keep_freed_memory();
    divan::main();
}

/// One token after `depth` cached ones.
#[divan::bench(args = arguments([0, 512, 2048]))]
fn layer_decode(bencher: Bencher<'_, '_>, (format, depth): (Format, usize)) {
    decode(bencher, &layer(format), depth);
}

/// A prompt of `tokens` tokens on an empty cache.
#[divan::bench(args = arguments([32, 512]))]
fn layer_prefill(bencher: Bencher<'_, '_>, (format, tokens): (Format, usize)) {
    prefill(bencher, &layer(format), tokens);
}

/// As [`layer_decode`], for the whole of a small model.
#[divan::bench(args = arguments([0, 256]))]
fn model_decode(bencher: Bencher<'_, '_>, (format, depth): (Format, usize)) {
    decode(bencher, &embedded(format), depth);
}

/// As [`layer_prefill`], for the whole of a small model.
#[divan::bench(args = arguments([32, 512]))]
fn model_prefill(bencher: Bencher<'_, '_>, (format, tokens): (Format, usize)) {
    prefill(bencher, &embedded(format), tokens);
}

/// Each format with each value.
fn arguments<const N: usize>(values: [usize; N]) -> Vec<(Format, usize)> {
    let pairs = |format| values.map(|value| (format, value));
    Format::ALL.into_iter().flat_map(pairs).collect()
}

fn decode(bencher: Bencher<'_, '_>, model: &Olmo2<Flex>, depth: usize) {
    let mut cache = model.new_cache(CacheOptions::default());
    let depth = sized(depth, depth.min(3));
    for chunk in vec![7; depth].chunks(512) {
        model
            .forward(ForwardInput::ids(chunk).with_cache(&mut cache))
            .expect("room");
    }
    bencher.counter(ItemsCount::new(1usize)).bench_local(|| {
        cache.truncate(0, depth);
        let input = ForwardInput::ids(&[11]).with_cache(&mut cache);
        model.forward(input.last_logits()).expect("room").logits
    });
}

fn prefill(bencher: Bencher<'_, '_>, model: &Olmo2<Flex>, tokens: usize) {
    let mut cache = model.new_cache(CacheOptions::default());
    let prompt: Vec<u32> = (0..sized(tokens, tokens.min(20)) as u32).collect();
    bencher
        .counter(ItemsCount::new(prompt.len()))
        .bench_local(|| {
            cache.clear();
            let input = ForwardInput::ids(&prompt).with_cache(&mut cache);
            model.forward(input.last_logits()).expect("room").logits
        });
}
