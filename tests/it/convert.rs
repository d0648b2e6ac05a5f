//! Conversion: every golden, any type, ended anywhere and run again.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use half::{bf16, f16};
use olmo2::Hint;
use olmo2::convert::{ConvertError, ConvertOptions, ConvertReport, convert};
use olmo2::record::{ConvertEvent, ConvertProgress, RECEIPT, Receipt, RecordError, StoredDtype};
use olmo2::{Olmo2Config, Weights};
use olmo2_tests::golden_folder;

use crate::checkpoint::{Checkpoint, RawTensor};

const GOLDENS: [&str; 10] = [
    "bias-eps",
    "gqa-tiny",
    "mha-tiny",
    "mqa-tied",
    "olmo3-tiny",
    "rope-dynamic",
    "rope-linear",
    "rope-llama3",
    "rope-yarn",
    "sharded",
];

fn to_record(source: &Path, out: &Path) -> ConvertReport {
    convert(&ConvertOptions::new(source, out), &mut ()).expect("a conversion")
}

fn weights(folder: &Path) -> Weights {
    let config = Olmo2Config::from_folder(folder).expect("a config");
    olmo2::format::open(folder, &config).expect("weights")
}

/// All files of a record but the receipt, by name.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("an entry"))
        .map(|entry| entry.file_name().into_string().expect("a name"))
        .filter(|name| name != RECEIPT)
        .map(|name| (name.clone(), fs::read(folder.join(name)).expect("a file")))
        .collect();
    files.sort();
    files
}

#[test]
fn every_golden_converts_and_reads_back_the_same() {
    for golden in GOLDENS {
        let source = golden_folder(golden);
        let out = tempfile::tempdir().expect("a folder");
        let report = to_record(&source, out.path());
        let (before, after) = (weights(&source), weights(out.path()));
        assert_eq!(before.total_bytes(), after.total_bytes(), "{golden}");
        for (name, before) in before.iter() {
            let before = before.float().expect("floats");
            let after = after.float(name).expect("floats");
            assert_eq!(before.dtype, after.dtype, "{golden}: {name}");
            assert_eq!(before.shape, after.shape, "{golden}: {name}");
            assert!(before.bytes == after.bytes, "{golden}: bytes of {name}");
        }
        for beside in ["config.json", "generation_config.json"] {
            let (from, to) = (source.join(beside), out.path().join(beside));
            assert_eq!(fs::read(from).ok(), fs::read(to).ok(), "{golden}: {beside}");
        }
        let bytes: u64 = files(out.path())
            .iter()
            .filter(|(name, _)| name.ends_with(".bpk"))
            .map(|(_, bytes)| bytes.len() as u64)
            .sum();
        assert_eq!(report.parts.bytes, bytes, "{golden}");
    }
}

#[test]
fn shards_give_the_same_parts_as_one_file() {
    let (one, many) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    to_record(&golden_folder("gqa-tiny"), one.path());
    to_record(&golden_folder("sharded"), many.path());
    assert!(files(one.path()) == files(many.path()));
    let receipt = |folder: &Path| {
        let mut receipt = Receipt::read(folder).unwrap().expect("a receipt");
        receipt.source.label.clear();
        receipt.source.files.clear();
        for tensor in receipt.parts.iter_mut().flat_map(|part| &mut part.tensors) {
            tensor.source_file.clear();
        }
        receipt
    };
    assert_eq!(receipt(one.path()), receipt(many.path()));
}

