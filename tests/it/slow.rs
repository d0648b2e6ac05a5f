//! Tests on checkpoints of real size, run by `cargo xtask slow`.

use std::path::PathBuf;
use std::time::Instant;

use burn::prelude::*;
use olmo2::{ForwardInput, GenerateParams, LoadOptions, Olmo2, Session};
use olmo2_tests::{assert_close, golden_prompts_of, values};

/// bf16 weights computed with in f32: sums over 2048 to 8192 terms, 16 layers deep.
const TOLERANCE: f32 = 2e-3;

/// The shape of OLMo-2-0425-1B with seeded weights against transformers in f32.
#[test]
#[ignore = "needs OLMO2_1B: a folder made by `make_checkpoint.py OUT --preset 1b`, or its record"]
fn one_billion_parameters_match_transformers() {
    let folder = PathBuf::from(std::env::var_os("OLMO2_1B").expect("OLMO2_1B"));
    matches::<olmo2_tests::backends::Flex>(&folder);
}

fn matches<B: Backend>(folder: &std::path::Path) {
    let device = B::Device::default();
    let started = Instant::now();
    let model = Olmo2::<B>::load(folder, &LoadOptions::default(), &device).expect("a model");
    println!("loaded in {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
    for golden in golden_prompts_of("1b-seed0.safetensors") {
        let input = ForwardInput::ids(&golden.ids).last_logits();
        let logits = values(
            model
                .forward(input)
                .expect("a valid prompt")
                .logits
                .expect("logits"),
        );
        assert_close("logits", &logits, &golden.logits, TOLERANCE);

        let mut params = GenerateParams::greedy(&model, golden.greedy.len());
        params.stop_ids.clear();
        let mut session = Session::new(model.clone(), 4096);
        let mut generation = session.generate(&golden.ids, params).expect("room");
        let greedy: Vec<u32> = generation.by_ref().map(|id| id.expect("finite")).collect();
        assert_eq!(greedy, golden.greedy);
        let timings = generation.timings();
        println!(
            "{} tokens: prefill {:.1} tok/s, decode {:.1} tok/s",
            golden.ids.len(),
            timings.prefill_tokens_per_second(),
            timings.decode_tokens_per_second()
        );
    }
}
