//! Records: what burn-store makes of them, and how a broken one is refused.

use std::fs;
use std::path::Path;
use std::rc::Rc;

use burn::module::ParamId;
use burn::tensor::{AllocationProperty, Bytes, TensorData};
use burn_store::{BurnpackStore, BurnpackWriter, ModuleStore, TensorSnapshot};
use olmo2::Hint;
use olmo2::convert::{ConvertOptions, convert};
use olmo2::layout::{Part, parts};
use olmo2::record::{RECEIPT, check};
use olmo2::{Olmo2Config, StoredTensor};
use olmo2_tests::golden_folder;
use serde_json::Value;
use tempfile::TempDir;

/// A golden, its record, and its config.
fn record(golden: &str) -> (TempDir, Olmo2Config) {
    let source = golden_folder(golden);
    let out = tempfile::tempdir().expect("a folder");
    convert(&ConvertOptions::new(&source, out.path()), &mut ()).expect("a conversion");
    (out, Olmo2Config::from_folder(&source).expect("a config"))
}

pub(crate) fn snapshot(name: &str, tensor: &StoredTensor) -> TensorSnapshot {
    let (lazy, shape) = (tensor.clone(), tensor.shape.clone());
    let data = Rc::new(move || {
        let bytes = Bytes::from_shared(lazy.bytes.clone(), AllocationProperty::File);
        Ok(TensorData::from_bytes(
            bytes,
            lazy.shape.clone(),
            lazy.dtype,
        ))
    });
    let path = name.split('.').map(str::to_owned).collect();
    let id = ParamId::new();
    let mut snapshot =
        TensorSnapshot::from_closure(data, tensor.dtype, shape.into(), path, vec![], id);
    snapshot.tensor_id = None;
    snapshot
}

#[test]
fn parts_are_byte_for_byte_what_burn_store_writes() {
    for golden in ["gqa-tiny", "bias-eps", "mqa-tied"] {
        let (folder, config) = record(golden);
        let weights = olmo2::format::open(&golden_folder(golden), &config).expect("weights");
        for part in parts(&config) {
            let snapshots = part
                .tensors
                .iter()
                .map(|spec| snapshot(&spec.name, weights.float(&spec.name).expect("a tensor")))
                .collect();
            let expected = BurnpackWriter::new(snapshots).to_bytes().expect("bytes");
            let found = fs::read(folder.path().join(part.file_name())).expect("a part");
            assert!(found[..] == expected[..], "{golden}: {}", part.name);
        }
    }
}

#[test]
fn burn_store_reads_the_parts_without_a_copy() {
    let (folder, config) = record("gqa-tiny");
    let weights = olmo2::format::open(&golden_folder("gqa-tiny"), &config).expect("weights");
    for part in parts(&config) {
        let path = folder.path().join(part.file_name());
        let mut store = BurnpackStore::from_file(path).zero_copy(true);
        let snapshots = store.get_all_snapshots().expect("a burnpack file");
        assert_eq!(snapshots.len(), part.tensors.len());
        for (name, snapshot) in snapshots {
            let expected = weights.float(name).expect("a tensor");
            assert_eq!(snapshot.dtype, expected.dtype);
            let data = snapshot.to_data().expect("data");
            assert_eq!(data.shape.to_vec(), expected.shape);
            assert!(data.bytes[..] == expected.bytes[..], "{name}");
        }
    }
}

#[test]
fn tensors_of_a_record_are_slices_of_maps_at_multiples_of_256() {
    let (folder, config) = record("bias-eps");
    let weights = olmo2::format::open(folder.path(), &config).expect("weights");
    for (name, weight) in weights.iter() {
        let tensor = weight.float().expect("floats");
        assert_eq!(tensor.bytes.as_ptr().addr() % 256, 0, "{name}");
    }
    let address = |name: &str| weights.float(name).expect("a tensor").bytes.as_ptr().addr();
    let (q, k) = (
        address("model.layers.1.self_attn.q_proj.weight"),
        address("model.layers.1.self_attn.k_proj.weight"),
    );
    assert_eq!(k - q, 64 * 64 * 4, "k lies right behind q");
    assert!(weights.notes().is_empty());
}

#[cfg(feature = "flex")]
#[test]
fn a_record_answers_exactly_as_its_checkpoint() {
    use olmo2::{ForwardInput, LoadOptions, Olmo2};
    use olmo2_tests::{backends::Flex, values};
    for golden in ["gqa-tiny", "sharded", "mqa-tied"] {
        let (folder, _) = record(golden);
        let logits = |folder: &Path| {
            let device = Default::default();
            let options = LoadOptions::default();
            let model = Olmo2::<Flex>::load(folder, &options, &device).expect("a model");
            let output = model.forward(ForwardInput::ids(&[1, 2, 3])).expect("valid");
            values(output.logits.expect("logits"))
        };
        assert_eq!(logits(folder.path()), logits(&golden_folder(golden)));
    }
}

