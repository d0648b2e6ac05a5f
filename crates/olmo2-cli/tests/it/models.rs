//! `models`: the hub's cache, without the hub.

use std::fs;
use std::path::Path;

use crate::program::{Run, command, run};

/// A cache with one model, as Python's client leaves it, its files in the snapshot.
fn cache(folder: &Path) {
    let model = folder.join("models--org--tiny");
    let snapshot = model
        .join("snapshots")
        .join("0123456789abcdef0123456789abcdef01234567");
    fs::create_dir_all(&snapshot).expect("created");
    fs::create_dir_all(model.join("refs")).expect("created");
    fs::write(
        model.join("refs/main"),
        "0123456789abcdef0123456789abcdef01234567",
    )
    .expect("written");
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
    let told = run_in(folder.path(), &["models", "list"]).ok().stdout;
    assert_eq!(
        told,
        "org/tiny  2 B\n  0123456789ab  2 B  main  incomplete\n"
    );
    let json = run_in(folder.path(), &["models", "list", "--json"])
        .ok()
        .json();
    assert_eq!(json[0]["id"], "org/tiny");
    assert_eq!(json[0]["revisions"][0]["refs"][0], "main");
    let told = run_in(folder.path(), &["models", "remove", "org/tiny"])
        .ok()
        .stdout;
    assert_eq!(told, "removed `org/tiny`: 2 B freed\n");
    let told = run_in(folder.path(), &["models", "list"]).ok().stdout;
    assert!(told.starts_with("no models in `"), "{told}");
    let told = run_in(folder.path(), &["models", "remove", "org/tiny"]);
    assert_eq!(told.code, 1);
    assert!(
        told.stderr.contains("hint: `olmo2-cli models list`"),
        "{told:?}"
    );
}

#[test]
fn revisions_are_not_asked_for_offline() {
    let told = run(&["models", "revisions", "allenai/OLMo-2-0425-1B"]);
    assert_eq!(told.code, 1);
    assert!(told.stderr.contains("offline mode is on"), "{told:?}");
}
