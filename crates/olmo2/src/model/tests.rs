//! A model of two layer kinds, which differ in their rotation.

use burn::backend::Flex;
use burn::tensor::Tolerance;

use super::*;
use crate::config::{RopeConfig, RopeKind};
use crate::nn::{LayerKind, RotaryEmbedding};

fn model(thetas: &[f64], of_layer: &[usize]) -> Olmo2<Flex> {
    let text = format!(
        r#"{{"model_type": "olmo2", "vocab_size": 50, "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": {}, "num_attention_heads": 4, "num_key_value_heads": 2,
            "max_position_embeddings": 64, "initializer_range": 0.2}}"#,
        of_layer.len()
    );
    let config = Olmo2Config::from_json(&text).expect("a valid config");
    let mut model = Olmo2::new(&config, &Default::default());
    let rope = |&theta: &f64| {
        let kind = RopeKind::Default;
        RotaryEmbedding::new(RopeConfig { theta, kind }, config.head_dim)
    };
    let kind = |theta| LayerKind {
        rope: rope(theta),
        window: None,
    };
    model.kinds = LayerKinds {
        kinds: thetas.iter().map(kind).collect(),
        of_layer: of_layer.to_vec(),
    };
    model
}

fn logits(model: &Olmo2<Flex>, cached: bool) -> Tensor<Flex, 2> {
    let mut cache = model.new_cache(CacheOptions::default());
    let input = ForwardInput::ids(&[3, 1, 4, 1, 5, 9, 2, 6]);
    let input = match cached {
        true => input.with_cache(&mut cache),
        false => input,
    };
    let output = model.forward(input).expect("the input fits");
    output.logits.expect("all logits are wanted")
}

fn assert_close(a: Tensor<Flex, 2>, b: &Tensor<Flex, 2>) {
    let tolerance = Tolerance::<f32>::absolute(1e-4);
    a.into_data()
        .assert_approx_eq(&b.clone().into_data(), tolerance);
}

fn differ(a: Tensor<Flex, 2>, b: &Tensor<Flex, 2>) -> bool {
    (a - b.clone()).abs().max().into_scalar() > 1e-3
}

/// Layers of one kind take their rotation from it: two kinds that are alike equal one, two that
/// differ equal neither, and the order of kinds does not matter.
#[test]
fn each_layer_takes_the_rotation_of_its_kind() {
    let base = model(&[10_000.0], &[0, 0]);
    let with = |thetas: &[f64], of_layer: &[usize]| {
        let mut changed = base.clone();
        changed.kinds = model(thetas, of_layer).kinds;
        changed
    };
    for cached in [false, true] {
        let one = logits(&base, cached);
        let other = logits(&with(&[50.0], &[0, 0]), cached);
        let mixed = logits(&with(&[10_000.0, 50.0], &[0, 1]), cached);
        assert_close(logits(&with(&[10_000.0; 2], &[0, 1]), cached), &one);
        assert_close(logits(&with(&[50.0, 10_000.0], &[1, 0]), cached), &mixed);
        assert!(differ(mixed.clone(), &one) && differ(mixed, &other));
    }
    let mixed = with(&[10_000.0, 50.0], &[0, 1]);
    assert_close(logits(&mixed, true), &logits(&mixed, false));
}
