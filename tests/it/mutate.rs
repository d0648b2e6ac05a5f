//! Thousands of random faults in every file of a checkpoint and of a record: each ends in an error
//! that names the file, or in weights that are whole; never in a panic, a hang or a huge buffer.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use olmo2::convert::{ConvertOptions, convert};
use olmo2::record::{self, RECEIPT};
use olmo2::{
    ChatError, ChatTemplate, GenerationConfig, Olmo2Config, QuantFormat, Quantize, Weights,
};
use serde_json::{Map, Value, json};

use crate::checkpoint::{Checkpoint, data, encode, header};
use crate::dice::Dice;

/// Cases of each kind, unless `OLMO2_CASES` asks for more.
const CASES: u64 = 1500;
/// Longest time for one case.
const PATIENCE: Duration = Duration::from_secs(5);
/// Address space of the process, the program itself included: the files are of 2 to 10 KB, so
/// that a buffer of a length that a file claims goes beyond it.
const MAX_KIBIBYTES: u64 = 512 << 10;
/// Tells the process that it runs under that limit.
const LIMITED: &str = "OLMO2_TESTS_LIMITED";

#[test]
fn mutated_files_end_in_an_error_or_in_whole_weights() {
    let this = std::env::current_exe().expect("the test's program");
    let limited = format!("ulimit -v {MAX_KIBIBYTES} && exec \"$0\" \"$@\"");
    let mut command = match cfg!(unix) {
        true => Command::new("sh"),
        false => Command::new(&this),
    };
    if cfg!(unix) {
        // One arena: each further one reserves addresses.
        command
            .env(LIMITED, "1")
            .env("MALLOC_ARENA_MAX", "1")
            .arg("-c")
            .arg(limited)
            .arg(this);
    }
    command.args(["mutate::each_", "--ignored", "--test-threads", "1"]);
    let output = command.output().expect("a process");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("9 passed"),
        "{}: {said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs each case, and names the one that panics or takes too long.
fn each_case(mut case: impl FnMut(&mut Dice)) {
    if std::env::var_os(LIMITED).is_some() {
        let beyond = Vec::<u8>::new().try_reserve_exact((MAX_KIBIBYTES << 10) as usize);
        beyond.expect_err("the limit holds");
    }
    let asked = std::env::var("OLMO2_CASES")
        .ok()
        .and_then(|n| n.parse().ok());
    for seed in 0..asked.unwrap_or(CASES) {
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| case(&mut Dice(seed))));
        assert!(outcome.is_ok(), "case {seed} panics");
        assert!(
            started.elapsed() < PATIENCE,
            "case {seed}: {:?}",
            started.elapsed()
        );
    }
}

/// Nothing may go wrong in a model or its kernels, one row or many, once weights are accepted;
/// what comes out may be anything.
#[cfg(feature = "flex")]
fn run(config: &Olmo2Config, weights: &Weights) {
    let options = olmo2::LoadOptions::default();
    let model = olmo2::Olmo2::<olmo2_tests::backends::Flex>::from_weights(
        config,
        weights,
        &options,
        &Default::default(),
    )
    .expect("accepted weights load");
    for tokens in [1, 20] {
        let tokens = config.max_position_embeddings.min(tokens) as u32;
        let ids: Vec<u32> = (0..tokens).map(|i| i % config.vocab_size as u32).collect();
        model
            .forward(olmo2::ForwardInput::ids(&ids))
            .expect("accepted weights run");
    }
}

/// Opens the weights, and holds what comes out against what may.
fn check(folder: &Path, config: &Olmo2Config) {
    match olmo2::format::open(folder, config) {
        Ok(weights) => {
            for (name, weight) in weights.iter() {
                let Some(tensor) = weight.float() else {
                    let held = weight.packed().expect("blocks").arrays();
                    let bytes: usize = held.iter().map(|(_, bytes)| bytes.len()).sum();
                    assert_eq!(bytes as u64, weight.byte_len(), "{name}");
                    continue;
                };
                let elements: usize = tensor.shape.iter().product();
                assert_eq!(tensor.bytes.len(), elements * tensor.dtype.size(), "{name}");
            }
            #[cfg(feature = "flex")]
            run(config, &weights);
        }
        Err(error) => {
            let message = error.to_string();
            let names_it = message.contains(&*folder.to_string_lossy());
            assert!(names_it && message.len() < 20_000, "{message}");
        }
    }
}

/// A file written anew: maps of earlier cases must not see it change.
fn put(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    fs::remove_file(&path).ok();
    fs::write(path, bytes).expect("a file");
}

