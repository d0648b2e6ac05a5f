//! The sampler as a whole: order of its steps, its generator, what it remembers.

use super::*;
use crate::hint::Hint;

/// exp gives 8, 4, 2, 1, 1.
fn row() -> Vec<f32> {
    [8f32, 4.0, 2.0, 1.0, 1.0].map(f32::ln).to_vec()
}

fn sampler(params: SamplingParams) -> Sampler {
    Sampler::new(params, 5).expect("the parameters are in range")
}

#[test]
fn the_default_is_greedy_and_takes_no_number() {
    let mut sampler = sampler(SamplingParams::default());
    let fresh = sampler.clone().uniform();
    assert_eq!(sampler.sample(&row()), Ok(0));
    assert_eq!(sampler.uniform(), fresh);
}

#[test]
fn a_sampled_token_takes_one_number_even_if_one_token_is_left() {
    let params = SamplingParams {
        temperature: 1.0,
        top_k: Some(1),
        ..Default::default()
    };
    let mut sampler = sampler(params);
    let mut other = sampler.clone();
    assert_eq!(sampler.sample(&row()), Ok(0));
    other.uniform();
    assert_eq!(sampler.uniform(), other.uniform());
}

/// The first numbers of ChaCha8 under `seed_from_u64(42)`, from a transcription of the ChaCha
/// and PCG32 papers in Python.
#[test]
fn the_generator_is_portable() {
    let params = SamplingParams {
        seed: Some(42),
        ..Default::default()
    };
    let mut sampler = sampler(params);
    let numbers = [sampler.uniform(), sampler.uniform(), sampler.uniform()];
    assert_eq!(
        numbers,
        [0.6818961923066714, 0.950275407672484, 0.4275164028565197]
    );
}

#[test]
fn a_drawn_seed_is_reported_and_repeats_the_run() {
    let params = SamplingParams {
        temperature: 1.0,
        ..Default::default()
    };
    let mut first = sampler(params.clone());
    let mut again = sampler(SamplingParams {
        seed: Some(first.seed()),
        ..params.clone()
    });
    let mut other = sampler(params);
    let run =
        |sampler: &mut Sampler| -> Vec<_> { (0..64).map(|_| sampler.sample(&row())).collect() };
    let ids = run(&mut first);
    assert_eq!(ids, run(&mut again));
    assert_ne!(ids, run(&mut other));
}

#[test]
fn frequencies_follow_the_probabilities() {
    let params = SamplingParams {
        temperature: 1.0,
        seed: Some(7),
        ..Default::default()
    };
    let mut sampler = sampler(params);
    let n = 40_000;
    let mut counts = [0f64; 5];
    for _ in 0..n {
        counts[sampler.sample(&row()).expect("a token") as usize] += 1.0;
    }
    for (count, p) in counts.iter().zip([0.5, 0.25, 0.125, 0.0625, 0.0625f64]) {
        let sigma = (f64::from(n) * p * (1.0 - p)).sqrt();
        assert!((count - f64::from(n) * p).abs() < 4.0 * sigma, "{counts:?}");
    }
}

#[test]
fn temperature_comes_before_top_p_and_min_p() {
    // At temperature 1/2 the weights are 64, 16, 4, 1, 1 of 86. top_p 0.75 keeps one token; at
    // temperature 1 it would keep three.
    let params = SamplingParams {
        temperature: 0.5,
        top_p: 0.74,
        ..Default::default()
    };
    let mut one = sampler(params.clone());
    assert!((0..200).all(|_| one.sample(&row()) == Ok(0)));
    // min_p 0.3: at temperature 1 the second token would be kept, at 1/2 it is not.
    let mut one = sampler(SamplingParams {
        top_p: 1.0,
        min_p: 0.3,
        ..params
    });
    assert!((0..200).all(|_| one.sample(&row()) == Ok(0)));
}

#[test]
fn the_bias_comes_before_the_repetition_penalty() {
    // 1 + 2 = 3, halved 1.5 < 2. Penalty first would give 0.5 + 2 = 2.5 > 2.
    let mut sampler = sampler(SamplingParams {
        logit_bias: vec![(0, 2.0)],
        repetition_penalty: 2.0,
        ..Default::default()
    });
    sampler.observe(&[0]);
    assert_eq!(sampler.sample(&[1.0, 2.0]), Ok(1));
}

#[test]
fn the_repetition_penalty_counts_prompt_and_output() {
    let mut sampler = sampler(SamplingParams {
        repetition_penalty: 10.0,
        ..Default::default()
    });
    sampler.observe(&[0, 0]);
    let row = [5.0, 4.0, 3.0, 2.0, 1.0];
    let ids: Vec<_> = (0..4).map(|_| sampler.sample(&row)).collect();
    assert_eq!(ids, [Ok(1), Ok(2), Ok(3), Ok(4)]);
}

