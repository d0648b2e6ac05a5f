//! The goldens: logits, hidden states and greedy tokens as transformers computed them in f32.

use burn::prelude::*;
use olmo2::{ForwardInput, GenerateParams, LoadOptions, Olmo2, Session};
use olmo2_tests::{assert_close, golden_folder, golden_prompts, values};

/// Largest difference allowed on CPUs.
#[cfg(any(feature = "flex", feature = "ndarray"))]
const CPU: f32 = 1e-4;
/// Largest difference allowed on GPUs, whose sums are taken in another order and with faster
/// exponentials.
#[cfg(feature = "wgpu")]
const GPU: f32 = 1e-3;

fn matches_golden<B: Backend>(name: &str, tolerance: f32) {
    let device = B::Device::default();
    let folder = golden_folder(name);
    let model = Olmo2::<B>::load(&folder, &LoadOptions::default(), &device).expect("a model");
    for (k, golden) in golden_prompts(name).into_iter().enumerate() {
        let input = ForwardInput::ids(&golden.ids).hidden_states();
        let output = model.forward(input).expect("a valid prompt");
        let logits = values(output.logits.expect("logits"));
        assert_close(
            &format!("{name}: logits {k}"),
            &logits,
            &golden.logits,
            tolerance,
        );
        let hidden: Vec<f32> = output.hidden_states.into_iter().flat_map(values).collect();
        assert_close(
            &format!("{name}: hidden {k}"),
            &hidden,
            &golden.hidden,
            tolerance,
        );

        let mut params = GenerateParams::greedy(&model, golden.greedy.len());
        params.stop_ids.clear();
        let mut session = Session::new(model.clone(), golden.ids.len() + golden.greedy.len());
        let generation = session.generate(&golden.ids, params).expect("room");
        let greedy: Vec<u32> = generation.map(|id| id.expect("finite logits")).collect();
        assert_eq!(greedy, golden.greedy, "{name}: greedy tokens {k}");
    }
}

macro_rules! goldens {
    ($backend:ident, $type:ident, $tolerance:ident, $($test:ident: $name:literal),* $(,)?) => {
        mod $backend {
            $(#[test] fn $test() {
                super::matches_golden::<olmo2_tests::backends::$type>($name, super::$tolerance)
            })*
        }
    };
    ($backend:ident, $type:ident, $tolerance:ident) => {
        goldens!($backend, $type, $tolerance,
            heads_of_their_own: "mha-tiny",
            shared_key_value_heads: "gqa-tiny",
            one_key_value_head_and_tied_embeddings: "mqa-tied",
            attention_bias_and_another_eps: "bias-eps",
            linear_rope: "rope-linear",
            dynamic_rope: "rope-dynamic",
            yarn_rope: "rope-yarn",
            llama3_rope: "rope-llama3",
            sliding_layers: "olmo3-tiny",
            sliding_layers_with_nested_ropes: "olmo3-nested",
            sliding_layers_with_one_flat_rope: "olmo3-flat",
        );
    };
}

#[cfg(feature = "flex")]
goldens!(flex, Flex, CPU);
#[cfg(feature = "ndarray")]
goldens!(ndarray, NdArray, CPU);
#[cfg(feature = "wgpu")]
goldens!(wgpu, Wgpu, GPU);
