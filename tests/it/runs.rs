//! Ragged passes: prefill chunks beside decode steps, in any order, equal each sequence alone.

use burn::prelude::*;
use olmo2::{CacheOptions, ForwardInput, InputError, KvCache, LogitRows, Olmo2, Olmo2Config};
use olmo2_tests::{assert_close, fixed_ids, fixed_model, on_cpus, values};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Ids of all models here are below.
const VOCAB: usize = 96;
const TOLERANCE: f32 = 1e-4;
/// No pass is longer.
const MAX_CHUNK: usize = 40;

fn model<B: Backend>() -> Olmo2<B> {
    let text = r#"{"model_type": "olmo2", "vocab_size": 96, "hidden_size": 48,
        "intermediate_size": 80, "num_hidden_layers": 2, "head_dim": 16, "num_attention_heads": 6,
        "num_key_value_heads": 2, "max_position_embeddings": 512, "rope_theta": 10000.0,
        "initializer_range": 0.2}"#;
    let config = Olmo2Config::from_json(text).expect("a valid config");
    fixed_model(&config, &B::Device::default())
}

/// The cuts of each sequence, and which sequences each pass continues.
#[derive(Debug, Clone)]
struct Mix {
    cuts: Vec<Vec<usize>>,
    passes: Vec<Vec<usize>>,
}

impl Mix {
    fn ids(&self, sequence: usize) -> Vec<u32> {
        let len = self.cuts[sequence].iter().sum();
        fixed_ids(len, sequence as u32, VOCAB)
    }

    /// The chunks of a sequence.
    fn chunks(&self, sequence: usize) -> Vec<Vec<u32>> {
        let ids = self.ids(sequence);
        let mut rest = ids.as_slice();
        let cut = |len: &usize| {
            let (chunk, tail) = rest.split_at(*len);
            rest = tail;
            chunk.to_vec()
        };
        self.cuts[sequence].iter().map(cut).collect()
    }
}

/// 1 to 8 sequences of decode steps and prefill chunks, each pass a shuffled subset of those that
/// are not at their end.
fn mixes() -> impl Strategy<Value = Mix> {
    let chunk = prop_oneof![3 => Just(1), 1 => 2..=17_usize, 1 => 17..=MAX_CHUNK];
    let cuts = prop::collection::vec(prop::collection::vec(chunk, 1..=4), 1..=8);
    (cuts, any::<u64>()).prop_map(|(cuts, seed)| {
        let mut dice = crate::dice::Dice(seed);
        let mut left: Vec<usize> = cuts.iter().map(Vec::len).collect();
        let mut passes = Vec::new();
        while left.iter().any(|left| *left > 0) {
            let mut open: Vec<usize> = (0..left.len()).filter(|&i| left[i] > 0).collect();
            let keep = 1 + dice.below(open.len());
            let pass = (0..keep).map(|_| open.swap_remove(dice.below(open.len())));
            let pass: Vec<usize> = pass.collect();
            pass.iter().for_each(|&i| left[i] -= 1);
            passes.push(pass);
        }
        Mix { cuts, passes }
    })
}

fn cache<B: Backend>(model: &Olmo2<B>, slots: usize) -> KvCache<B> {
    model.new_cache(CacheOptions {
        slots,
        capacity: 512,
        ..CacheOptions::default()
    })
}

fn logits<B: Backend>(model: &Olmo2<B>, input: ForwardInput<'_, B>) -> Vec<f32> {
    let output = model.forward(input).expect("a valid input");
    values(output.logits.expect("logits"))
}

