//! `logits`: the golden's logits and hidden states, whole files or none.

use std::fs;

use safetensors::SafeTensors;

use crate::fixture::{expected, floats, golden, list};
use crate::program::run;

/// The largest difference.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let pairs = a.iter().zip(b);
    pairs.fold(0.0, |max, (a, b)| max.max((a - b).abs()))
}

#[test]
fn logits_and_hidden_states_are_those_of_the_golden() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out.safetensors");
    let path = out.to_str().expect("UTF-8");
    for name in ["gqa-tiny", "mqa-tied", "rope-dynamic"] {
        for k in 0..3 {
            let expected = expected(name, k);
            let (model, ids) = (golden(name), list(&expected.ids));
            let args = [
                "logits", "--ids", &ids, "--model", &model, "--out", path, "--hidden",
            ];
            assert_eq!(run(&args).ok().stdout, "");
            let bytes = fs::read(&out).expect("written");
            let file = SafeTensors::deserialize(&bytes).expect("safetensors");
            let seq = expected.ids.len();
            let vocab = expected.logits.len() / seq;
            assert_eq!(file.tensor("logits").expect("there").shape(), [seq, vocab]);
            let shape = file.tensor("hidden").expect("there").shape().to_vec();
            assert_eq!(
                (shape[1], shape.iter().product()),
                (seq, expected.hidden.len())
            );
            let logits = difference(&floats(&file, "logits"), &expected.logits);
            let hidden = difference(&floats(&file, "hidden"), &expected.hidden);
            assert!(logits < 1e-4, "{name}, prompt {k}: {logits}");
            assert!(hidden < 1e-4, "{name}, prompt {k}: {hidden}");
        }
    }
    assert_eq!(
        fs::read_dir(folder.path()).expect("listed").count(),
        1,
        "no parts are left"
    );
}

#[test]
fn a_long_input_goes_through_in_pieces_without_a_seam() {
    // 600 tokens are two passes; their first 33 are those of the golden.
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("long.safetensors");
    let expected = expected("gqa-tiny", 2);
    let mut ids = expected.ids.clone();
    ids.extend((0..567).map(|i| (i * 7919) % 510));
    let (model, ids) = (golden("gqa-tiny"), list(&ids));
    let path = out.to_str().expect("UTF-8");
    run(&["logits", "--ids", &ids, "--model", &model, "-o", path]).ok();
    let bytes = fs::read(&out).expect("written");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    assert!(file.tensor("hidden").is_err(), "not asked for");
    let logits = floats(&file, "logits");
    assert_eq!(logits.len(), 600 * 512);
    assert!(difference(&logits[..expected.logits.len()], &expected.logits) < 1e-4);
    assert!(logits.iter().all(|value| value.is_finite()));
}

#[test]
fn an_output_that_cannot_be_written_is_named_and_leaves_nothing() {
    let model = golden("gqa-tiny");
    let ran = run(&[
        "logits",
        "--ids",
        "1",
        "--model",
        &model,
        "--out",
        "/no/such/f",
    ]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr
            .starts_with("error: cannot write `/no/such/f`: No such file"),
        "{ran:?}"
    );
    assert!(ran.stderr.trim_end().ends_with("(os error 2)"), "{ran:?}");
}

#[test]
fn more_tokens_than_positions_are_refused_with_both_numbers() {
    let model = golden("gqa-tiny");
    let args = [
        "logits",
        "--ids",
        "1,2,3",
        "--model",
        &model,
        "--out",
        "x",
        "--context",
        "2",
    ];
    let ran = run(&args);
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("3 tokens do not fit 2 positions"),
        "{ran:?}"
    );
}

#[test]
#[cfg(unix)]
fn the_file_has_the_permissions_of_any_new_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let (out, other) = (folder.path().join("out"), folder.path().join("other"));
    fs::write(&other, "").expect("written");
    let (model, path) = (golden("gqa-tiny"), out.to_str().expect("UTF-8"));
    run(&["logits", "--ids", "1", "--model", &model, "--out", path]).ok();
    let mode = |path| fs::metadata(path).expect("there").permissions().mode();
    assert_eq!(mode(&out), mode(&other));
}

#[test]
#[cfg(unix)]
fn a_link_stays_a_link_and_a_device_a_device() {
    let folder = tempfile::tempdir().expect("a folder");
    let (target, link) = (folder.path().join("target"), folder.path().join("link"));
    fs::write(&target, "old").expect("written");
    std::os::unix::fs::symlink(&target, &link).expect("a link");
    let model = golden("gqa-tiny");
    let to = |out: &str| run(&["logits", "--ids", "1", "--model", &model, "--out", out]);
    to(link.to_str().expect("UTF-8")).ok();
    assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
    assert_ne!(fs::read(&target).expect("there"), b"old");
    fs::remove_file(&target).expect("removed");
    for out in ["/dev/null", "-", link.to_str().expect("UTF-8")] {
        let ran = to(out);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.stderr.contains("\nhint: name a file"), "{ran:?}");
    }
}
