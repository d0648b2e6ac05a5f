//! Models of quantized blocks: the same bits however they came there, both ways of the seams, and
//! burn's modules around them.

#![cfg(feature = "flex")]

use std::path::Path;

use burn::backend::Autodiff;
use burn::module::{AutodiffModule, Module};
use burn::prelude::*;
use burn::tensor::DType;
use burn_store::ModuleSnapshot;
use olmo2::Hint;
use olmo2::{
    CacheOptions, ForwardInput, GenerateParams, LoadOptions, Olmo2, Olmo2Config, Precision,
    QuantFormat, Quantize, Session, StoredWeight, Weight, demo, layout,
};
use olmo2_tests::backends::Flex;
use olmo2_tests::{divergence, golden_folder, values};

use crate::checkpoint::Checkpoint;
use crate::quantize::{choices, record_of};

const IDS: [u32; 30] = [
    3, 1, 4, 1, 0, 2, 3, 4, 1, 2, 0, 3, 2, 2, 1, 4, 0, 3, 1, 1, 2, 4, 3, 0, 1, 3, 2, 4, 0, 1,
];

fn load<B: Backend>(folder: &Path, quantize: Option<Quantize>) -> Olmo2<B> {
    let options = LoadOptions {
        quantize,
        ..LoadOptions::default()
    };
    Olmo2::load(folder, &options, &B::Device::default()).expect("a model")
}

/// Logits of a prompt over a cache, as many tokens as make a prefill, then of some and of one more.
fn logits<B: Backend>(model: &Olmo2<B>) -> Vec<f32> {
    let mut cache = model.new_cache(CacheOptions::default());
    let chunks: [&[u32]; 3] = [&IDS[..20], &IDS[20..27], &IDS[27..28]];
    let feed = |ids: &&[u32]| {
        let input = ForwardInput::ids(ids).with_cache(&mut cache);
        values(model.forward(input).expect("valid").logits.expect("logits"))
    };
    chunks.iter().flat_map(feed).collect()
}

/// Root mean square of the difference, over that of what was expected.
fn relative_error(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let square = |x: f32| f64::from(x) * f64::from(x);
    let pairs = found.iter().zip(expected);
    let error: f64 = pairs.map(|(a, b)| square(a - b)).sum();
    let size: f64 = expected.iter().map(|x| square(*x)).sum();
    (error / size).sqrt()
}

/// `bias-eps` has biases, `mqa-tied` one matrix of the vocabulary, and the smallest model rows of
/// three and four weights.
fn with_each_source(mut check: impl FnMut(&str, &Path)) {
    for golden in ["gqa-tiny", "bias-eps", "mqa-tied"] {
        check(golden, &golden_folder(golden));
    }
    let mut ragged = Checkpoint::smallest();
    for tensor in &mut ragged.tensors {
        let values = tensor.bytes.as_chunks_mut::<4>().0.iter_mut();
        for (i, value) in values.enumerate() {
            *value = ((i * 29 % 17) as f32 / 8.0 - 1.0).to_le_bytes();
        }
    }
    ragged.write();
    check("ragged", ragged.path());
}

#[test]
fn a_record_answers_with_the_bits_of_quantizing_at_load() {
    with_each_source(|name, source| {
        for quantize in choices() {
            let (record, _) = record_of(source, quantize);
            let read = load::<Flex>(record.path(), None);
            let made = load::<Flex>(source, Some(quantize));
            assert_eq!(logits(&read), logits(&made), "{name}: {quantize}");
            // Asking for what is there changes nothing.
            let asked = load::<Flex>(record.path(), Some(quantize));
            assert_eq!(logits(&read), logits(&asked), "{name}: {quantize}");
        }
    });
}

/// Own kernels round activations to 8 bits in blocks of 32, an error of 0.6% in each product;
/// burn's operations multiply the widened blocks in f32.
const ACTIVATIONS: f64 = 0.04;