/// Logits of each sequence in the mixed passes. Slots are the sequences' numbers, backwards.
fn mixed<B: Backend>(model: &Olmo2<B>, mix: &Mix) -> Vec<Vec<f32>> {
    let count = mix.cuts.len();
    let mut cache = cache(model, count);
    let chunks: Vec<_> = (0..count).map(|i| mix.chunks(i)).collect();
    let mut chunks: Vec<_> = chunks.into_iter().map(Vec::into_iter).collect();
    let mut found = vec![Vec::new(); count];
    for pass in &mix.passes {
        let runs: Vec<_> = pass.iter().filter_map(|&i| chunks[i].next()).collect();
        let lengths: Vec<usize> = runs.iter().map(Vec::len).collect();
        let slots = pass.iter().map(|i| count - 1 - i).collect();
        let input = ForwardInput::runs(runs).slots(slots).with_cache(&mut cache);
        let mut rest = logits(model, input);
        for (&i, len) in pass.iter().zip(lengths) {
            let tail = rest.split_off(len * model.config().vocab_size);
            found[i].append(&mut rest);
            rest = tail;
        }
    }
    found
}

/// Logits of one sequence alone, cut as in the mix.
fn alone<B: Backend>(model: &Olmo2<B>, mix: &Mix, sequence: usize) -> Vec<f32> {
    let mut cache = cache(model, 1);
    let feed = |chunk: Vec<u32>| logits(model, ForwardInput::ids(&chunk).with_cache(&mut cache));
    mix.chunks(sequence).into_iter().flat_map(feed).collect()
}