#[test]
fn the_receipt_names_files_types_and_hashes() {
    let out = tempfile::tempdir().unwrap();
    let mut options = ConvertOptions::new(golden_folder("sharded"), out.path());
    options.label = Some("allenai/OLMo-2-0425-1B".into());
    options.revision = Some("stage1-step140000-tokens294B".into());
    options.dtype = Some(StoredDtype::F32);
    convert(&options, &mut ()).expect("a conversion");
    let receipt = Receipt::read(out.path()).unwrap().expect("a receipt");
    assert_eq!(receipt.source.label, "allenai/OLMo-2-0425-1B");
    assert_eq!(
        receipt.source.revision.as_deref(),
        Some("stage1-step140000-tokens294B")
    );
    assert_eq!(receipt.source.files.len(), 5);
    assert_eq!(receipt.dtype, Some(StoredDtype::F32));
    assert_eq!(receipt.parts.len(), 5, "the head and four layers");
    let last = &receipt.parts[4];
    assert_eq!(last.file, "layer-003.bpk");
    let bytes = fs::read(out.path().join(&last.file)).unwrap();
    assert_eq!(last.size, bytes.len() as u64);
    assert_eq!(last.blake3, blake3::hash(&bytes).to_hex().as_str());
    let q = &last.tensors[0];
    assert_eq!(q.name, "model.layers.3.self_attn.q_proj.weight");
    assert_eq!(q.dtype, StoredDtype::F32.into());
    assert_eq!(q.source_dtype, StoredDtype::Bf16);
    assert_eq!(q.source_file, "model-00004-of-00005.safetensors");
}

#[test]
fn every_type_converts_to_every_type() {
    let mut source = Checkpoint::smallest();
    let values = [1.0 + 2.0_f32.powi(-8), -65504.0, 2.0_f32.powi(-24), 0.1];
    source.tensor("model.norm.weight").bytes =
        values.iter().flat_map(|x| x.to_le_bytes()).collect();
    source.write();
    let f32_bytes = |values: [f32; 4]| values.iter().flat_map(|x| x.to_le_bytes()).collect();
    for (dtype, stored, widened) in [
        (StoredDtype::F32, f32_bytes(values), values),
        (
            StoredDtype::Bf16,
            values
                .iter()
                .flat_map(|x| bf16::from_f32(*x).to_le_bytes())
                .collect::<Vec<u8>>(),
            values.map(|x| bf16::from_f32(x).to_f32()),
        ),
        (
            StoredDtype::F16,
            values
                .iter()
                .flat_map(|x| f16::from_f32(*x).to_le_bytes())
                .collect(),
            values.map(|x| f16::from_f32(x).to_f32()),
        ),
    ] {
        let (narrow, wide) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut options = ConvertOptions::new(source.path(), narrow.path());
        options.dtype = Some(dtype);
        convert(&options, &mut ()).expect("a conversion");
        let found = weights(narrow.path());
        assert_eq!(found.float("model.norm.weight").unwrap().bytes, stored);
        assert!(found.iter().all(|(_, t)| t.format() == dtype.into()));

        let mut options = ConvertOptions::new(narrow.path(), wide.path());
        options.dtype = Some(StoredDtype::F32);
        convert(&options, &mut ()).expect("a record converts like a checkpoint");
        let found = weights(wide.path());
        let norm = &found.float("model.norm.weight").unwrap().bytes;
        assert_eq!(*norm, f32_bytes(widened), "{dtype:?} and back");
    }
}

#[test]
fn numbers_beyond_f16_are_an_error_that_names_the_tensor() {
    let mut source = Checkpoint::smallest();
    // More than one chunk of a megabyte, so that the element is counted across chunks.
    source.config["vocab_size"] = 100_000.into();
    let elements = 400_000;
    for name in ["model.embed_tokens.weight", "lm_head.weight"] {
        *source.tensor(name) = RawTensor::f32(name, &[elements / 4, 4], &vec![0.5; elements]);
    }
    source.tensor("lm_head.weight").bytes[4 * 300_001..][..4]
        .copy_from_slice(&(-70000.0_f32).to_le_bytes());
    source.write();
    let out = tempfile::tempdir().unwrap();
    let mut options = ConvertOptions::new(source.path(), out.path());
    options.dtype = Some(StoredDtype::F16);
    let error = convert(&options, &mut ()).expect_err("too large");
    assert_eq!(
        source.plain(&error),
        "`model.safetensors`: tensor `lm_head.weight`: expected values within the range of f16, \
         found -70000 at element 300001"
    );
    let left = files(out.path());
    assert!(left.iter().all(|(name, _)| name == "config.json"));
    let infinite = f32::INFINITY.to_le_bytes();
    source.tensor("lm_head.weight").bytes[4 * 300_001..][..4].copy_from_slice(&infinite);
    source.write();
    let again = tempfile::tempdir().unwrap();
    options.out = again.path().into();
    convert(&options, &mut ()).expect("what was infinite before is no overflow");
}

