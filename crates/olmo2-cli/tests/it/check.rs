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
    let ran = run(&["check", "--model", path]).ok();
    let expected = format!("`{path}`: 5 parts of ");
    assert!(ran.stdout.starts_with(&expected), "{ran:?}");
    assert_eq!(ran.stderr, "");

    let part = out.join("layer-001.bpk");
    let mut bytes = fs::read(&part).expect("a part");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&part, bytes).expect("written");
    let ran = run(&["check", "--model", path]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(
        ran.stderr.contains("layer-001.bpk") && ran.stderr.contains("BLAKE3"),
        "{ran:?}"
    );
}

#[test]
fn a_checkpoint_is_no_record_and_no_folder_is_said() {
    let ran = run(&["check", "--model", &golden("gqa-tiny")]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("is not a record") && ran.stderr.contains("\nhint: "),
        "{ran:?}"
    );
    let ran = run(&["check", "--model", "/no/such"]);
    assert_eq!(ran.code, 1);
    let right = "error: there is no folder `/no/such`\nhint: ";
    assert!(ran.stderr.starts_with(right), "{ran:?}");
}

#[test]
fn the_old_name_says_the_new_one_whatever_stands_behind_it() {
    for args in [&["verify"][..], &["verify", "--model", "x", "-q"]] {
        let ran = run(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
        let expected = "error: `verify` is now called `check`\nhint: `olmo2-cli check --model DIR`";
        assert!(ran.stderr.starts_with(expected), "{ran:?}");
    }
}