#[test]
#[ignore = "run by `mutated_files_end_in_an_error_or_in_whole_weights`"]
fn each_broken_safetensors_file() {
    let checkpoint = Checkpoint::smallest();
    checkpoint.write();
    let config = checkpoint.config();
    let whole = fs::read(checkpoint.path().join("model.safetensors")).expect("a file");
    let reach = whole.len() - data(&checkpoint.tensors).len();
    each_case(|dice| {
        let mut bytes = whole.clone();
        dice.break_bytes(&mut bytes, reach);
        put(checkpoint.path(), "model.safetensors", &bytes);
        check(checkpoint.path(), &config);
    });
}

#[test]
#[ignore = "run by `mutated_files_end_in_an_error_or_in_whole_weights`"]
fn each_broken_safetensors_header() {
    let checkpoint = Checkpoint::smallest();
    let config = checkpoint.config();
    let (header, data) = (header(&checkpoint.tensors), data(&checkpoint.tensors));
    each_case(|dice| {
        let mut broken = Value::Object(header.clone());
        dice.break_json(&mut broken);
        let map = broken.as_object().cloned().unwrap_or_else(Map::new);
        put(checkpoint.path(), "model.safetensors", &encode(&map, &data));
        check(checkpoint.path(), &config);
    });
}

#[test]
#[ignore = "run by `mutated_files_end_in_an_error_or_in_whole_weights`"]
fn each_broken_index() {
    let checkpoint = Checkpoint::smallest();
    let index = checkpoint.write_sharded(3);
    let config = checkpoint.config();
    each_case(|dice| {
        let mut broken = index.clone();
        dice.break_json(&mut broken);
        let mut text = broken.to_string().into_bytes();
        if dice.below(3) == 0 {
            let reach = text.len();
            dice.break_bytes(&mut text, reach);
        }
        put(checkpoint.path(), "model.safetensors.index.json", &text);
        check(checkpoint.path(), &config);
    });
}

#[test]
#[ignore = "run by `mutated_files_end_in_an_error_or_in_whole_weights`"]
fn each_broken_config() {
    let checkpoint = Checkpoint::smallest();
    checkpoint.write();
    each_case(|dice| {
        let mut broken = checkpoint.config.clone();
        dice.break_json(&mut broken);
        let mut text = broken.to_string().into_bytes();
        if dice.below(3) == 0 {
            let reach = text.len();
            dice.break_bytes(&mut text, reach);
        }
        put(checkpoint.path(), "config.json", &text);
        match Olmo2Config::from_folder(checkpoint.path()) {
            Ok(config) => check(checkpoint.path(), &config),
            Err(error) => assert!(error.to_string().contains("config.json"), "{error}"),
        }
    });
}

/// A value of `whole` replaced: a field of the file, or of an object in it. Returns the field.
fn replace_field(dice: &mut Dice, whole: &mut Value) -> String {
    let fields = whole.as_object().expect("an object");
    let names: Vec<String> = fields.keys().cloned().collect();
    let name = names[dice.below(names.len())].clone();
    match &mut whole[&name] {
        inner @ Value::Object(_) if dice.below(3) > 0 => replace_field(dice, inner),
        value => {
            *value = dice.odd_value();
            name
        }
    }
}

/// Whether an error tells which file and field are wrong, at a length that can be read.
#[track_caller]
fn names_field(error: &dyn std::error::Error, file: &str, field: &str) {
    let message = error.to_string();
    let is_short = message.len() < 6000 && message.lines().count() == 1;
    let ends = [format!("{field}`"), format!("{field}[")];
    let is_named = ends.iter().any(|end| message.contains(end));
    assert!(
        message.contains(file) && is_named && is_short,
        "`{field}` in `{file}`: {message}"
    );
}

#[test]
#[ignore = "run by `mutated_files_end_in_an_error_or_in_whole_weights`"]
fn each_wrong_value_of_the_config_is_named() {
    let whole = json!({
        "model_type": "olmo2", "vocab_size": 5, "hidden_size": 4, "intermediate_size": 3,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
        "hidden_act": "silu", "max_position_embeddings": 8, "initializer_range": 0.02,
        "rms_norm_eps": 1e-6, "tie_word_embeddings": false, "attention_bias": false,
        "rope_theta": 10000, "bos_token_id": 1, "eos_token_id": [1, 2], "pad_token_id": null,
        "rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1,
            "high_freq_factor": 4, "original_max_position_embeddings": 8},
    });
    Olmo2Config::from_json(&whole.to_string()).expect("valid");
    let mut refused = 0;
    each_case(|dice| {
        let mut broken = whole.clone();
        let field = replace_field(dice, &mut broken);
        if let Err(error) = Olmo2Config::from_json(&broken.to_string()) {
            names_field(&error, "config.json", &field);
            refused += 1;
        }
    });
    assert!(refused > CASES / 4, "{refused} refused");
}

