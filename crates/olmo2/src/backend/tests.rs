//! The chain on one backend, both ways: what one link answers equals what another answers.

use burn::module::Param;
use burn::tensor::{Distribution, Tolerance};
use burn_flex::Flex;

use super::counting::{Counts, counted};
use super::*;
use crate::cache::CacheOptions;
use crate::config::Olmo2Config;
use crate::forward::ForwardInput;
use crate::model::Olmo2;
use crate::nn::Linear;
use crate::precision::Precision;

fn tiny() -> Olmo2<Flex> {
    let config = Olmo2Config::from_json(
        r#"{"model_type": "olmo2", "vocab_size": 50, "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "max_position_embeddings": 64}"#,
    );
    Olmo2::new(&config.expect("a valid config"), &Default::default())
}

fn logits(model: &Olmo2<Flex>, ids: &[u32]) -> Tensor<Flex, 2> {
    let mut cache = model.new_cache(CacheOptions::default());
    let input = ForwardInput::ids(ids).with_cache(&mut cache);
    let output = model.forward(input).expect("the input fits");
    output.logits.expect("all logits are wanted")
}

#[test]
fn a_new_link_answers_what_it_can_and_the_chain_goes_on() {
    let (model, ids) = (tiny(), [3, 1, 4, 1, 5]);
    let without = logits(&model, &ids);
    let (with, counts) = counted(|| logits(&model, &ids));
    let expected = Counts {
        // q, k, v in one; o; down: of two layers, and the head.
        matmuls_asked: 7,
        matmuls_answered: 1,
        attentions_asked: 2,
        attentions_answered: 1,
        // Gate and up, two norms of each layer and the last; rotated queries and keys of the
        // attention that was answered in burn's operations; keys and values of two layers.
        declined: 2 + 5 + 2 + 4,
    };
    assert_eq!(counts, expected);
    let tolerance = Tolerance::<f32>::absolute(1e-5);
    with.into_data()
        .assert_approx_eq(&without.into_data(), tolerance);
}

fn biased(out: usize, input: usize, bias: f32) -> Linear<Flex> {
    let device = Default::default();
    let mut linear = Linear::new([out, input], true, 1.0, &device);
    linear.bias = Some(Param::from_tensor(Tensor::full([out], bias, &device)));
    linear
}

#[test]
fn matmuls_are_those_of_burn() {
    let linears = [biased(5, 3, 0.5), biased(5, 3, -2.0)];
    let weights = linears.each_ref().map(Linear::as_weight);
    for (rows, decode_rows) in [(2, 2), (20, 0), (20, 20), (40, 19)] {
        let x = Tensor::random([rows, 3], Distribution::Default, &Default::default());
        let request = Matmul {
            x,
            decode_rows,
            precision: Precision::F32,
        };
        let tolerance = Tolerance::<f32>::absolute(1e-5);
        let own = super::flex::matmul(&request, &weights).expect("the backend is Flex");
        for (own, burn) in own.into_iter().zip(plain::matmul(&request, &weights)) {
            own.into_data()
                .assert_approx_eq(&burn.into_data(), tolerance);
        }
        let own = super::flex::matmul_gated(&request, &weights).expect("the backend is Flex");
        let burn = plain::matmul_gated(&request, &weights);
        own.into_data()
            .assert_approx_eq(&burn.into_data(), tolerance);
    }
}

/// Decode rows have the same bits however many there are, and so have the others.
#[test]
fn rows_do_not_depend_on_other_rows() {
    let linear = biased(7, 40, 0.25);
    let weights = [linear.as_weight()];
    let x = Tensor::<Flex, 2>::random([50, 40], Distribution::Default, &Default::default());
    let own = |x: Tensor<Flex, 2>, decode_rows| {
        let precision = Precision::F32;
        let request = Matmul {
            x,
            decode_rows,
            precision,
        };
        let [y] = super::flex::matmul(&request, &weights).expect("the backend is Flex");
        y.into_data()
    };
    let rows = |range: std::ops::Range<usize>| x.clone().slice([range, 0..40]);
    let all = Tensor::<Flex, 2>::from_data(own(rows(0..50), 30), &Default::default());
    for row in [0, 15, 16, 29] {
        let alone = own(rows(row..row + 1), 1);
        assert_eq!(all.clone().slice([row..row + 1, 0..7]).into_data(), alone);
    }
    let prefill = all.slice([30..50, 0..7]).into_data();
    assert_eq!(prefill, own(rows(30..50), 0));
}