#[test]
fn check_finds_one_flipped_bit_that_loading_does_not_read() {
    let (folder, config) = record("gqa-tiny");
    let mut read = 0;
    let checked = check(folder.path(), &config, |bytes| read += bytes).expect("intact");
    assert_eq!((checked.parts, checked.bytes), (5, read));
    let path = folder.path().join("layer-002.bpk");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 0x10;
    fs::write(&path, bytes).unwrap();
    olmo2::format::open(folder.path(), &config).expect("headers are intact");
    let error = check(folder.path(), &config, |_| ()).expect_err("a bit is flipped");
    let message = error.to_string();
    assert!(
        message.contains("layer-002.bpk`: BLAKE3 of `layer-002.bpk`: expected "),
        "{message}"
    );
}

/// A model is as much its config and tokenizer as its weights.
#[test]
fn check_finds_a_changed_config() {
    let (folder, config) = record("gqa-tiny");
    let checked = check(folder.path(), &config, |_| ()).expect("intact");
    assert_eq!(checked.copied, 2);
    let path = folder.path().join("config.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text + " ").unwrap();
    let error = check(folder.path(), &config, |_| ()).expect_err("a blank more");
    let message = error.to_string();
    assert!(message.contains("BLAKE3 of `config.json`"), "{message}");
    assert!(error.hint().unwrap().contains("run the conversion again"));

    let path = folder.path().join(RECEIPT);
    let receipt = fs::read_to_string(&path).unwrap();
    let elsewhere = receipt.replace("\"config.json\"", "\"../config.json\"");
    fs::write(&path, elsewhere).unwrap();
    let error = check(folder.path(), &config, |_| ()).expect_err("another folder");
    assert!(error.to_string().contains("`../config.json`"), "{error}");
}

/// A receipt that lists no config is completed; one that lists another is of another model.
#[test]
fn converting_again_holds_the_config_against_the_receipt() {
    let (folder, config) = record("gqa-tiny");
    let path = folder.path().join(RECEIPT);
    let new = fs::read_to_string(&path).unwrap();
    let mut old: Value = serde_json::from_str(&new).unwrap();
    old.as_object_mut().unwrap().remove("copied");
    fs::write(&path, old.to_string()).unwrap();
    assert_eq!(check(folder.path(), &config, |_| ()).unwrap().copied, 0);
    let again = ConvertOptions::new(golden_folder("gqa-tiny"), folder.path());
    convert(&again, &mut ()).expect("completed");
    assert_eq!(check(folder.path(), &config, |_| ()).unwrap().copied, 2);

    let stray = folder.path().join("chat_template.jinja");
    fs::write(&stray, "{{ messages }}").unwrap();
    let error = check(folder.path(), &config, |_| ()).expect_err("a file more");
    assert!(
        error.to_string().contains("`chat_template.jinja` exists"),
        "{error}"
    );
    convert(&again, &mut ()).expect("mended");
    assert!(!stray.exists());

    let other = new.replace("\"blake3\": \"", "\"blake3\": \"0");
    fs::write(&path, other).unwrap();
    let error = convert(&again, &mut ()).expect_err("another config");
    let message = error.to_string();
    assert!(
        message.contains("config and tokenizer") && message.contains("`config.json`"),
        "{message}"
    );
}

/// Opens a record after `damage`, and gives the message without the folder's name.
#[track_caller]
fn refusal(golden: &str, damage: impl FnOnce(&Path)) -> String {
    let (folder, config) = record(golden);
    damage(folder.path());
    let error = olmo2::format::open(folder.path(), &config).expect_err("the record is damaged");
    let folder = folder.path().display().to_string();
    error
        .to_string()
        .replace(&format!("{folder}/"), "")
        .replace(&folder, "FOLDER")
}

fn edit_receipt(folder: &Path, edit: impl FnOnce(&mut Value)) {
    let path = folder.join(RECEIPT);
    let mut receipt = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut receipt);
    fs::write(&path, receipt.to_string()).unwrap();
}

#[test]
fn a_cut_or_missing_part_is_named() {
    let message = refusal("gqa-tiny", |folder| {
        let path = folder.join("layer-000.bpk");
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
    });
    assert_eq!(
        message,
        "`layer-000.bpk` is damaged: expected 198592 bytes, found 198492"
    );
    let message = refusal("gqa-tiny", |folder| {
        fs::remove_file(folder.join("head.bpk")).unwrap();
    });
    assert!(message.starts_with("cannot read `head.bpk`"), "{message}");
    let message = refusal("gqa-tiny", |folder| {
        edit_receipt(folder, |receipt| {
            receipt["parts"].as_array_mut().unwrap().remove(3);
        });
    });
    assert_eq!(
        message,
        "`FOLDER` is an unfinished record: expected 5 parts, found 4; `layer-002.bpk` is missing"
    );
}

