//! `check`: a record that is whole, one with a flipped bit, and a folder that is no record.

use std::fs;

use crate::fixture::golden;
use crate::program::run;

#[test]
fn a_flipped_bit_is_found_and_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("record");
    let path = out.to_str().expect("UTF-8");
    run(&["convert", &golden("gqa-tiny"), "-o", path]).ok();
    let told = run(&["check", "--model", path]).ok();
    let expected = format!("`{path}`: 5 parts of ");
    assert!(told.stdout.starts_with(&expected), "{told:?}");
    assert_eq!(told.stderr, "");

    let part = out.join("layer-001.bpk");
    let mut bytes = fs::read(&part).expect("a part");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&part, bytes).expect("written");
    let told = run(&["check", "--model", path]);
    assert_eq!((told.code, told.stdout.as_str()), (1, ""));
    assert!(
        told.stderr.contains("layer-001.bpk") && told.stderr.contains("BLAKE3"),
        "{told:?}"
    );
}

#[test]
fn a_checkpoint_is_no_record_and_no_folder_is_said() {
    let told = run(&["check", "--model", &golden("gqa-tiny")]);
    assert_eq!(told.code, 1);
    assert!(
        told.stderr.contains("is not a record") && told.stderr.contains("\nhint: "),
        "{told:?}"
    );
    let told = run(&["check", "--model", "/no/such"]);
    assert_eq!(told.code, 1);
    let right = "error: there is no folder `/no/such`\nhint: ";
    assert!(told.stderr.starts_with(right), "{told:?}");
}

#[test]
fn the_old_name_says_the_new_one_whatever_stands_behind_it() {
    for args in [&["verify"][..], &["verify", "--model", "x", "-q"]] {
        let told = run(args);
        assert_eq!((told.code, told.stdout.as_str()), (2, ""));
        let expected = "error: `verify` is now called `check`\nhint: `olmo2-cli check --model DIR`";
        assert!(told.stderr.starts_with(expected), "{told:?}");
    }
}
