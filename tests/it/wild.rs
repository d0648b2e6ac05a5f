//! Weights as people save them: other names, files that belong to something else, files that are not
//! what their name says.

use std::fs;
use std::path::Path;

use olmo2::convert::{ConvertOptions, convert};
use olmo2::{Hint, Weights, WeightsError};
use olmo2_tests::golden_folder;
use serde_json::json;

use crate::checkpoint::{Checkpoint, RawTensor};

const HEAD: &str = "lm_head.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";

/// A model with other names of tensors.
fn renamed(golden: &str, name: impl Fn(&str) -> String) -> Checkpoint {
    let mut checkpoint = Checkpoint::golden(golden);
    for tensor in &mut checkpoint.tensors {
        tensor.name = name(&tensor.name);
    }
    checkpoint
}

/// The tensors that a model reads.
fn tensors(weights: &Weights) -> Vec<(&str, Vec<u8>)> {
    let floats = weights.iter().map(|(name, weight)| {
        let tensor = weight.float().expect("floats");
        (name, tensor.bytes.to_vec())
    });
    floats.collect()
}

#[track_caller]
fn assert_equal(checkpoint: &Checkpoint, golden: &str) {
    let right = Checkpoint::golden(golden);
    let right = right.write().open().expect("the golden");
    let found = checkpoint.open().expect("weights");
    assert!(tensors(&found) == tensors(&right));
}

#[track_caller]
fn hint(checkpoint: &Checkpoint) -> String {
    let error = checkpoint.open().expect_err("refused");
    error.hint().expect("a hint")
}

#[test]
fn prefixes_of_wrappers_are_left_out() {
    for prefix in [
        "_orig_mod.",
        "module.",
        "base_model.model.",
        "module._orig_mod.",
    ] {
        let checkpoint = renamed("gqa-tiny", |name| format!("{prefix}{name}"));
        assert_equal(checkpoint.write(), "gqa-tiny");
    }
}

#[test]
fn the_body_of_a_tied_model_is_whole() {
    let bare = |name: &str| name.strip_prefix("model.").unwrap_or(name).to_owned();
    assert_equal(renamed("mqa-tied", bare).write(), "mqa-tied");

    let mut untied = renamed("gqa-tiny", bare);
    untied.tensors.retain(|tensor| tensor.name != HEAD);
    let message = untied.write().refusal();
    assert!(message.contains("`lm_head.weight` is missing"), "{message}");
    assert!(hint(&untied).contains("the checkpoint has no head"));
    untied
        .tensors
        .push(RawTensor::f32("score.weight", &[2, 96], &[0.0; 192]));
    assert!(hint(untied.write()).contains("Olmo2ForSequenceClassification"));
}

#[test]
fn a_tied_head_with_values_of_its_own_is_not_thrown_away() {
    let mut checkpoint = Checkpoint::golden("mqa-tied");
    let mut head = checkpoint.tensor(EMBEDDING).clone();
    head.name = HEAD.into();
    checkpoint.tensors.push(head);
    assert_equal(checkpoint.write(), "mqa-tied");
    // Rounded to bf16 and back it is another.
    checkpoint.tensor(HEAD).bytes[0] ^= 1;
    let message = checkpoint.write().refusal();
    let expected = "`model.safetensors`: `lm_head.weight` is not the embedding, as \
                    `tie_word_embeddings` in `config.json` says";
    assert_eq!(message, expected);
    checkpoint.write_sharded(3);
    fs::remove_file(checkpoint.path().join("model.safetensors")).expect("removed");
    let error = checkpoint.open().expect_err("refused in shards too");
    assert!(matches!(error, WeightsError::UntiedHead { .. }), "{error}");
    checkpoint.config["tie_word_embeddings"] = json!(false);
    let weights = checkpoint.write().open().expect("an untied head");
    assert!(weights.get(HEAD).is_some());
}

