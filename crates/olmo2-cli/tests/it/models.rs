//! `models`: the hub's cache, without the hub.

use std::fs;
use std::path::Path;

use crate::fixture::golden;
use crate::program::{Run, command, run};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A cache with one model, as Python's client leaves it, its files in the snapshot.
fn cache(folder: &Path) {
    let model = folder.join("models--org--tiny");
    let snapshot = model.join("snapshots").join(COMMIT);
    fs::create_dir_all(&snapshot).expect("created");
    fs::create_dir_all(model.join("refs")).expect("created");
    fs::write(model.join("refs/main"), COMMIT).expect("written");
    fs::write(snapshot.join("config.json"), "{}").expect("written");
}

#[track_caller]
fn run_in(cache: &Path, args: &[&str]) -> Run {
    let output = command(args).env("HF_HUB_CACHE", cache).output();
    Run::of(output.expect("the program starts"))
}

#[test]
fn models_are_listed_and_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    cache(folder.path());
    let ran = run_in(folder.path(), &["models", "list"]).ok().stdout;
    assert_eq!(
        ran,
        "org/tiny  42 B\n  0123456789ab  2 B  main  incomplete\n"
    );
    let json = run_in(folder.path(), &["models", "list", "--json"])
        .ok()
        .json();
    assert_eq!(json[0]["id"], "org/tiny");
    assert_eq!(json[0]["revisions"][0]["refs"][0], "main");
    let ran = run_in(folder.path(), &["models", "remove", "org/tiny"])
        .ok()
        .stdout;
    assert_eq!(ran, "removed `org/tiny`: 42 B freed\n");
    let ran = run_in(folder.path(), &["models", "list"]).ok().stdout;
    assert!(ran.starts_with("no models in `"), "{ran}");
    let ran = run_in(folder.path(), &["models", "remove", "org/tiny"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("hint: `olmo2-cli models list`"),
        "{ran:?}"
    );
}

#[test]
fn a_model_in_the_cache_runs_offline_and_a_revision_that_is_not_there_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    cache(folder.path());
    let snapshots = folder.path().join("models--org--tiny/snapshots");
    for file in ["config.json", "model.safetensors"] {
        let to = snapshots.join(COMMIT).join(file);
        fs::copy(Path::new(&golden("gqa-tiny")).join(file), to).expect("copied");
    }
    let args = ["generate", "--ids", "1,2,3", "-n", "4", "--model"];
    let expected = run(&[&args[..], &[&golden("gqa-tiny")]].concat())
        .ok()
        .stdout;
    for revision in ["main", COMMIT] {
        let more = ["org/tiny", "--revision", revision];
        let ran = run_in(folder.path(), &[&args[..], &more].concat()).ok();
        assert_eq!(ran.stdout, expected);
    }
    let more = ["org/tiny", "--revision", "stage1-step0-tokens0B"];
    let ran = run_in(folder.path(), &[&args[..], &more].concat());
    assert_eq!(ran.code, 1);
    let expected = "`org/tiny` at revision `stage1-step0-tokens0B` is not in the cache";
    assert!(ran.stderr.contains(expected), "{ran:?}");
}

#[test]
fn revisions_are_not_asked_for_offline() {
    let ran = run(&["models", "revisions", "allenai/OLMo-2-0425-1B"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("offline mode is on"), "{ran:?}");
}