#[test]
fn own_kernels_agree_with_widened_blocks() {
    with_each_source(|name, source| {
        for quantize in choices() {
            let (record, _) = record_of(source, quantize);
            let kernels = logits(&load::<Flex>(record.path(), None));
            let operations = load::<Autodiff<Flex>>(record.path(), None);
            let weight = &operations.model.layers[0].mlp.down_proj.weight;
            assert_eq!(weight.float().expect("widened").val().dtype(), DType::F32);
            let error = relative_error(&kernels, &logits(&operations));
            assert!(error < ACTIVATIONS, "{name}: {quantize}: {error}");
            #[cfg(feature = "ndarray")]
            {
                let ndarray = load::<olmo2_tests::backends::NdArray>(record.path(), None);
                let error = relative_error(&logits(&ndarray), &logits(&operations));
                assert!(error < 1e-4, "{name}: {quantize}: {error}");
                let made = load::<olmo2_tests::backends::NdArray>(source, Some(quantize));
                assert_eq!(logits(&ndarray), logits(&made), "{name}: {quantize}");
            }
        }
    });
}

/// The distance to the unquantized model, loosely: the formats' own tests know their errors.
#[test]
fn blocks_answer_nearly_as_the_floats() {
    for (format, tolerance) in [(QuantFormat::Q8, 0.05), (QuantFormat::Q4, 0.5)] {
        let floats = logits(&load::<Flex>(&golden_folder("gqa-tiny"), None));
        let blocks = Some(Quantize::all(format));
        let blocks = logits(&load::<Flex>(&golden_folder("gqa-tiny"), blocks));
        let error = relative_error(&blocks, &floats);
        assert!(error > 0.0 && error < tolerance, "{format}: {error}");
    }
}

#[test]
fn loading_a_quantized_record_copies_nothing() {
    let (record, config) = record_of(&golden_folder("gqa-tiny"), choices()[2]);
    let weights = olmo2::format::open(record.path(), &config).expect("weights");
    let device = Default::default();
    let model = Olmo2::<Flex>::from_weights(&config, &weights, &LoadOptions::default(), &device);
    let model = model.expect("a model");
    let mut held = vec![(
        "model.embed_tokens".to_owned(),
        &model.model.embed_tokens.weight,
    )];
    held.push((
        "lm_head".to_owned(),
        &model.lm_head.as_ref().expect("a head").weight,
    ));
    for (i, layer) in model.model.layers.iter().enumerate() {
        let projections = layer.projections();
        held.extend(projections.map(|(path, weight)| (format!("model.layers.{i}.{path}"), weight)));
    }
    assert_eq!(held.len(), 2 + 4 * 7);
    for (name, weight) in held {
        let stored = weights.get(&format!("{name}.weight"));
        let stored = stored.and_then(StoredWeight::packed).expect("blocks");
        let arrays = weight.packed().expect("blocks").arrays();
        for ((piece, held), (_, stored)) in arrays.into_iter().zip(stored.arrays()) {
            // `top` is a number, which is copied.
            let same = held.as_ptr() == stored.as_ptr() || held.len() == 4;
            assert!(same, "{name}: {piece}");
        }
    }
}

#[test]
fn other_formats_than_the_records_are_refused_with_a_hint() {
    let (record, _) = record_of(&golden_folder("gqa-tiny"), choices()[0]);
    for (quantize, expected) in [
        (choices()[1], "expected floats or q4, found q8"),
        (Quantize::default(), "expected floats, found q8"),
    ] {
        let options = LoadOptions {
            quantize: Some(quantize),
            ..LoadOptions::default()
        };
        let error = Olmo2::<Flex>::load(record.path(), &options, &Default::default());
        let error = error.expect_err("it is in q8");
        assert!(error.to_string().ends_with(expected), "{error}");
        assert!(error.hint().expect("a hint").contains("floats"));
    }
}

