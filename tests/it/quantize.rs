//! Quantized records: choices, bytes, resuming, and how a broken one is refused.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use burn::tensor::DType;
use burn_store::{BurnpackStore, BurnpackWriter, ModuleStore};
use olmo2::Hint;
use olmo2::convert::{ConvertOptions, ConvertReport, convert};
use olmo2::layout::parts;
use olmo2::record::{ConvertEvent, ConvertProgress, Receipt, StoredDtype, StoredFormat, check};
use olmo2::{Olmo2Config, QuantFormat, Quantize, StoredTensor, StoredWeight, Weights};
use olmo2_tests::golden_folder;
use tempfile::TempDir;

use crate::checkpoint::{Checkpoint, RawTensor};
use crate::record::{replaced_in, snapshot};

const HEAD: &str = "lm_head.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";
const Q: &str = "model.layers.0.self_attn.q_proj.weight";

/// The record of a folder, with its config.
pub(crate) fn record_of(source: &Path, quantize: Quantize) -> (TempDir, Olmo2Config) {
    let out = tempfile::tempdir().expect("a folder");
    to_record(source, out.path(), quantize);
    let config = Olmo2Config::from_folder(source).expect("a config");
    (out, config)
}

fn to_record(source: &Path, out: &Path, quantize: Quantize) -> ConvertReport {
    let options = ConvertOptions {
        quantize,
        ..ConvertOptions::new(source, out)
    };
    convert(&options, &mut ()).expect("a conversion")
}

/// All choices that a test should go through.
pub(crate) fn choices() -> [Quantize; 4] {
    let (q8, q4) = (
        Quantize::all(QuantFormat::Q8),
        Quantize::all(QuantFormat::Q4),
    );
    let (head, embedding) = (Some(QuantFormat::Q8), None);
    [
        q8,
        q4,
        Quantize { head, ..q4 },
        Quantize {
            embedding,
            head,
            layers: None,
        },
    ]
}

/// The arrays of a weight as a record holds them: name, and bytes with type and shape.
fn arrays(name: &str, weight: &StoredWeight) -> Vec<(String, StoredTensor)> {
    let Some(packed) = weight.packed() else {
        let tensor = weight.float().expect("floats").clone();
        return vec![(name.to_owned(), tensor)];
    };
    let [out, input] = *packed.shape();
    let blocks = input.div_ceil(32);
    let dtype_and_shape = |piece: &str| match (packed.format(), piece) {
        (QuantFormat::Q8, "quants") => (DType::I8, vec![out, blocks * 32]),
        (QuantFormat::Q8, "scales") => (DType::F16, vec![out, blocks]),
        (_, "quants") => (DType::U8, vec![out, blocks, 16]),
        (_, "top") => (DType::F32, vec![1]),
        _ => (DType::U8, vec![out, blocks]),
    };
    let pieces = packed.arrays().into_iter();
    pieces
        .map(|(piece, bytes)| {
            let (dtype, shape) = dtype_and_shape(piece);
            let tensor = StoredTensor {
                dtype,
                shape,
                bytes,
            };
            (format!("{name}.{piece}"), tensor)
        })
        .collect()
}

#[test]
fn parts_are_what_burn_store_writes_and_reads() {
    for quantize in choices() {
        let (folder, config) = record_of(&golden_folder("gqa-tiny"), quantize);
        let weights = olmo2::format::open(folder.path(), &config).expect("weights");
        for part in parts(&config) {
            let names = part.tensors.iter().map(|spec| spec.name.as_str());
            let arrays: Vec<_> = names
                .flat_map(|name| arrays(name, weights.get(name).expect("a weight")))
                .collect();
            let snapshots = arrays.iter().map(|(name, array)| snapshot(name, array));
            let expected = BurnpackWriter::new(snapshots.collect())
                .to_bytes()
                .expect("bytes");
            let path = folder.path().join(part.file_name());
            let found = fs::read(&path).expect("a part");
            assert!(found[..] == expected[..], "{quantize}: {}", part.name);
            let mut store = BurnpackStore::from_file(path).zero_copy(true);
            let snapshots = store.get_all_snapshots().expect("a burnpack file");
            for (name, array) in &arrays {
                let data = snapshots[name].to_data().expect("data");
                assert!(data.bytes[..] == array.bytes[..], "{name}");
                // `top` is read into a number.
                let is_place = array.bytes.as_ptr().addr().is_multiple_of(256);
                assert!(is_place || name.ends_with(".top"), "{name}");
            }
        }
    }
}

