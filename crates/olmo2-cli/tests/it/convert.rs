//! `convert`: a record that answers as its source, what it says, and what it refuses.

use std::fs;
use std::path::Path;

use crate::fixture::{Model, golden};
use crate::program::run;

/// What a model says after three ids.
fn answer(model: &str) -> String {
    let args = ["generate", "--ids", "1,2,3", "-n", "4", "--model", model];
    run(&args).ok().stdout
}

#[test]
fn a_record_answers_as_its_source_and_a_second_run_keeps_it() {
    let source = golden("gqa-tiny");
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("record");
    let out = out.to_str().expect("UTF-8");
    let ran = run(&["convert", &source, "-o", out]).ok();
    assert_eq!(ran.stdout, "");
    let expected = format!("`{out}`: 5 parts, ");
    assert!(ran.stderr.starts_with(&expected), "{ran:?}");
    assert_eq!(answer(out), answer(&source));

    let ran = run(&["convert", &source, "-o", out]).ok();
    assert!(ran.stderr.contains("5 of them from an earlier run"));
    let ran = run(&["convert", &source, "--out", out, "--quiet"]).ok();
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
}

#[test]
fn types_and_formats_are_those_that_were_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = Model::new();
    for (name, flags, stored) in [
        ("f32", &["--dtype", "f32"][..], "f32 "),
        ("q8", &["--quantize", "q8"], "q8 "),
        ("q4", &["--quantize", "q4", "--quantize-head", "q8"], "q4 "),
    ] {
        let out = folder.path().join(name);
        let out = out.to_str().expect("UTF-8");
        run(&[&["convert", model.path(), "-o", out][..], flags].concat()).ok();
        let ran = run(&["generate", "Hi", "-n", "1", "-v", "--model", out]).ok();
        let line = ran.stderr.lines().find(|line| line.contains("as they are"));
        assert!(line.expect("a line").contains(stored), "{ran:?}");
    }
}

#[test]
fn errors_have_the_form_of_all_others() {
    let source = golden("gqa-tiny");
    let folder = tempfile::tempdir().expect("a folder");
    let full = folder.path().join("full");
    fs::create_dir(&full).expect("created");
    fs::write(full.join("notes.txt"), "").expect("written");
    let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let (full, free) = (path(&full), path(&folder.path().join("free")));
    for (args, code, error) in [
        (&["/no/such", "-o", &free][..], 1, "there is no folder"),
        (&[&source, "-o", &full], 1, "is not empty"),
        (&[&source], 2, "--out <DIR>"),
        (&[&source, "-o", &free, "--dtype", "q8"], 2, "invalid value"),
        (
            &[&source, "-o", &free, "--revision", "main"],
            2,
            "a revision",
        ),
        (&["org/model", "-o", &free], 1, "offline mode is on"),
    ] {
        let ran = run(&[&["convert"][..], args].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{ran:?}");
        let lines: Vec<&str> = ran.stderr.lines().collect();
        assert!(lines[0].starts_with("error: ") && lines[0].contains(error));
        assert!(
            lines.len() == 2 && lines[1].starts_with("hint: "),
            "{ran:?}"
        );
        assert!(!Path::new(&free).exists());
    }
}
