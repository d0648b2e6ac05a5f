//! `verify`: a record that is whole, one with a flipped bit, and a folder that is no record.

use std::fs;

use olmo2::convert::{ConvertOptions, convert};

use crate::fixture::golden;
use crate::program::run;

#[test]
fn a_flipped_bit_is_found_and_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("record");
    convert(&ConvertOptions::new(golden("gqa-tiny"), &out), &mut ()).expect("converted");
    let path = out.to_str().expect("UTF-8");
    let told = run(&["verify", "--model", path]).ok();
    let expected = format!("`{path}`: 5 parts of ");
    assert!(told.stdout.starts_with(&expected), "{told:?}");
    assert_eq!(told.stderr, "");

    let part = out.join("layer-001.bpk");
    let mut bytes = fs::read(&part).expect("a part");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&part, bytes).expect("written");
    let told = run(&["verify", "--model", path]);
    assert_eq!((told.code, told.stdout.as_str()), (1, ""));
    assert!(
        told.stderr.contains("layer-001.bpk") && told.stderr.contains("BLAKE3"),
        "{told:?}"
    );
}

#[test]
fn a_checkpoint_is_no_record_and_no_folder_is_said() {
    let told = run(&["verify", "--model", &golden("gqa-tiny")]);
    assert_eq!(told.code, 1);
    assert!(
        told.stderr.contains("is no record") && told.stderr.contains("\nhint: "),
        "{told:?}"
    );
    let told = run(&["verify", "--model", "/no/such"]);
    assert_eq!(told.code, 1);
    let right = "error: there is no folder `/no/such`\nhint: ";
    assert!(told.stderr.starts_with(right), "{told:?}");
}