#[test]
fn each_choice_stands_in_the_receipt_and_in_the_weights() {
    let (q8, q4) = (QuantFormat::Q8.into(), QuantFormat::Q4.into());
    let bf16 = StoredFormat::from(StoredDtype::Bf16);
    let expected = [(q8, q8, q8), (q4, q4, q4), (q4, q8, q4), (bf16, q8, bf16)];
    for (quantize, (layers, head, embedding)) in choices().into_iter().zip(expected) {
        let (folder, config) = record_of(&golden_folder("gqa-tiny"), quantize);
        let weights = olmo2::format::open(folder.path(), &config).expect("weights");
        let receipt = Receipt::read(folder.path()).unwrap().expect("a receipt");
        assert_eq!(receipt.quantize, quantize);
        let tensors: Vec<_> = receipt
            .parts
            .iter()
            .flat_map(|part| &part.tensors)
            .collect();
        for (name, weight) in weights.iter() {
            let expected = match name {
                HEAD => head,
                EMBEDDING => embedding,
                _ if name.ends_with("norm.weight") => bf16,
                _ => layers,
            };
            assert_eq!(weight.format(), expected, "{name}");
            let tensor = tensors.iter().find(|tensor| tensor.name == name);
            assert_eq!(tensor.expect("an entry").dtype, expected, "{name}");
        }
        check(folder.path(), &config, |_| ()).expect("intact");
    }
}

/// One matrix: the embedding's choice holds, whatever the head's is.
#[test]
fn a_tied_head_is_in_the_embeddings_format_and_a_note_says_so() {
    let source = golden_folder("mqa-tied");
    let (q4, embedding) = (Quantize::all(QuantFormat::Q4), Some(QuantFormat::Q8));
    let out = tempfile::tempdir().unwrap();
    let notes = to_record(&source, out.path(), Quantize { embedding, ..q4 }).notes;
    assert_eq!(
        notes,
        ["the head is the embedding (`tie_word_embeddings`): both are in q8"]
    );
    let config = Olmo2Config::from_folder(&source).unwrap();
    let weights = olmo2::format::open(out.path(), &config).expect("weights");
    let format = |name: &str| weights.get(name).map(StoredWeight::format);
    assert_eq!(format(EMBEDDING), Some(QuantFormat::Q8.into()));
    assert_eq!(format(Q), Some(QuantFormat::Q4.into()));
    assert_eq!(format(HEAD), None);
    let plain = tempfile::tempdir().unwrap();
    assert!(to_record(&source, plain.path(), q4).notes.is_empty());
}

/// 8.5 and 4.5 bits; the blocks of a record are those of quantizing in memory, from bf16 shards
/// as from one file.
#[test]
fn a_record_holds_what_quantizing_in_memory_gives() {
    for (source, quantize) in [("gqa-tiny", choices()), ("sharded", choices())]
        .into_iter()
        .flat_map(|(source, choices)| choices.map(|choice| (source, choice)))
    {
        let (folder, config) = record_of(&golden_folder(source), quantize);
        let floats = olmo2::format::open(&golden_folder(source), &config).expect("weights");
        let made = floats.quantized(&quantize).expect("floats");
        let read = olmo2::format::open(folder.path(), &config).expect("weights");
        assert_eq!(made.total_bytes(), read.total_bytes());
        for ((name, made), (_, read)) in made.iter().zip(read.iter()) {
            let (made, read) = (arrays(name, made), arrays(name, read));
            assert!(
                made.iter().zip(&read).all(|(a, b)| a.1.bytes == b.1.bytes),
                "{source}: {quantize}: {name}"
            );
        }
    }
}