/// Rows of a batch do not know each other, and threads do not show: the same bits of logits for a
/// row alone and in a batch of 2 to 16.
#[test]
fn a_row_has_the_same_bits_alone_and_in_a_batch() {
    let device = Default::default();
    for precision in [Precision::F32, Precision::Bf16] {
        for quantize in choices().map(Some).into_iter().chain([None]) {
            let options = LoadOptions {
                precision,
                quantize,
            };
            let folder = golden_folder("bias-eps");
            let model = Olmo2::<Flex>::load(&folder, &options, &device).expect("a model");
            let decode = |rows: &[u32]| -> Vec<Vec<f32>> {
                let (slots, capacity) = (rows.len(), 64);
                let mut cache = model.new_cache(CacheOptions {
                    slots,
                    capacity,
                    ..Default::default()
                });
                let mut last = Vec::new();
                for step in 0..3 {
                    let ids = rows.iter().map(|row| vec![(row * 7 + step) % 256]);
                    let input = ForwardInput::batch(ids.collect()).with_cache(&mut cache);
                    let output = model.forward(input.last_logits()).expect("room");
                    last = values(output.logits.expect("logits"));
                }
                last.chunks_exact(last.len() / slots)
                    .map(<[f32]>::to_vec)
                    .collect()
            };
            let rows: Vec<u32> = (0..16).collect();
            let mut expected = None;
            for threads in [1, 2] {
                olmo2_kernels::pool::set_threads(threads);
                let alone: Vec<_> = rows.iter().flat_map(|row| decode(&[*row])).collect();
                let expected = expected.get_or_insert_with(|| alone.clone());
                assert!(*expected == alone, "{threads} threads, alone");
                for batch in [2, 3, 7, 16] {
                    let found = decode(&rows[..batch]);
                    assert!(found[..] == expected[..batch], "{threads} threads, {batch}");
                }
            }
            olmo2_kernels::pool::set_threads(0);
        }
    }
}

/// Products round their input; what lies between them stays f32.
#[test]
fn bf16_on_flex_keeps_f32_between_products() {
    let device = Default::default();
    for golden in ["gqa-tiny", "bias-eps"] {
        let load = |precision| {
            let options = LoadOptions {
                precision,
                ..LoadOptions::default()
            };
            Olmo2::<Flex>::load(&golden_folder(golden), &options, &device).expect("a model")
        };
        let (single, rounded) = (load(Precision::F32), load(Precision::Bf16));
        let output = rounded.forward(ForwardInput::ids(&IDS).hidden_states());
        let hidden = output.expect("valid").hidden_states;
        assert!(hidden.iter().all(|x| x.dtype() == DType::F32));
        let weight = |model: &Olmo2<Flex>| {
            let param = model.model.layers[0].mlp.up_proj.weight.float();
            param.expect("floats").val().dtype()
        };
        assert_eq!(weight(&rounded), weight(&single), "weights stay as stored");
        let error = relative_error(&logits(&rounded), &logits(&single));
        assert!(error < 0.02, "{golden}: {error}");
    }
}

/// No kernel computes in f16: floats and blocks are converted, once, at load.
#[test]
fn f16_converts_weights_at_load() {
    let (record, config) = record_of(&golden_folder("gqa-tiny"), choices()[3]);
    let weights = olmo2::format::open(record.path(), &config).expect("weights");
    let options = LoadOptions {
        precision: Precision::F16,
        ..LoadOptions::default()
    };
    let model = Olmo2::<Flex>::load(record.path(), &options, &Default::default());
    let model = model.expect("a model");
    let dtype = |weight: &Weight<Flex>| weight.float().expect("floats").val().dtype();
    let head = &model.lm_head.as_ref().expect("a head").weight;
    assert_eq!(dtype(head), DType::F16, "from q8");
    let embedding = &model.model.embed_tokens.weight;
    assert_eq!(dtype(embedding), DType::F16, "from bf16");
    let elements: u64 = weights
        .iter()
        .map(|(_, w)| w.shape().iter().product::<usize>() as u64)
        .sum();
    let capabilities = olmo2::Capabilities::of::<Flex>(&Default::default());
    assert_eq!(weights.load_bytes(&options, &capabilities), 2 * elements);
    assert_eq!(
        weights.load_bytes(&LoadOptions::default(), &capabilities),
        weights.total_bytes()
    );
    let error = relative_error(&logits(&model), &logits(&load::<Flex>(record.path(), None)));
    assert!(error < ACTIVATIONS, "{error}");
}

