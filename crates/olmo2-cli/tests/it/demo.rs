//! Without `--model`: the embedded model answers, with no file and no network.

use crate::program::{run, run_with_input};

#[test]
fn the_embedded_model_continues_a_text() {
    let args = ["generate", "Once upon a time", "-n", "24"];
    let ran = run(&args).ok();
    assert_eq!(ran.stderr, "");
    let words = ran.stdout.split_whitespace().count();
    assert!(words >= 8, "{ran:?}");
    let again = run(&[&args[..], &["--json"]].concat()).ok().json();
    assert_eq!(again["text"], ran.stdout);
}

#[test]
fn the_embedded_model_chats() {
    let ran = run_with_input(&["chat", "-n", "20"], "Tell me a story about a fox\n").ok();
    assert_eq!(ran.stderr, "", "it has a chat template");
    assert!(ran.stdout.split_whitespace().count() >= 5, "{ran:?}");
}

#[test]
fn its_tokenizer_goes_there_and_back() {
    let text = "The little dog isn't here.\n";
    let ids = run(&["tokenize", text]).ok().stdout;
    let back = run(&["tokenize", "--decode", ids.trim_end()]).ok();
    assert_eq!(back.stdout, text);
}

#[test]
fn a_text_of_its_kind_is_less_surprising_than_another() {
    let nats = |text: &str| {
        let json = run_with_input(&["perplexity", "-", "--json"], text)
            .ok()
            .json();
        json["nats_per_token"].as_f64().expect("a number")
    };
    let story = nats("Once upon a time there was a little dog.");
    let noise = nats("Qx9 zv7 Kwj !! pq3 zzt mnb vcx lkj");
    assert!(story + 1.0 < noise, "{story} and {noise}");
}
