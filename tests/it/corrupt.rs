//! Broken checkpoints: each fault by its message, then thousands of random ones.

use olmo2::Hint;
use std::fs;

use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::checkpoint::{Checkpoint, RawTensor, data, encode, header};

const Q: &str = "model.layers.0.self_attn.q_proj.weight";

#[test]
fn a_missing_tensor_is_named_with_its_shape() {
    let mut checkpoint = Checkpoint::smallest();
    checkpoint.tensors.retain(|tensor| tensor.name != Q);
    assert_eq!(
        checkpoint.write().refusal(),
        format!(
            "`model.safetensors`: tensor `{Q}` is missing: expected shape [4, 4], found no such \
             tensor"
        )
    );
}

#[test]
fn a_missing_head_points_to_tied_embeddings() {
    let mut checkpoint = Checkpoint::smallest();
    checkpoint
        .tensors
        .retain(|tensor| tensor.name != "lm_head.weight");
    let error = checkpoint.write().open().expect_err("no head");
    assert!(
        error
            .to_string()
            .contains("tensor `lm_head.weight` is missing")
    );
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.contains("`tie_word_embeddings`"))
    );
}

#[test]
fn a_surplus_tensor_is_named_with_its_shape() {
    let mut checkpoint = Checkpoint::smallest();
    let name = "model.layers.1.self_attn.q_proj.weight";
    checkpoint
        .tensors
        .push(RawTensor::f32(name, &[1, 2], &[0.0; 2]));
    assert_eq!(
        checkpoint.write().refusal(),
        format!(
            "`model.safetensors`: tensor `{name}` is surplus: expected no such tensor after \
             `config.json`, found shape [1, 2]"
        )
    );
}

#[test]
fn a_shape_that_is_not_the_configs_is_named() {
    let mut checkpoint = Checkpoint::smallest();
    checkpoint.tensor(Q).shape = vec![2, 8];
    assert_eq!(
        checkpoint.write().refusal(),
        format!("`model.safetensors`: shape of `{Q}`: expected [4, 4], found [2, 8]")
    );
}

#[test]
fn types_other_than_floats_of_16_and_32_bits_are_refused() {
    let mut checkpoint = Checkpoint::smallest();
    *checkpoint.tensor(Q) = RawTensor {
        name: Q.into(),
        dtype: "I64".into(),
        shape: vec![4, 4],
        bytes: vec![0; 128],
    };
    assert_eq!(
        checkpoint.write().refusal(),
        format!("`model.safetensors`: dtype of `{Q}`: expected F32, BF16 or F16, found I64")
    );
    checkpoint.tensor(Q).dtype = "Q4_K".into();
    assert_eq!(
        checkpoint.write().refusal(),
        format!("`model.safetensors`: dtype of `{Q}`: expected F32, BF16 or F16, found Q4_K")
    );
}

#[test]
fn a_file_cut_short_or_grown_says_how_much() {
    let checkpoint = Checkpoint::smallest();
    checkpoint.write();
    let whole = fs::read(checkpoint.path().join("model.safetensors")).unwrap();
    let held = checkpoint
        .tensors
        .iter()
        .map(|t| t.bytes.len())
        .sum::<usize>();
    checkpoint.put("model.safetensors", &whole[..whole.len() - 7]);
    assert_eq!(
        checkpoint.refusal(),
        format!(
            "`model.safetensors` is damaged: expected {held} bytes of tensors, found {}",
            held - 7
        )
    );
    let grown = [&whole[..], b"more"].concat();
    checkpoint.put("model.safetensors", &grown);
    assert_eq!(
        checkpoint.refusal(),
        format!(
            "`model.safetensors` is damaged: expected {held} bytes of tensors, found {}",
            held + 4
        )
    );
    checkpoint.put("model.safetensors", &whole[..100]);
    let len = u64::from_le_bytes(*whole.first_chunk().unwrap());
    assert_eq!(
        checkpoint.refusal(),
        format!(
            "`model.safetensors` is damaged: expected a header of at most 92 bytes, found a \
             length of {len}"
        )
    );
    checkpoint.put("model.safetensors", &whole[..5]);
    assert_eq!(
        checkpoint.refusal(),
        "`model.safetensors` is damaged: expected a header of 8 bytes, found 5"
    );
    checkpoint.put("model.safetensors", b"");
    assert!(
        checkpoint
            .refusal()
            .starts_with("cannot read `model.safetensors`")
    );
}

