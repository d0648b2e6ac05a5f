//! The sampler against a second one in Python (`golden/sampling/generate.py`), and on rows as
//! long as OLMo 2's.

use olmo2::DOLMA2_TOKENS;
use olmo2::sampling::{Sampler, SamplingError, SamplingParams, log_prob, top_logprobs};
use serde_json::Value;

/// Rows of an OLMo 2 model's logits.
const VOCAB: usize = 100_352;

/// The row that `generate.py` has at this step: distinct multiples of 1/64.
fn row(step: usize, vocab: usize) -> Vec<f32> {
    let value = |i: usize| (i * 7919 + step * 104_729) % 1009;
    (0..vocab)
        .map(|i| (value(i) as f32 - 504.0) / 64.0)
        .collect()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).expect("a list of ids")
}

#[test]
fn runs_equal_those_of_a_second_sampler() {
    let json = include_str!("../golden/sampling/cases.json");
    let mut golden: Value = serde_json::from_str(json).expect("valid");
    let vocab = golden["vocab"].as_u64().expect("a number") as usize;
    let cases = golden["cases"].as_array_mut().expect("cases");
    assert_eq!(cases.len(), 9);
    for case in cases {
        let object = case.as_object_mut().expect("an object");
        let expected = ids(&object.remove("ids").expect("ids"));
        let prompt = object.remove("prompt").map_or(Vec::new(), |p| ids(&p));
        let params: SamplingParams = serde_json::from_value(case.clone()).expect("parameters");
        let mut sampler = Sampler::new(params, vocab).expect("in range");
        sampler.observe(&prompt);
        let run: Vec<u32> = (0..expected.len())
            .map(|step| sampler.sample(&row(step, vocab)).expect("a token"))
            .collect();
        assert_eq!(run, expected, "{case}");
    }
}

#[test]
fn padding_rows_are_never_sampled() {
    let mut logits = row(0, VOCAB);
    for logit in &mut logits[DOLMA2_TOKENS..] {
        *logit = 1e4;
    }
    for temperature in [0.0, 1.0, 1e6] {
        let params = SamplingParams {
            temperature,
            seed: Some(1),
            ..Default::default()
        };
        let mut sampler = Sampler::new(params, DOLMA2_TOKENS).expect("in range");
        for _ in 0..50 {
            let id = sampler.sample(&logits).expect("a token");
            assert!((id as usize) < DOLMA2_TOKENS, "{id}");
        }
    }
}

#[test]
fn an_overflowed_row_is_an_error() {
    let mut sampler = Sampler::new(SamplingParams::default(), DOLMA2_TOKENS).expect("in range");
    let error = sampler.sample(&vec![f32::NAN; VOCAB]).expect_err("NaN");
    assert!(matches!(error, SamplingError::NotFinite { id: 0, .. }));
    let nothing = sampler.sample(&vec![f32::NEG_INFINITY; VOCAB]);
    let candidates = DOLMA2_TOKENS;
    assert_eq!(nothing, Err(SamplingError::NothingToSample { candidates }));
}

#[test]
fn log_probabilities_of_a_long_row_sum_to_one() {
    let logits = row(0, VOCAB);
    let all = top_logprobs(&logits, VOCAB);
    let sum: f64 = all.iter().map(|token| token.logprob.exp()).sum();
    assert!((sum - 1.0).abs() < 1e-9, "{sum}");
    assert!(all.is_sorted_by(|a, b| (b.logprob, a.id) <= (a.logprob, b.id)));
    assert_eq!(all[9].logprob, log_prob(&logits, all[9].id));
}
