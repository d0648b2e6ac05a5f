//! Layers of OLMo 2 1B on a backend: `cargo bench -p olmo2-benches --bench model`.
//!
//! Two layers of real width and a small vocabulary; `olmo2-cli bench` measures whole models.

use burn::backend::Flex;
use divan::Bencher;
use divan::counter::ItemsCount;
use olmo2::{CacheOptions, ForwardInput};
use olmo2_benches::{model, sized};

fn main() {
    divan::main();
}

/// One token after so many cached ones.
#[divan::bench(args = [0, 512, 2048])]
fn decode(bencher: Bencher<'_, '_>, depth: usize) {
    let model = model::<Flex>(2);
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

/// A prompt on an empty cache.
#[divan::bench(args = [32, 512])]
fn prefill(bencher: Bencher<'_, '_>, tokens: usize) {
    let model = model::<Flex>(2);
    let mut cache = model.new_cache(CacheOptions::default());
    let prompt: Vec<u32> = (0..sized(tokens, 5) as u32).collect();
    bencher
        .counter(ItemsCount::new(prompt.len()))
        .bench_local(|| {
            cache.clear();
            let input = ForwardInput::ids(&prompt).with_cache(&mut cache);
            model.forward(input.last_logits()).expect("room").logits
        });
}
