//! Each seam both ways on one backend: own kernels on Flex, burn's operations under `Autodiff`,
//! whose primitives the casts do not match.

#![cfg(feature = "flex")]

use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::DType;
use olmo2::{ForwardInput, LoadOptions, Olmo2, Session};
use olmo2_tests::backends::Flex;
use olmo2_tests::{assert_close, golden_folder, values};

fn load<B: Backend>(name: &str) -> Olmo2<B> {
    let device = B::Device::default();
    Olmo2::load(&golden_folder(name), &LoadOptions::default(), &device).expect("a model")
}

/// Logits of a prompt in two chunks over a cache, the first of as many tokens as make a prefill,
/// then of one more token.
fn cached<B: Backend>(model: &Olmo2<B>) -> Vec<f32> {
    let mut cache = model.new_cache(Default::default());
    let prompt: Vec<u32> = (0..20).map(|i| i * 7 % 10).collect();
    let chunks: [&[u32]; 3] = [&prompt, &[5, 3, 5, 8, 9], &[7]];
    let feed = |ids: &&[u32]| {
        let input = ForwardInput::ids(ids).with_cache(&mut cache);
        values(model.forward(input).expect("valid").logits.expect("logits"))
    };
    chunks.iter().flat_map(feed).collect()
}

/// `bias-eps` has biases, `gqa-tiny` bf16 weights and shared heads.
#[test]
fn own_kernels_agree_with_burns_operations() {
    for name in ["bias-eps", "gqa-tiny"] {
        let kernels = load::<Flex>(name);
        let operations = load::<Autodiff<Flex>>(name);
        assert_close(name, &cached(&kernels), &cached(&operations), 1e-4);
    }
}

/// Own kernels read bf16 in place; burn's operations get the weights widened, once, at load.
#[test]
fn stored_weights_are_widened_only_where_no_kernel_reads_them() {
    fn held<B: Backend>(model: &Olmo2<B>) -> DType {
        let weight = &model.model.layers[0].self_attn.q_proj.weight;
        weight.float().expect("floats").val().dtype()
    }
    assert_eq!(held(&load::<Flex>("gqa-tiny")), DType::BF16);
    assert_eq!(held(&load::<Autodiff<Flex>>("gqa-tiny")), DType::F32);
}

/// A clone of a cache keeps what it holds while the original is written in place.
#[test]
fn a_cloned_cache_is_not_written_through() {
    let model = load::<Flex>("mha-tiny");
    let mut cache = model.new_cache(Default::default());
    let feed = |cache: &mut _, ids: &[u32]| {
        let input = ForwardInput::ids(ids).with_cache(cache);
        values(model.forward(input).expect("valid").logits.expect("logits"))
    };
    feed(&mut cache, &[1, 2, 3]);
    let mut branch = cache.clone();
    let first = feed(&mut cache, &[4, 5]);
    feed(&mut branch, &[9, 9]);
    cache.truncate(0, 3);
    assert_eq!(feed(&mut cache, &[4, 5]), first);
    branch.truncate(0, 3);
    assert_eq!(feed(&mut branch, &[4, 5]), first);
}

/// A session reuses the common beginning of two prompts, and the answer stays the same.
#[test]
fn reused_prefixes_change_no_token() {
    let model = load::<Flex>("mha-tiny");
    let params = || olmo2::GenerateParams {
        stop_ids: vec![],
        ..olmo2::GenerateParams::greedy(&model, 8)
    };
    let run = |session: &mut Session<Flex>, prompt: &[u32]| {
        let mut generation = session.generate(prompt, params()).expect("room");
        let ids: Vec<u32> = generation.by_ref().map(|id| id.expect("finite")).collect();
        (ids, generation.timings().prefill_tokens)
    };
    let (first, second) = ([1, 2, 3, 4, 5], [1, 2, 3, 9, 8, 7]);
    let mut session = Session::new(model.clone(), 64);
    run(&mut session, &first);
    let (reused, fed) = run(&mut session, &second);
    let (fresh, all) = run(&mut Session::new(model.clone(), 64), &second);
    assert_eq!((fed, all), (3, 6));
    assert_eq!(reused, fresh);
    let (again, fed) = run(&mut session, &second);
    assert_eq!((again, fed), (fresh, 1));
}