#[test]
fn floats_beside_the_blocks_take_the_type_that_was_asked_for() {
    let out = tempfile::tempdir().unwrap();
    let mut options = ConvertOptions::new(golden_folder("gqa-tiny"), out.path());
    options.quantize.layers = Some(QuantFormat::Q8);
    options.dtype = Some(StoredDtype::F32);
    convert(&options, &mut ()).expect("a conversion");
    let config = Olmo2Config::from_folder(out.path()).unwrap();
    let weights = olmo2::format::open(out.path(), &config).expect("weights");
    let format = |name: &str| weights.get(name).map(StoredWeight::format);
    assert_eq!(format(Q), Some(QuantFormat::Q8.into()));
    assert_eq!(format(HEAD), Some(StoredDtype::F32.into()));
    assert_eq!(format("model.norm.weight"), Some(StoredDtype::F32.into()));
}

/// Ends a conversion at the n-th event.
struct StopAt(usize);

impl ConvertProgress for StopAt {
    fn event(&mut self, _: ConvertEvent<'_>) -> ControlFlow<()> {
        self.0 = self.0.wrapping_sub(1);
        match self.0 {
            usize::MAX => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn part_bytes(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).expect("a folder");
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut parts: Vec<_> = names
        .filter(|name| name.ends_with(".bpk"))
        .map(|name| (name.clone(), fs::read(folder.join(name)).expect("a part")))
        .collect();
    parts.sort();
    parts
}

#[test]
fn a_quantizing_conversion_goes_on_to_the_same_bytes() {
    let (source, quantize) = (golden_folder("sharded"), choices()[2]);
    let (whole, _) = record_of(&source, quantize);
    for stop in [0, 1, 3, 20, 47, 80, 101] {
        let out = tempfile::tempdir().unwrap();
        let options = ConvertOptions {
            quantize,
            ..ConvertOptions::new(&source, out.path())
        };
        convert(&options, &mut StopAt(stop)).expect_err("it was ended");
        to_record(&source, out.path(), quantize);
        assert!(part_bytes(out.path()) == part_bytes(whole.path()), "{stop}");
    }
    let mut other = ConvertOptions::new(&source, whole.path());
    let error = convert(&other, &mut ()).expect_err("another record");
    let message = error.to_string();
    assert!(
        message.ends_with(
            "quantization: expected none, head none, embedding none, found q4, head q8, \
             embedding q4"
        ),
        "{message}"
    );
    other.quantize = quantize;
    assert_eq!(convert(&other, &mut ()).expect("kept").parts.written, 0);
}

#[test]
fn what_is_quantized_is_no_source() {
    let (folder, config) = record_of(&golden_folder("gqa-tiny"), choices()[0]);
    let out = tempfile::tempdir().unwrap();
    for quantize in [Quantize::default(), choices()[0], choices()[1]] {
        let options = ConvertOptions {
            quantize,
            ..ConvertOptions::new(folder.path(), out.path())
        };
        let error = convert(&options, &mut ()).expect_err("no floats");
        let expected = format!("head.bpk`: tensor `{EMBEDDING}`: expected floats, found q8");
        assert!(error.to_string().ends_with(&expected), "{error}");
        assert!(error.hint().expect("a hint").contains("floats"));
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
    }
    let weights = olmo2::format::open(folder.path(), &config).expect("weights");
    let error = weights.quantized(&choices()[1]).expect_err("other blocks");
    let expected = "expected floats or q4, found q8";
    assert!(error.to_string().ends_with(expected), "{error}");
    let same = weights.quantized(&choices()[0]).expect("as it is");
    let address = |weights: &Weights| {
        let packed = weights.get(Q).and_then(StoredWeight::packed);
        packed.expect("blocks").arrays()[0].1.as_ptr()
    };
    assert_eq!(address(&same), address(&weights), "the memory is shared");
}

#[test]
fn numbers_that_no_block_holds_are_named() {
    let elements = 400_000;
    for (format, value, found) in [
        (QuantFormat::Q8, f32::NAN, "NaN"),
        (QuantFormat::Q4, f32::NEG_INFINITY, "-inf"),
        (QuantFormat::Q8, 9.0e6, "9000000"),
    ] {
        let mut source = Checkpoint::smallest();
        source.config["vocab_size"] = 100_000.into();
        for name in [EMBEDDING, HEAD] {
            *source.tensor(name) = RawTensor::f32(name, &[elements / 4, 4], &vec![0.5; elements]);
        }
        // The last of two: the first is to be named.
        for at in [300_001, 300_500] {
            source.tensor(HEAD).bytes[4 * at..][..4].copy_from_slice(&value.to_le_bytes());
        }
        source.write();
        let expected = format!(
            "`model.safetensors`: tensor `{HEAD}`: expected values within the range of {format}, \
             found {found} at element 300001"
        );
        let out = tempfile::tempdir().unwrap();
        let options = ConvertOptions {
            quantize: Quantize::all(format),
            ..ConvertOptions::new(source.path(), out.path())
        };
        let error = convert(&options, &mut ()).expect_err("out of range");
        assert_eq!(source.plain(&error), expected);
        assert!(part_bytes(out.path()).is_empty());
        let weights = source.open().expect("floats");
        let error = weights.quantized(&options.quantize).expect_err("the same");
        assert_eq!(source.plain(&error), expected);
    }
}

/// What a record says once its first layer holds other arrays.
#[track_caller]
fn broken(quantize: Quantize, edit: impl Fn(&mut Vec<(String, StoredTensor)>)) -> String {
    let (folder, config) = record_of(&golden_folder("mqa-tied"), quantize);
    let weights = olmo2::format::open(folder.path(), &config).unwrap();
    let part = &parts(&config)[1];
    let names = part.tensors.iter().map(|spec| spec.name.as_str());
    let mut arrays: Vec<_> = names
        .flat_map(|name| arrays(name, weights.get(name).expect("a weight")))
        .collect();
    edit(&mut arrays);
    replaced_in(folder.path(), &config, part, &arrays)
}

#[test]
fn broken_blocks_are_refused_by_array_and_field() {
    let [q8, q4, ..] = choices();
    let array = |name: &str| format!("`layer-000.bpk`: tensor `{Q}.{name}`");
    let field = |field: &str, name: &str| format!("`layer-000.bpk`: {field} of `{Q}.{name}`");
    let is = |found: String, expected: String| assert_eq!(found, expected);
    is(
        broken(q8, |arrays| drop(arrays.remove(1))),
        array("scales") + " is missing: expected shape [64, 2], found no such tensor",
    );
    is(
        broken(q8, |arrays| {
            let mut more = arrays[1].clone();
            more.0 = format!("{Q}.selectors");
            arrays.insert(2, more);
        }),
        array("selectors")
            + " is surplus: expected no such tensor after `config.json`, found shape [64, 2]",
    );
    is(
        broken(q8, |arrays| arrays[0].1.dtype = DType::U8),
        // U8 is q4: its shape is another.
        field("shape", "quants") + ": expected [64, 2, 16], found [64, 64]",
    );
    is(
        broken(q4, |arrays| {
            arrays[0].1.dtype = DType::F16;
            arrays[0].1.shape = vec![64, 2, 8];
        }),
        field("dtype", "quants") + ": expected I8 or U8, found F16",
    );
    is(
        broken(q4, |arrays| arrays[2].1.dtype = DType::I8),
        field("dtype", "selectors") + ": expected U8, found I8",
    );
    is(
        broken(q4, |arrays| arrays.swap(1, 2)),
        field("offsets", "scales") + ": expected 2048..2176, found 2304..2432",
    );
    is(
        broken(q4, |arrays| {
            arrays[3].1.bytes = f32::NAN.to_le_bytes().to_vec().into();
        }),
        field("value", "top") + ": expected 0 or a number from 7.888609e-31 on, found NaN",
    );
    let norm = "model.layers.0.self_attn.q_norm.weight";
    is(
        broken(q4, |arrays| {
            let at = arrays.iter().position(|(name, _)| name == norm);
            let array = &mut arrays[at.expect("a norm")];
            array.0 = format!("{norm}.quants");
        }),
        format!(
            "`layer-000.bpk`: tensor `{norm}.quants` is surplus: expected no such tensor after \
             `config.json`, found shape [64]"
        ),
    );
}