/// Ends a conversion at the n-th event that `counts`.
struct StopAt<F>(usize, F);

impl<F: Fn(&ConvertEvent<'_>) -> bool> ConvertProgress for StopAt<F> {
    fn event(&mut self, event: ConvertEvent<'_>) -> ControlFlow<()> {
        if (self.1)(&event) {
            if self.0 == 0 {
                return ControlFlow::Break(());
            }
            self.0 -= 1;
        }
        ControlFlow::Continue(())
    }
}

#[test]
fn a_conversion_goes_on_where_it_stopped_and_ends_with_the_same_bytes() {
    let source = golden_folder("sharded");
    let whole = tempfile::tempdir().unwrap();
    to_record(&source, whole.path());
    let stopped = |out: &Path, at: usize, counts: fn(&ConvertEvent<'_>) -> bool| {
        let options = ConvertOptions::new(&source, out);
        let error = convert(&options, &mut StopAt(at, counts)).expect_err("it was ended");
        assert!(matches!(error, ConvertError::Record(RecordError::Stopped)));
        let config = Olmo2Config::from_folder(&source).unwrap();
        olmo2::format::open(out, &config).map(|_| ()).unwrap_err()
    };
    for done in 1..5 {
        let out = tempfile::tempdir().unwrap();
        let error = stopped(out.path(), done - 1, |event| {
            matches!(event, ConvertEvent::Finished { .. })
        });
        let message = error.to_string();
        let expected = format!("unfinished record: expected 5 parts, found {done}; `layer-00");
        assert!(message.contains(&expected), "{message}");
        // What a kill in the middle of the next part leaves.
        for left in ["layer-003.bpk", "config.json", RECEIPT] {
            fs::write(out.path().join(format!("{left}.unfinished")), b"half").unwrap();
        }
        let report = to_record(&source, out.path());
        assert_eq!((report.parts.kept, report.parts.written), (done, 5 - done));
        assert!(files(out.path()) == files(whole.path()), "after {done}");
        let again = to_record(&source, out.path());
        assert_eq!((again.parts.kept, again.parts.written), (5, 0));
    }
    for event in [0, 1, 20, 46] {
        let out = tempfile::tempdir().unwrap();
        stopped(out.path(), event, |event| {
            matches!(event, ConvertEvent::Written { .. })
        });
        to_record(&source, out.path());
        assert!(files(out.path()) == files(whole.path()), "within {event}");
    }
}

#[test]
fn no_part_stands_under_its_name_before_it_is_complete() {
    struct Watch<'a>(&'a Path, usize);
    impl ConvertProgress for Watch<'_> {
        fn event(&mut self, event: ConvertEvent<'_>) -> ControlFlow<()> {
            let standing = |end: &str| {
                let entries = fs::read_dir(self.0).expect("a folder");
                let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
                names.filter(|name| name.ends_with(end)).count()
            };
            match event {
                ConvertEvent::Written { .. } => {
                    assert_eq!(standing(".bpk"), self.1);
                    assert_eq!(standing(".bpk.unfinished"), 1);
                }
                ConvertEvent::Finished { part } => {
                    self.1 += 1;
                    assert_eq!(standing(".bpk"), self.1);
                    let receipt = Receipt::read(self.0).unwrap().expect("a receipt");
                    assert_eq!(receipt.parts.last(), Some(part));
                }
                _ => {}
            }
            ControlFlow::Continue(())
        }
    }
    let out = tempfile::tempdir().unwrap();
    let options = ConvertOptions::new(golden_folder("gqa-tiny"), out.path());
    convert(&options, &mut Watch(out.path(), 0)).expect("a conversion");
}