#[test]
fn a_later_format_is_refused_by_its_number() {
    let message = refusal("mqa-tied", |folder| {
        edit_receipt(folder, |receipt| receipt["format_version"] = 2.into());
    });
    assert_eq!(
        message,
        "`olmo2-record.json`: value of `format_version`: expected 1, found 2"
    );
}

#[test]
fn a_receipt_of_another_model_is_refused() {
    let message = refusal("mqa-tied", |folder| {
        edit_receipt(folder, |receipt| {
            let parts = receipt["parts"].as_array_mut().unwrap();
            let part = parts[0].clone();
            parts.push(part);
        });
    });
    assert_eq!(
        message,
        "`olmo2-record.json`: length of `parts`: expected 3, found 4"
    );
}

/// Replaces a part by one that burn-store writes, with a receipt that agrees.
fn replace_part(folder: &Path, part: &Part, snapshots: Vec<TensorSnapshot>) {
    let bytes = BurnpackWriter::new(snapshots).to_bytes().expect("bytes");
    fs::write(folder.join(part.file_name()), &bytes[..]).unwrap();
    edit_receipt(folder, |receipt| {
        let parts = receipt["parts"].as_array_mut().unwrap();
        let entry = parts.iter_mut().find(|p| p["file"] == part.file_name());
        entry.expect("an entry")["size"] = bytes.len().into();
    });
}

/// The message that follows when a part of the record in a folder holds other tensors.
#[track_caller]
pub(crate) fn replaced_in(
    folder: &Path,
    config: &Olmo2Config,
    part: &Part,
    tensors: &[(String, StoredTensor)],
) -> String {
    let snapshots = tensors.iter().map(|(name, t)| snapshot(name, t)).collect();
    replace_part(folder, part, snapshots);
    let error = olmo2::format::open(folder, config).expect_err("the record is damaged");
    let folder = folder.display().to_string();
    error.to_string().replace(&format!("{folder}/"), "")
}

/// The message that follows when a part holds other tensors.
#[track_caller]
fn replaced(edit: impl Fn(&mut Vec<(String, StoredTensor)>)) -> String {
    refusal("mqa-tied", |folder| {
        let config = Olmo2Config::from_folder(folder).unwrap();
        let weights = olmo2::format::open(folder, &config).unwrap();
        let part = &parts(&config)[1];
        let mut tensors: Vec<(String, StoredTensor)> = part
            .tensors
            .iter()
            .map(|spec| {
                (
                    spec.name.clone(),
                    weights.float(&spec.name).unwrap().clone(),
                )
            })
            .collect();
        edit(&mut tensors);
        let snapshots = tensors.iter().map(|(name, t)| snapshot(name, t)).collect();
        replace_part(folder, part, snapshots);
    })
}

#[test]
fn a_part_with_other_tensors_is_refused_by_their_names() {
    assert_eq!(
        replaced(|tensors| {
            tensors.remove(4);
        }),
        "`layer-000.bpk`: tensor `model.layers.0.self_attn.q_norm.weight` is missing: expected \
         shape [64], found no such tensor"
    );
    assert_eq!(
        replaced(|tensors| tensors[4].0 = "model.layers.0.self_attn.q_scale".into()),
        "`layer-000.bpk`: tensor `model.layers.0.self_attn.q_scale` is surplus: expected no such \
         tensor after `config.json`, found shape [64]"
    );
    assert_eq!(
        replaced(|tensors| tensors[0].1.shape = vec![32, 128]),
        "`layer-000.bpk`: shape of `model.layers.0.self_attn.q_proj.weight`: expected [64, 64], \
         found [32, 128]"
    );
    assert_eq!(
        replaced(|tensors| tensors.swap(0, 3)),
        "`layer-000.bpk`: offsets of `model.layers.0.self_attn.q_proj.weight`: expected \
         0..16384, found 24576..40960"
    );
}

#[test]
fn a_file_is_no_place_for_a_record() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("file");
    fs::write(&out, "mine").expect("a file");
    for out in [out.clone(), out.join("below")] {
        let options = ConvertOptions::new(golden_folder("gqa-tiny"), &out);
        let error = convert(&options, &mut ()).expect_err("a file is in the way");
        let hint = error.hint().unwrap_or_default();
        assert!(hint.starts_with("a record is a folder"), "{error}: {hint}");
    }
    assert_eq!(fs::read_to_string(out).expect("a file"), "mine");
}