#[test]
fn presence_and_frequency_penalties_count_the_output_alone() {
    let row = [5.0, 4.5, 0.0];
    let params = SamplingParams {
        presence_penalty: 1.0,
        ..Default::default()
    };
    let mut presence = sampler(params);
    presence.observe(&[0]);
    let ids: Vec<_> = (0..4).map(|_| presence.sample(&row)).collect();
    // 5 | 4, 4.5 | 4, 3.5 and so on: paid once.
    assert_eq!(ids, [Ok(0), Ok(1), Ok(0), Ok(0)]);
    let mut frequency = sampler(SamplingParams {
        frequency_penalty: 1.0,
        ..Default::default()
    });
    let ids: Vec<_> = (0..4).map(|_| frequency.sample(&row)).collect();
    // 5, 4.5 | 4, 4.5 | 4, 3.5 | 3, 3.5: paid each time.
    assert_eq!(ids, [Ok(0), Ok(1), Ok(0), Ok(1)]);
}

#[test]
fn ids_beyond_the_allowed_are_never_seen() {
    let mut greedy = Sampler::new(SamplingParams::default(), 3).expect("in range");
    assert_eq!(greedy.sample(&[0.0, 1.0, 0.5, 9.0]), Ok(1));
    assert_eq!(greedy.sample(&[0.0, 1.0, 0.5, f32::NAN]), Ok(1));
    // A row shorter than the allowed ids is the whole row.
    assert_eq!(greedy.sample(&[0.0]), Ok(0));
    let nothing = SamplingError::NothingToSample { candidates: 0 };
    assert_eq!(greedy.sample(&[]), Err(nothing));
}

#[test]
fn an_overflow_made_by_the_penalty_is_an_error_too() {
    let mut sampler = sampler(SamplingParams {
        repetition_penalty: f32::MIN_POSITIVE,
        ..Default::default()
    });
    sampler.observe(&[1]);
    let error = sampler.sample(&[1.0, 2e3]).expect_err("2000 / 1e-38");
    assert_eq!(
        error.to_string(),
        "the logit of token id 1 must be finite or -inf, found inf"
    );
    assert!(error.hint().is_some_and(|hint| hint.contains("f32")));
}

#[test]
fn a_parameter_out_of_range_is_named() {
    type Change = fn(&mut SamplingParams);
    let cases: [(Change, &str); 9] = [
        (
            |p| p.temperature = f32::NAN,
            "`temperature` must be 0 or more, found NaN",
        ),
        (
            |p| p.temperature = -0.5,
            "`temperature` must be 0 or more, found -0.5",
        ),
        (|p| p.top_p = 1.5, "`top_p` must be from 0 to 1, found 1.5"),
        (
            |p| p.min_p = f32::NAN,
            "`min_p` must be from 0 to 1, found NaN",
        ),
        (
            |p| p.repetition_penalty = 0.0,
            "`repetition_penalty` must be above 0, found 0",
        ),
        (
            |p| p.presence_penalty = 3.0,
            "`presence_penalty` must be from -2 to 2, found 3",
        ),
        (
            |p| p.frequency_penalty = -3.0,
            "`frequency_penalty` must be from -2 to 2, found -3",
        ),
        (
            |p| p.logit_bias = vec![(0, f32::INFINITY)],
            "`logit_bias` must be from -100 to 100, found inf",
        ),
        (
            |p| p.logit_bias = vec![(5, 1.0)],
            "`logit_bias` names token id 5, expected an id below 5",
        ),
    ];
    for (change, message) in cases {
        let mut params = SamplingParams::default();
        change(&mut params);
        let error = Sampler::new(params, 5).expect_err(message);
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn parameters_survive_json_and_a_misspelled_one_does_not() {
    let params = SamplingParams {
        temperature: 0.7,
        top_k: Some(40),
        logit_bias: vec![(3, -1.5)],
        seed: Some(u64::MAX),
        ..Default::default()
    };
    let json = serde_json::to_string(&params).expect("serializable");
    assert_eq!(
        serde_json::from_str::<SamplingParams>(&json).expect("valid"),
        params
    );
    let empty = serde_json::from_str::<SamplingParams>("{}").expect("valid");
    assert_eq!(empty, SamplingParams::default());
    assert!(serde_json::from_str::<SamplingParams>(r#"{"topk":1}"#).is_err());
}