/// Runs random mixes through `check`; the same ones each time.
fn each_mix(cases: u32, check: impl Fn(&Mix)) {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = proptest::test_runner::TestRng::deterministic_rng(config.rng_algorithm);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let result = runner.run(&mixes(), |mix| {
        check(&mix);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

fn check_against_full_pass<B: Backend>(model: &Olmo2<B>, mix: &Mix, tolerance: f32) {
    for (i, found) in mixed(model, mix).iter().enumerate() {
        let full = logits(model, ForwardInput::ids(&mix.ids(i)));
        assert_close("against one full pass", found, &full, tolerance);
    }
}

fn random_mixes_equal_each_sequence_in_one_pass<B: Backend>() {
    let model = model::<B>();
    each_mix(24, |mix| check_against_full_pass(&model, mix, TOLERANCE));
}

#[cfg(feature = "flex")]
mod bits {
    use super::*;
    use olmo2::{LoadOptions, Precision, QuantFormat, Quantize};
    use olmo2_tests::backends::Flex;
    use olmo2_tests::golden_folder;

    /// Whatever else a pass holds, in f32, bf16 and blocks: cut alike, the bits are the same.
    #[test]
    fn random_mixes_have_the_bits_of_each_sequence_alone() {
        let golden = |precision, quantize: Option<QuantFormat>| {
            let options = LoadOptions {
                precision,
                quantize: quantize.map(Quantize::all),
            };
            Olmo2::<Flex>::load(&golden_folder("gqa-tiny"), &options, &Default::default())
                .expect("a model")
        };
        let models = [
            model(),
            golden(Precision::Bf16, None),
            golden(Precision::F32, Some(QuantFormat::Q8)),
            golden(Precision::F32, Some(QuantFormat::Q4)),
        ];
        each_mix(24, |mix| {
            for model in &models {
                for (i, found) in mixed(model, mix).into_iter().enumerate() {
                    assert_eq!(found, alone(model, mix, i), "sequence {i}");
                }
            }
        });
    }

    /// More sequences than the decode kernels take at a time.
    #[test]
    fn forty_sequences_decode_with_the_bits_of_each_alone() {
        let model = model::<Flex>();
        let mix = Mix {
            cuts: vec![vec![3, 1, 1]; 40],
            passes: vec![(0..40).collect(); 3],
        };
        for (i, found) in mixed(&model, &mix).into_iter().enumerate() {
            assert_eq!(found, alone(&model, &mix, i), "sequence {i}");
        }
    }
}

/// Four mixes whose shapes are those of the other tests on this backend, as far as can be.
#[cfg(feature = "wgpu")]
mod wgpu {
    use super::*;
    use olmo2_tests::backends::Wgpu;

    #[test]
    fn four_mixes_equal_each_sequence_in_one_pass() {
        let model = model::<Wgpu>();
        let mixes = [
            // A prefill chunk alone, then a decode step.
            (vec![vec![20, 1]], vec![vec![0], vec![0]]),
            // Two decode at different lengths.
            (
                vec![vec![20, 1], vec![1, 1]],
                vec![vec![0], vec![1], vec![1, 0]],
            ),
            // A prefill chunk beside a decode step.
            (vec![vec![1, 1], vec![20]], vec![vec![0], vec![1, 0]]),
            // Two chunks of one length and a decode step between them.
            (
                vec![vec![20], vec![1, 1], vec![20]],
                vec![vec![1], vec![0, 1, 2]],
            ),
        ];
        for (cuts, passes) in mixes {
            check_against_full_pass(&model, &Mix { cuts, passes }, 1e-3);
        }
    }
}

/// Rows of logits count through the runs in the caller's order, whatever the order of the pass.
fn logits_and_hidden_states_are_in_the_callers_order<B: Backend>() {
    let model = model::<B>();
    let mix = Mix {
        cuts: vec![vec![20], vec![1], vec![20]],
        passes: vec![],
    };
    let runs: Vec<_> = (0..3).map(|i| mix.ids(i)).collect();
    let input = || ForwardInput::runs(runs.clone());
    let output = model.forward(input().hidden_states()).expect("valid");
    let all = values(output.logits.expect("logits"));
    let rows = [40, 0, 20, 21];
    let chosen = logits(&model, input().logits(LogitRows::Rows(rows.to_vec())));
    for (row, chosen) in rows.iter().zip(chosen.chunks_exact(VOCAB)) {
        let of_all = &all[row * VOCAB..(row + 1) * VOCAB];
        assert_close("a chosen row", chosen, of_all, TOLERANCE);
    }
    let last = logits(&model, input().last_logits());
    let ends: Vec<f32> = [19, 20, 40]
        .iter()
        .flat_map(|row| &all[row * VOCAB..(row + 1) * VOCAB])
        .copied()
        .collect();
    assert_close("last rows", &last, &ends, TOLERANCE);
    for (i, hidden) in output.hidden_states.into_iter().enumerate() {
        assert_eq!(hidden.dims(), [1, 41, 48]);
        let alone = model
            .forward(ForwardInput::ids(&runs[2]).hidden_states())
            .expect("valid");
        let found = values(hidden.slice([0..1, 21..41]));
        let expected = values(alone.hidden_states[i].clone());
        assert_close("hidden states", &found, &expected, TOLERANCE);
    }
}

/// Whatever is wrong with one run is an error before any work.
fn runs_that_do_not_fit_are_refused<B: Backend>() {
    let model = model::<B>();
    let mut cache = cache(&model, 2);
    let mut refusal = |runs: Vec<Vec<u32>>, slots: Vec<usize>| {
        let input = ForwardInput::runs(runs).slots(slots).with_cache(&mut cache);
        let error = model.forward(input).expect_err("it does not fit");
        assert!(cache.is_empty(0) && cache.is_empty(1));
        error
    };
    let error = refusal(vec![vec![1], vec![2]], vec![0, 0]);
    assert_eq!(error, InputError::Slot { slot: 0, slots: 2 });
    let error = refusal(vec![vec![1], vec![]], vec![0, 1]);
    assert_eq!(error, InputError::Empty { rows: 2, seq: 0 });
    let error = refusal(vec![vec![1], vec![2; 513]], vec![0, 1]);
    let (wanted, capacity) = (513, 512);
    assert_eq!(error, InputError::Capacity { wanted, capacity });
    let error = refusal(vec![vec![1], vec![2, VOCAB as u32]], vec![0, 1]);
    assert!(matches!(error, InputError::TokenId { position: 1, .. }));
}

on_cpus!(
    random_mixes_equal_each_sequence_in_one_pass,
    logits_and_hidden_states_are_in_the_callers_order,
    runs_that_do_not_fit_are_refused,
);
