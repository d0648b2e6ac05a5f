//! `--quantize`: the same answer as from a record, and what a record that is quantized allows.

use std::path::Path;

use olmo2::convert::{ConvertOptions, convert};
use olmo2::{QuantFormat, Quantize};
use tempfile::TempDir;

use crate::bench::bench_once;
use crate::fixture::golden;
use crate::program::run;

fn record(format: QuantFormat) -> TempDir {
    let out = tempfile::tempdir().expect("a folder");
    let mut options = ConvertOptions::new(golden("gqa-tiny"), out.path());
    options.quantize = Quantize::all(format);
    convert(&options, &mut ()).expect("a conversion");
    out
}

/// Logits of three ids, as the file holds them.
fn logits(folder: &Path, flags: &[&str]) -> Vec<u8> {
    let out = tempfile::tempdir().expect("a folder");
    let file = out.path().join("logits.safetensors");
    let (file, folder) = (file.to_str().expect("UTF-8"), folder.to_str());
    let args = ["logits", "--ids", "1,2,3", "-o", file, "--model"];
    run(&[&args[..], &[folder.expect("UTF-8")], flags].concat()).ok();
    std::fs::read(file).expect("a file")
}

#[test]
fn a_record_answers_as_quantizing_at_load() {
    let source = golden("gqa-tiny");
    let floats = logits(source.as_ref(), &[]);
    for (format, name) in [(QuantFormat::Q8, "q8"), (QuantFormat::Q4, "q4")] {
        let record = record(format);
        let made = logits(source.as_ref(), &["--quantize", name]);
        assert!(made == logits(record.path(), &[]), "{name}");
        assert!(
            made == logits(record.path(), &["--quantize", name]),
            "{name}"
        );
        assert!(made != floats, "{name}");
        let mixed = ["--quantize", name, "--quantize-head", "none"];
        assert!(made != logits(source.as_ref(), &mixed), "{name}");
    }
}

#[test]
fn another_format_than_the_records_is_an_error_with_a_hint() {
    let record = record(QuantFormat::Q8);
    let model = record.path().to_str().expect("UTF-8");
    for (flags, expected) in [
        (["--quantize", "q4"], "expected floats or q4, found q8"),
        (["--quantize-head", "q8"], "expected floats, found q8"),
    ] {
        let args = ["generate", "--ids", "1", "--model", model];
        let ran = run(&[&args[..], &flags].concat());
        assert_eq!(ran.code, 1);
        let lines: Vec<&str> = ran.stderr.lines().collect();
        assert!(lines[0].ends_with(expected), "{ran:?}");
        assert!(lines[1].starts_with("hint: the weights are quantized already"));
    }
}

#[test]
fn verbose_tells_formats_and_the_memory_check_counts_them() {
    let model = golden("gqa-tiny");
    let args = ["generate", "--ids", "1", "-n", "1", "-v", "--model", &model];
    let ran = run(&[&args[..], &["--quantize", "q4", "--quantize-head", "q8"]].concat()).ok();
    let has = |text: &str| assert!(ran.stderr.contains(text), "{text}: {}", ran.stderr);
    has("weights as they are stored: bf16 ");
    has("quantized to: q4, head q8, embedding q4");
    // 442,368 weights in 4.5 bits, the head's 49,152 in 8.5, 29 tops of 4 bytes, 1,376 gains in bf16.
    has(": 304 kB for weights");
    let json = bench_once(&model, "0", "1", &["--quantize", "q8"]);
    let norms = 4 * (3 * 96 + 32) + 96;
    let matrices = 4 * (2 * 96 * 96 + 2 * 32 * 96 + 3 * 256 * 96) + 512 * 96;
    assert_eq!(
        json["weight_bytes_per_token"],
        matrices / 32 * 34 + 4 * norms
    );
}

#[test]
fn accuracy_refuses_a_quantized_record() {
    let record = record(QuantFormat::Q8);
    let model = record.path().to_str().expect("UTF-8");
    let ran = run(&["accuracy", "--model", model]);
    let expected = format!(
        "error: `{model}` is quantized, and `accuracy` compares formats with floats\n\
         hint: give the checkpoint, or a record without `--quantize`\n"
    );
    assert_eq!((ran.code, ran.stderr), (1, expected));
    assert_eq!(ran.stdout, "");
}