#[test]
fn an_index_may_lack_a_tensor_that_a_shard_has() {
    for name in [
        "model.norm.weight",
        "model.layers.0.self_attn.rotary_emb.inv_freq",
    ] {
        let mut checkpoint = Checkpoint::golden("gqa-tiny");
        let leftover = RawTensor::f32("model.layers.0.self_attn.rotary_emb.inv_freq", &[1], &[1.0]);
        checkpoint.tensors.push(leftover);
        let mut index = checkpoint.write_sharded(3);
        let map = index["weight_map"].as_object_mut().expect("a map");
        map.remove(name).expect("an entry");
        checkpoint.write_index(&index);
        assert_equal(&checkpoint, "gqa-tiny");
    }
}

#[test]
fn shards_that_count_themselves_need_no_index() {
    for count in [1, 5] {
        let checkpoint = Checkpoint::golden("gqa-tiny");
        checkpoint.write_sharded(count);
        for i in 0..count {
            let shard = |name: String| checkpoint.path().join(name);
            let new = shard(format!("model-{:05}-of-{count:05}.safetensors", i + 1));
            fs::rename(shard(format!("model-{i}.safetensors")), new).expect("renamed");
        }
        fs::remove_file(checkpoint.path().join("model.safetensors.index.json")).expect("removed");
        assert_equal(&checkpoint, "gqa-tiny");
        let last = format!("model-{count:05}-of-{count:05}.safetensors");
        fs::remove_file(checkpoint.path().join(&last)).expect("removed");
        let message = checkpoint.refusal();
        match count {
            1 => assert!(message.starts_with("no weights in"), "{message}"),
            _ => assert!(message.contains(&last), "{message}"),
        }
    }
}

#[test]
fn weights_that_were_not_gathered_are_recognized() {
    for name in [EMBEDDING, HEAD] {
        let mut checkpoint = Checkpoint::golden("gqa-tiny");
        let tensor = checkpoint.tensor(name);
        (tensor.shape, tensor.bytes) = (vec![0], Vec::new());
        let message = checkpoint.write().refusal();
        assert!(
            message.contains(name) && message.contains("[0]"),
            "{message}"
        );
        assert!(hint(&checkpoint).contains("without being gathered"));
    }
}

#[test]
fn what_belongs_to_something_else_is_left_out_with_a_warning() {
    let mut checkpoint = Checkpoint::golden("gqa-tiny");
    let value_head = RawTensor::f32("v_head.summary.weight", &[1], &[1.0]);
    checkpoint.tensors.push(value_head);
    checkpoint.write();
    checkpoint.put("adapter_model.safetensors", b"");
    assert_equal(&checkpoint, "gqa-tiny");
    let warnings = checkpoint.open().expect("weights").warnings().join("\n");
    assert!(
        warnings.contains("`adapter_model.safetensors` is left out"),
        "{warnings}"
    );
    assert!(
        warnings.contains("`v_head.summary.weight` is left out"),
        "{warnings}"
    );
    let alone = Checkpoint::golden("gqa-tiny");
    alone.put("adapter_model.safetensors", b"");
    let message = alone.refusal();
    assert!(message.contains("`adapter_model.safetensors`"), "{message}");
    assert!(hint(&alone).contains("merged into its base model"));
}

