//! `tokenize`: there and back.

use crate::fixture::Model;
use crate::program::{run, run_with_input};

#[test]
fn text_becomes_ids_and_ids_become_the_text() {
    let model = Model::new();
    let text = "Größe 👩\n\tend ";
    let ids = run(&["tokenize", text, "--model", model.path()])
        .ok()
        .stdout;
    let bytes: Vec<String> = text.bytes().map(|byte| byte.to_string()).collect();
    assert_eq!(ids, bytes.join(",") + "\n");
    let args = [
        "tokenize",
        "--decode",
        ids.trim_end(),
        "--model",
        model.path(),
    ];
    assert_eq!(run(&args).ok().stdout, text);
    let file = ["tokenize", "--file", "-", "--model", model.path()];
    assert_eq!(run_with_input(&file, text).ok().stdout, ids);
}

#[test]
fn the_json_object_has_each_token() {
    let model = Model::new();
    let args = [
        "tokenize",
        "Hi<|endoftext|>",
        "--model",
        model.path(),
        "--json",
    ];
    let json = run(&args).ok().json();
    let expected = serde_json::json!({
        "token_ids": [72, 105, 510],
        "tokens": ["H", "i", "<|endoftext|>"],
        "text": "Hi<|endoftext|>",
    });
    assert_eq!(json, expected);
}