#[test]
fn burns_paths_are_the_checkpoints_names() {
    let config = Olmo2Config::from_folder(&golden_folder("bias-eps")).expect("a config");
    let model = load::<Flex>(&golden_folder("bias-eps"), None);
    let mut paths: Vec<String> = ModuleSnapshot::collect(&model, None, None, false)
        .iter()
        .map(|snapshot| snapshot.full_path())
        .collect();
    let parts = layout::parts(&config);
    let mut names: Vec<&String> = parts
        .iter()
        .flat_map(|part| &part.tensors)
        .map(|spec| &spec.name)
        .collect();
    paths.sort();
    names.sort();
    assert_eq!(paths.iter().collect::<Vec<_>>(), names);
}

/// Blocks are no parameters: burn's records leave them out, and they go to an inner backend and
/// back with the module.
#[test]
fn burns_modules_pass_blocks_by() {
    let quantize = Some(Quantize::all(QuantFormat::Q8));
    let model = load::<Flex>(&golden_folder("bias-eps"), quantize);
    let layer = &model.model.layers[0];
    assert_eq!(layer.mlp.num_params(), 0);
    assert_eq!(
        layer.self_attn.num_params(),
        4 * 64 + 2 * 64,
        "biases and norms"
    );
    assert!(format!("{model}").contains("format: q8"));
    let expected = logits(&model);
    let train = Olmo2::<Autodiff<Flex>>::from_inner(model.clone());
    assert!(train.model.layers[0].mlp.up_proj.weight.packed().is_some());
    let error = relative_error(&logits(&train), &expected);
    assert!(error < ACTIVATIONS, "{error}");
    assert_eq!(logits(&train.valid()), expected);
    let record = model.clone().into_record();
    assert_eq!(logits(&model.load_record(record)), expected);
}

#[test]
fn a_record_of_floats_goes_through_burns_recorders() {
    use burn::record::{BinBytesRecorder, FullPrecisionSettings, Recorder};
    let model = load::<Flex>(&golden_folder("mqa-tied"), None);
    let recorder = BinBytesRecorder::<FullPrecisionSettings>::new();
    let bytes = Recorder::<Flex>::record(&recorder, model.clone().into_record(), ());
    let device = Default::default();
    let record = recorder
        .load(bytes.expect("bytes"), &device)
        .expect("a record");
    let fresh = Olmo2::<Flex>::new(model.config(), &device);
    assert_eq!(logits(&fresh.load_record(record)), logits(&model));
}

/// The embedded model's logits of its own story in f32.
fn story(quantize: Option<Quantize>) -> (Vec<f32>, usize) {
    let load = |quantize| {
        let options = LoadOptions {
            quantize,
            ..LoadOptions::default()
        };
        demo::load::<Flex>(&options, &Default::default()).expect("the demo model")
    };
    let teller = load(None);
    let tokenizer = demo::tokenizer().expect("a tokenizer");
    let mut ids = tokenizer.encode("Once upon a time").expect("a text");
    let mut session = Session::new(teller.clone(), 256);
    let generation = session.generate(&ids, GenerateParams::greedy(&teller, 120));
    let new_ids: Vec<u32> = generation
        .expect("room")
        .map(|id| id.expect("finite"))
        .collect();
    ids.extend(new_ids);
    let output = load(quantize)
        .forward(ForwardInput::ids(&ids))
        .expect("valid");
    let vocab = teller.config().vocab_size;
    (values(output.logits.expect("logits")), vocab)
}

#[test]
fn the_embedded_model_hardly_changes_its_mind() {
    let (expected, vocab) = story(None);
    for (format, tolerance) in [(QuantFormat::Q8, 5e-4), (QuantFormat::Q4, 2e-2)] {
        let (found, _) = story(Some(Quantize::all(format)));
        let divergence = divergence(&found, &expected, vocab);
        assert!(
            divergence > 0.0 && divergence < tolerance,
            "{format}: {divergence}"
        );
    }
}