#[test]
fn files_that_are_not_weights_are_named_by_what_they_are() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 990696\n";
    let page = "<!DOCTYPE html><html><head><title>Sign in</title></head></html>";
    let answer = r#"{"error": "Access to this model is restricted"}"#;
    for (content, expected) in [
        (pointer, "git-lfs pointer"),
        (page, "a web page: `Sign in`"),
        (answer, "Access to this model is restricted"),
        ("PK\x03\x04", "a PyTorch file (a zip)"),
        ("GGUF\x03\0\0\0", "a GGUF file"),
    ] {
        let checkpoint = Checkpoint::golden("gqa-tiny");
        checkpoint.put("model.safetensors", content.as_bytes());
        let message = checkpoint.refusal();
        assert!(
            message.starts_with("`model.safetensors`: expected safetensors, found"),
            "{message}"
        );
        assert!(message.contains(expected), "{message}");

        let shards = Checkpoint::golden("gqa-tiny");
        shards.write_sharded(2);
        shards.put("model-1.safetensors", content.as_bytes());
        assert!(shards.refusal().contains(expected));
    }
    let index = Checkpoint::golden("gqa-tiny");
    index.write_sharded(2);
    index.put("model.safetensors.index.json", pointer.as_bytes());
    assert!(index.refusal().contains("git-lfs pointer"));
    let error = olmo2::Olmo2Config::from_json(pointer).expect_err("a pointer");
    let expected = "`config.json`: expected JSON, found a git-lfs pointer: `git lfs pull` fetches \
                    the file itself";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn byte_order_marks_and_ids_of_minus_one_are_read() {
    let golden = Checkpoint::golden("gqa-tiny");
    let mut config = golden.config.clone();
    let right = golden.config();
    config["bos_token_id"] = json!(-1);
    let parse = |text: String| olmo2::Olmo2Config::from_json(&text).expect("a config");
    assert_eq!(parse(format!("\u{feff}{config}")), right);
    config["pad_token_id"] = json!(-1);
    assert_eq!(parse(config.to_string()).pad_token_id, None);
    config["pad_token_id"] = json!(-2);
    olmo2::Olmo2Config::from_json(&config.to_string()).expect_err("no id");
    let generation = br#"{"pad_token_id": -1, "eos_token_id": 3}"#;
    let generation = olmo2::GenerationConfig::from_bytes(generation).expect("a config");
    assert_eq!(
        (generation.pad_token_id, generation.eos_token_id),
        (None, vec![3])
    );
    let index = golden.write_sharded(2);
    let path = golden.path().join("model.safetensors.index.json");
    fs::write(path, format!("\u{feff}{index}")).expect("written");
    assert_equal(&golden, "gqa-tiny");
}

#[test]
fn leftovers_of_other_programs_are_left_out_with_a_note() {
    let mut source = Checkpoint::golden("mqa-tied");
    let name = "model.layers.0.self_attn.rotary_emb.inv_freq";
    let mut stale = RawTensor::f32(name, &[8], &[1.0; 8]);
    stale.dtype = "F64".into();
    stale.shape = vec![4];
    source.tensors.push(stale);
    let mut head = source.tensor("model.embed_tokens.weight").clone();
    head.name = "lm_head.weight".into();
    source.tensors.push(head);
    source.write();
    let out = tempfile::tempdir().unwrap();
    let to_record = |from: &Path, to: &Path| {
        convert(&ConvertOptions::new(from, to), &mut ()).expect("a conversion")
    };
    let mut notes = to_record(source.path(), out.path()).notes;
    notes.sort();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(
        notes[0].contains("`lm_head.weight` is left out"),
        "{notes:?}"
    );
    assert!(
        notes[1].contains(&format!("`{name}` is left out")),
        "{notes:?}"
    );
    let plain = tempfile::tempdir().unwrap();
    to_record(&golden_folder("mqa-tied"), plain.path());
    for part in ["head.bpk", "layer-000.bpk", "layer-001.bpk"] {
        let read = |folder: &Path| fs::read(folder.join(part)).expect("a part");
        assert!(read(out.path()) == read(plain.path()), "{part}");
    }
}

#[test]
fn weights_quantized_by_another_tool_are_named_by_its_method() {
    for (field, value, expected) in [
        (
            "quantization",
            json!({"bits": 4, "group_size": 32}),
            "`quantization` of mlx, 4 bits",
        ),
        (
            "quantization_config",
            json!({"quant_method": "gptq", "bits": 4}),
            "`gptq`, 4 bits",
        ),
        (
            "quantization_config",
            json!({"quant_method": "fp8"}),
            "`fp8`",
        ),
    ] {
        let mut checkpoint = Checkpoint::golden("gqa-tiny");
        checkpoint.config[field] = value;
        // The field alone was left: the weights are floats.
        assert_equal(checkpoint.write(), "gqa-tiny");
        checkpoint.tensors[0].dtype = "U16".into();
        let message = checkpoint.write().refusal();
        assert!(message.contains(expected), "{message}");
        assert!(hint(&checkpoint).contains("unquantized checkpoint"));
    }
}