#[test]
fn a_header_of_enormous_length_is_not_read() {
    let checkpoint = Checkpoint::smallest();
    checkpoint.write();
    let path = checkpoint.path().join("model.safetensors");
    let mut file = fs::read(path).unwrap();
    file[..8].copy_from_slice(&(1_u64 << 62).to_le_bytes());
    checkpoint.put("model.safetensors", &file);
    let message = checkpoint.refusal();
    assert!(
        message.ends_with("found a length of 4611686018427387904"),
        "{message}"
    );
}

/// Writes a file whose header says something else about [`Q`].
#[track_caller]
fn with_entry(edit: impl FnOnce(&mut Value)) -> String {
    let checkpoint = Checkpoint::smallest();
    checkpoint.write();
    let mut header = header(&checkpoint.tensors);
    edit(&mut header[Q]);
    checkpoint.put(
        "model.safetensors",
        &encode(&header, &data(&checkpoint.tensors)),
    );
    checkpoint.refusal()
}

#[test]
fn offsets_that_overlap_leave_gaps_or_run_backwards_are_named() {
    // 2 x [5, 4] and a norm of 4 lie before the 64 bytes of q.
    let overlap = with_entry(|entry| entry["data_offsets"] = json!([170, 234]));
    assert_eq!(
        overlap,
        format!(
            "`model.safetensors`: offsets of `{Q}`: expected 176.., right after its neighbor, \
             found 170..234"
        )
    );
    let gap = with_entry(|entry| entry["data_offsets"] = json!([180, 240]));
    assert!(gap.contains("right after its neighbor"), "{gap}");
    let backwards = with_entry(|entry| entry["data_offsets"] = json!([176, 100]));
    assert!(
        backwards.starts_with("`model.safetensors`: offsets of"),
        "{backwards}"
    );
    let short = with_entry(|entry| entry["data_offsets"] = json!([176, 239]));
    assert_eq!(
        short,
        format!(
            "`model.safetensors`: offsets of `{Q}`: expected the bytes of [4, 4] F32, found \
             176..239"
        )
    );
    let overflow = with_entry(|entry| entry["shape"] = json!([u64::MAX, u64::MAX]));
    assert!(overflow.contains(Q), "{overflow}");
}

#[test]
fn a_header_that_is_not_json_is_damaged() {
    let checkpoint = Checkpoint::smallest();
    checkpoint.write();
    let text = b"{\"a\": [1, 2";
    let file = [&(text.len() as u64).to_le_bytes()[..], text].concat();
    checkpoint.put("model.safetensors", &file);
    let message = checkpoint.refusal();
    let expected = "`model.safetensors` is damaged: its header: ";
    assert!(message.starts_with(expected), "{message}");
}

#[test]
fn a_norm_before_attention_means_another_model() {
    let mut checkpoint = Checkpoint::smallest();
    let name = "model.layers.0.input_layernorm.weight";
    checkpoint
        .tensors
        .push(RawTensor::f32(name, &[4], &[1.0; 4]));
    // As in a real Llama, whose other tensors do not fit either.
    checkpoint
        .tensors
        .retain(|tensor| !tensor.name.contains("q_norm"));
    checkpoint.tensor("lm_head.weight").shape = vec![4, 5];
    let expected = format!("tensor `{name}` is not of OLMo 2");
    let message = checkpoint.write().refusal();
    assert!(message.contains(&expected), "{message}");
    fs::remove_file(checkpoint.path().join("model.safetensors")).unwrap();
    checkpoint.write_sharded(2);
    let message = checkpoint.refusal();
    assert!(message.contains(&expected), "{message}");
}

