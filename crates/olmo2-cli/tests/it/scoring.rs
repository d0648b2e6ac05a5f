//! `perplexity`: against the library, token by token.

use olmo2::sampling::log_prob;

use crate::fixture::{Model, expected, golden, list};
use crate::program::{run, run_with_input};

#[test]
fn one_window_is_the_mean_of_the_goldens_log_probabilities() {
    let expected = expected("gqa-tiny", 2);
    let rows: Vec<&[f32]> = expected.logits.chunks(512).collect();
    let targets = expected.ids[1..].iter();
    let sum: f64 = targets.zip(&rows).map(|(id, row)| log_prob(row, *id)).sum();
    let mean = -sum / 32.0;
    let (model, ids) = (golden("gqa-tiny"), list(&expected.ids));
    let json = run(&["perplexity", "--ids", &ids, "--model", &model, "--json"])
        .ok()
        .json();
    let nats = json["nats_per_token"].as_f64().expect("a number");
    assert!((nats - mean).abs() < 1e-5, "{nats} and {mean}");
    let perplexity = json["perplexity"].as_f64().expect("a number");
    assert!((perplexity - mean.exp()).abs() < 1e-2, "{perplexity}");
    assert_eq!(json["tokens"], 32);
    assert_eq!(json["text_tokens"], 33);
}

#[test]
fn strided_windows_are_the_mean_of_their_parts() {
    // Windows of 8 every 5 tokens, by hand: 0..8 scores 1..8, 5..13 scores 8..13, 10..16 13..16.
    let ids: Vec<u32> = expected("gqa-tiny", 2).ids[..16].to_vec();
    let model = golden("gqa-tiny");
    let score = |ids: &[u32]| {
        let ids = list(ids);
        let args = ["perplexity", "--ids", &ids, "--model", &model, "--json"];
        let json = run(&args).ok().json();
        let nats = json["nats_per_token"].as_f64().expect("a number");
        nats * json["tokens"].as_f64().expect("a number")
    };
    // The scores of a window's last tokens: all of it, less those of its beginning.
    let expected = score(&ids[0..8])
        + (score(&ids[5..13]) - score(&ids[5..8]))
        + (score(&ids[10..16]) - score(&ids[10..13]));
    let all = list(&ids);
    let args = [
        "perplexity",
        "--ids",
        &all,
        "--model",
        &model,
        "--json",
        "--context",
        "8",
        "--stride",
        "5",
    ];
    let json = run(&args).ok().json();
    assert_eq!(json["tokens"], 15);
    let nats = json["nats_per_token"].as_f64().expect("a number") * 15.0;
    assert!((nats - expected).abs() < 1e-4, "{nats} and {expected}");
}

#[test]
fn a_file_is_scored_as_its_text() {
    let model = Model::new();
    let text = "Once upon a time";
    let args = ["perplexity", "-", "--model", model.path()];
    let ran = run_with_input(&args, text).ok();
    assert!(ran.stdout.contains("tokens scored   15 of 16"), "{ran:?}");
    assert!(ran.stdout.starts_with("perplexity "), "{ran:?}");
    let short = run_with_input(&args, "x");
    assert_eq!(short.code, 1);
    assert!(
        short.stderr.contains("at least 2 tokens, found 1"),
        "{short:?}"
    );
}