#[test]
fn a_damaged_part_is_written_again_and_the_others_are_kept() {
    let source = golden_folder("gqa-tiny");
    let (whole, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    to_record(&source, whole.path());
    to_record(&source, out.path());
    let path = out.path().join("layer-001.bpk");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    fs::remove_file(out.path().join("layer-003.bpk")).unwrap();
    let report = to_record(&source, out.path());
    assert_eq!((report.parts.kept, report.parts.written), (3, 2));
    assert!(files(out.path()) == files(whole.path()));
}

#[test]
fn a_record_of_something_else_is_not_written_over() {
    let source = Checkpoint::smallest();
    source.write();
    let out = tempfile::tempdir().unwrap();
    to_record(source.path(), out.path());
    let before = (
        files(out.path()),
        fs::read(out.path().join(RECEIPT)).unwrap(),
    );
    let mut options = ConvertOptions::new(golden_folder("gqa-tiny"), out.path());
    let error = convert(&options, &mut ()).expect_err("another source");
    assert!(error.to_string().contains("holds another record: source"));
    options.source = source.path().into();
    options.dtype = Some(StoredDtype::F16);
    let error = convert(&options, &mut ()).expect_err("another type");
    let message = error.to_string();
    assert!(
        message.ends_with("dtype: expected f16, found the source's"),
        "{message}"
    );
    // The same shapes and sizes, written later.
    std::thread::sleep(std::time::Duration::from_millis(20));
    source.write();
    options.dtype = None;
    let error = convert(&options, &mut ()).expect_err("the source has changed");
    assert!(error.to_string().contains("time of change"), "{error}");
    let after = (
        files(out.path()),
        fs::read(out.path().join(RECEIPT)).unwrap(),
    );
    assert!(before == after);
}

#[test]
fn the_folder_of_a_record_is_new_empty_or_a_record() {
    let source = Checkpoint::smallest();
    source.write();
    let refusal = |out: &Path| {
        let error =
            convert(&ConvertOptions::new(source.path(), out), &mut ()).expect_err("refused");
        assert!(error.hint().is_some(), "{error}");
        error
    };
    let error = refusal(source.path());
    assert!(matches!(error, ConvertError::OutIsSource { .. }), "{error}");

    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("thesis.tex"), b"").unwrap();
    let error = refusal(other.path());
    let message = error.to_string();
    let expected = "is not empty: expected an empty folder or a record, found `thesis.tex`";
    assert!(message.ends_with(expected), "{message}");

    let nested = other.path().join("new/folder");
    to_record(source.path(), &nested);

    let file = other.path().join("thesis.tex");
    let error = convert(&ConvertOptions::new(source.path(), &file), &mut ()).expect_err("a file");
    let expected = format!("cannot write `{}`", file.display());
    assert!(error.to_string().starts_with(&expected), "{error}");
}

#[cfg(unix)]
#[test]
fn a_link_to_the_source_is_the_source() {
    let source = Checkpoint::smallest();
    source.write();
    let other = tempfile::tempdir().unwrap();
    let link = other.path().join("link");
    std::os::unix::fs::symlink(source.path(), &link).unwrap();
    let error = convert(&ConvertOptions::new(source.path(), &link), &mut ()).expect_err("refused");
    assert!(matches!(error, ConvertError::OutIsSource { .. }), "{error}");
}

#[cfg(unix)]
#[test]
fn two_conversions_into_one_folder_do_not_mix() {
    struct Second<'a>(&'a ConvertOptions, usize);
    impl ConvertProgress for Second<'_> {
        fn event(&mut self, _: ConvertEvent<'_>) -> ControlFlow<()> {
            let error = convert(self.0, &mut ()).expect_err("the first is at work");
            let busy = matches!(error, ConvertError::Record(RecordError::Busy { .. }));
            assert!(busy, "{error}");
            self.1 += 1;
            ControlFlow::Continue(())
        }
    }
    let source = Checkpoint::smallest();
    source.write();
    let out = tempfile::tempdir().unwrap();
    let options = ConvertOptions::new(source.path(), out.path());
    let mut second = Second(&options, 0);
    convert(&options, &mut second).expect("the first conversion");
    assert!(second.1 > 2);
}