#[test]
fn shards_that_the_index_does_not_describe_are_named() {
    let checkpoint = Checkpoint::smallest();
    let index = checkpoint.write_sharded(3);
    checkpoint.open().expect("whole");

    let mut other = index.clone();
    let holder = other["weight_map"][Q].as_str().unwrap().to_owned();
    let named = match holder.as_str() {
        "model-0.safetensors" => "model-1.safetensors",
        _ => "model-0.safetensors",
    };
    other["weight_map"][Q] = json!(named);
    checkpoint.write_index(&other);
    assert_eq!(
        checkpoint.refusal(),
        format!(
            "`model.safetensors.index.json`: shard of `{Q}`: expected `{named}`, found it in \
             `{holder}`"
        )
    );

    for lead_out in [
        "../model-0.safetensors",
        "/etc/passwd",
        "a/b.safetensors",
        "..",
    ] {
        let mut outside = index.clone();
        outside["weight_map"][Q] = json!(lead_out);
        checkpoint.write_index(&outside);
        assert_eq!(
            checkpoint.refusal(),
            format!(
                "`model.safetensors.index.json`: shard of `{Q}`: expected the name of a \
                 safetensors file, found `{lead_out}`"
            )
        );
    }

    checkpoint.write_index(&index);
    fs::remove_file(checkpoint.path().join(&holder)).unwrap();
    let message = checkpoint.refusal();
    assert!(
        message.starts_with(&format!("cannot read `{holder}`")),
        "{message}"
    );
}

#[test]
fn a_tensor_in_two_shards_is_refused() {
    let mut checkpoint = Checkpoint::smallest();
    let index = checkpoint.write_sharded(2);
    let twice = checkpoint.tensor(Q).clone();
    checkpoint.tensors.insert(0, twice.clone());
    checkpoint.tensors.insert(0, twice);
    checkpoint.write_sharded(2);
    checkpoint.write_index(&index);
    let message = checkpoint.refusal();
    assert!(message.contains(&format!("shard of `{Q}`")), "{message}");
}

#[test]
fn pickled_files_alone_are_refused_with_a_hint() {
    let checkpoint = Checkpoint::smallest();
    assert_eq!(
        checkpoint.refusal(),
        "no weights in `FOLDER`: expected a record, `model.safetensors` or \
         `model.safetensors.index.json`, found none"
    );
    checkpoint.put("pytorch_model-00001-of-00002.bin", b"PK");
    checkpoint.put("pytorch_model-00002-of-00002.bin", b"PK");
    let error = checkpoint.open().expect_err("pickled");
    let message = error.to_string();
    let expected = "found `pytorch_model-00001-of-00002.bin`, `pytorch_model-00002-of-00002.bin`";
    assert!(message.ends_with(expected), "{message}");
    assert!(error.hint().is_some_and(|hint| hint.contains("pickled")));
}

#[test]
fn misaligned_data_is_read_with_a_note() {
    let checkpoint = Checkpoint::smallest();
    checkpoint.write();
    let path = checkpoint.path().join("model.safetensors");
    let file = fs::read(&path).unwrap();
    let len = u64::from_le_bytes(*file.first_chunk().unwrap());
    let padded = [
        &(len + 1).to_le_bytes()[..],
        &file[8..8 + len as usize],
        b" ",
    ]
    .concat();
    let odd = [&padded[..], &file[8 + len as usize..]].concat();
    SafeTensors::deserialize(&odd).expect("the crate reads it too");
    let aligned = checkpoint.open().expect("aligned");
    let expected: Vec<Vec<u8>> = aligned
        .iter()
        .map(|(_, t)| t.float().expect("floats").bytes.to_vec())
        .collect();
    drop(aligned);
    fs::remove_file(&path).unwrap();
    checkpoint.put("model.safetensors", &odd);
    let weights = checkpoint.open().expect("misaligned, but whole");
    assert_eq!(weights.notes().len(), 14, "every tensor");
    assert!(weights.notes()[0].contains("is not aligned"));
    let found: Vec<Vec<u8>> = weights
        .iter()
        .map(|(_, w)| w.float().expect("floats").bytes.to_vec())
        .collect();
    assert!(found == expected);

    #[cfg(feature = "flex")]
    {
        use olmo2::{ForwardInput, LoadOptions, Olmo2};
        use olmo2_tests::backends::Flex;
        let options = LoadOptions::default();
        let model = Olmo2::<Flex>::load(checkpoint.path(), &options, &Default::default());
        let input = ForwardInput::ids(&[1, 2]);
        model.expect("a model").forward(input).expect("an answer");
    }
}