#[test]
#[ignore = "run by `mutated_files_end_in_an_error_or_in_whole_weights`"]
fn each_wrong_value_of_the_generation_config_is_named() {
    let whole = json!({
        "eos_token_id": 2, "pad_token_id": 1, "bos_token_id": 0, "do_sample": true,
        "temperature": 0.5, "top_k": 3, "top_p": 0.5, "min_p": 0.5, "repetition_penalty": 1.5,
        "max_new_tokens": 4,
    });
    let mut refused = 0;
    each_case(|dice| {
        let mut broken = whole.clone();
        let field = replace_field(dice, &mut broken);
        if let Err(error) = GenerationConfig::from_bytes(broken.to_string().as_bytes()) {
            names_field(&error, "generation_config.json", &field);
            refused += 1;
        }
    });
    assert!(refused > CASES / 4, "{refused} refused");
}

#[test]
#[ignore = "run by `mutated_files_end_in_an_error_or_in_whole_weights`"]
fn each_wrong_value_of_the_tokenizer_config_is_named() {
    let token = json!({"content": "<e>", "lstrip": false});
    let whole = json!({
        "bos_token": null, "eos_token": token, "pad_token": "<p>", "unk_token": token,
        "chat_template": [{"name": "default", "template": "{{ messages }}"}],
    });
    let mut refused = 0;
    each_case(|dice| {
        let mut broken = whole.clone();
        let field = replace_field(dice, &mut broken);
        // A token's own fields are reported with the token.
        let field = match field.as_str() {
            "content" | "lstrip" => "_token",
            field => field,
        };
        match ChatTemplate::from_bytes(None, Some(broken.to_string().as_bytes())) {
            Ok(_) | Err(ChatError::Syntax { .. } | ChatError::NoDefault { .. }) => {}
            Err(error) => {
                names_field(&error, "tokenizer_config.json", field);
                refused += 1;
            }
        }
    });
    assert!(refused > CASES / 4, "{refused} refused");
}

#[test]
#[ignore = "run by `mutated_files_end_in_an_error_or_in_whole_weights`"]
fn each_broken_record() {
    each_broken_record_of(Quantize::default());
}

#[test]
#[ignore = "run by `mutated_files_end_in_an_error_or_in_whole_weights`"]
fn each_broken_quantized_record() {
    let head = Some(QuantFormat::Q8);
    each_broken_record_of(Quantize {
        head,
        ..Quantize::all(QuantFormat::Q4)
    });
}

fn each_broken_record_of(quantize: Quantize) {
    let checkpoint = Checkpoint::smallest();
    checkpoint.write();
    let config = checkpoint.config();
    let out = tempfile::tempdir().expect("a folder");
    let options = ConvertOptions {
        quantize,
        ..ConvertOptions::new(checkpoint.path(), out.path())
    };
    convert(&options, &mut ()).expect("a record");
    let files: Vec<(&str, Vec<u8>)> = ["head.bpk", "layer-000.bpk", RECEIPT]
        .into_iter()
        .map(|name| (name, fs::read(out.path().join(name)).expect("a file")))
        .collect();
    each_case(|dice| {
        for (name, bytes) in &files {
            put(out.path(), name, bytes);
        }
        let (name, whole) = &files[dice.below(files.len())];
        let bytes = dice.broken_record_file(name, whole);
        put(out.path(), name, &bytes);
        check(out.path(), &config);
        let checked = record::check(out.path(), &config, |_| ());
        let untouched = *name == RECEIPT || bytes == *whole;
        assert!(
            checked.is_err() || untouched,
            "a broken part has another hash"
        );
        if dice.below(8) > 0 {
            return;
        }
        // What a conversion makes of it is a record again, or an error that names the folder.
        match convert(&options, &mut ()) {
            Ok(_) => drop(record::check(out.path(), &config, |_| ()).expect("a whole record")),
            Err(error) => {
                let named = error.to_string().contains(&*out.path().to_string_lossy());
                assert!(named, "{error}");
            }
        }
    });
}
