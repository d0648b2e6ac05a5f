//! `generate`: the golden's tokens, text that streams whole, stop strings, defaults.

use olmo2::convert::{ConvertOptions, convert};

use crate::fixture::{Model, expected, golden, list, tokenizer};
use crate::program::{Run, command, run, run_with_input};

/// The ids that a run of `--ids ..` generated.
#[track_caller]
fn generated(model: &str, prompt: &[u32], more: &[&str]) -> Vec<u32> {
    let ids = list(prompt);
    let args = [
        &["generate", "--ids", &ids, "--model", model, "--json"],
        more,
    ]
    .concat();
    let json = run(&args).ok().json();
    let ids = json["token_ids"].as_array().expect("ids").iter();
    ids.map(|id| id.as_u64().expect("an id") as u32).collect()
}

#[test]
fn greedy_tokens_are_those_of_the_golden() {
    for name in [
        "gqa-tiny",
        "mqa-tied",
        "bias-eps",
        "rope-dynamic",
        "rope-yarn",
        "sharded",
    ] {
        let source = if name == "sharded" { "gqa-tiny" } else { name };
        for k in 0..3 {
            let expected = expected(source, k);
            let more = ["--max-new-tokens", "32", "--ignore-eos"];
            let ids = generated(&golden(name), &expected.ids, &more);
            assert_eq!(ids, expected.greedy, "{name}, prompt {k}");
        }
    }
}

#[test]
fn a_record_answers_as_its_source() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("record");
    let options = ConvertOptions::new(golden("gqa-tiny"), &out);
    convert(&options, &mut ()).expect("converted");
    let expected = expected("gqa-tiny", 1);
    let more = ["--max-new-tokens", "32", "--ignore-eos"];
    let ids = generated(out.to_str().expect("UTF-8"), &expected.ids, &more);
    assert_eq!(ids, expected.greedy);
}

#[test]
fn the_json_object_is_as_the_contract_has_it() {
    let model = golden("gqa-tiny");
    let args = [
        "generate", "--ids", "1,2,3", "--model", &model, "--json", "-n", "5",
    ];
    let ran = run(&args).ok();
    assert_eq!(ran.stderr, "");
    assert!(ran.stdout.ends_with("}\n") && ran.stdout.lines().count() == 1);
    let json = ran.json();
    let keys: Vec<&String> = json.as_object().expect("an object").keys().collect();
    let expected = [
        "token_ids",
        "text",
        "finish_reason",
        "seed",
        "prompt_tokens",
        "timings",
    ];
    assert_eq!(keys, expected);
    assert_eq!(json["token_ids"].as_array().expect("ids").len(), 5);
    assert!(json["text"].is_null(), "there is no tokenizer");
    assert_eq!(json["finish_reason"], "length");
    assert_eq!(json["prompt_tokens"], 3);
    for rate in [
        "prefill_tokens_per_second",
        "decode_tokens_per_second",
        "time_to_first_token_ms",
    ] {
        assert!(json["timings"][rate].as_f64().expect(rate) > 0.0);
    }
}

#[test]
fn an_eos_ends_the_text_and_is_left_out() {
    let expected = expected("gqa-tiny", 1);
    // The token that comes third, the first time that it comes, is made the eos.
    let third = expected.greedy[2];
    let before = expected
        .greedy
        .iter()
        .position(|id| *id == third)
        .expect("there");
    let model = Model::new().with(
        "generation_config.json",
        &format!(r#"{{"eos_token_id": [509, {third}], "max_new_tokens": 7}}"#),
    );
    let ids = list(&expected.ids);
    let args = ["generate", "--ids", &ids, "--model", model.path(), "--json"];
    let json = run(&args).ok().json();
    assert_eq!(json["finish_reason"], "stop");
    let generated = json["token_ids"].as_array().expect("ids").len();
    assert_eq!(generated, before);
    let all = generated_len(&model, &ids, &["--ignore-eos"]);
    assert_eq!(all, 7, "generation_config.json's max_new_tokens");
    assert_eq!(generated_len(&model, &ids, &["--ignore-eos", "-n", "4"]), 4);
}

#[track_caller]
fn generated_len(model: &Model, ids: &str, more: &[&str]) -> usize {
    let args = [
        &["generate", "--ids", ids, "--model", model.path(), "--json"],
        more,
    ]
    .concat();
    let json = run(&args).ok().json();
    json["token_ids"].as_array().expect("ids").len()
}

#[test]
fn stdout_is_the_continuation_alone() {
    let model = Model::new();
    let args = ["generate", "Hello", "--model", model.path(), "-n", "12"];
    let plain = run(&args).ok();
    let json = run(&[&args[..], &["--json"]].concat()).ok().json();
    assert_eq!(json["text"], plain.stdout);
    assert_eq!(plain.stderr, "");
    // The same by way of ids, stdin and a file; one line break at the end is not meant.
    let ids = list(&"Hello".bytes().map(u32::from).collect::<Vec<_>>());
    let by_ids = run(&[
        "generate",
        "--ids",
        &ids,
        "--model",
        model.path(),
        "-n",
        "12",
    ]);
    assert_eq!(by_ids.ok().stdout, plain.stdout);
    let stdin = [
        "generate",
        "--prompt-file",
        "-",
        "--model",
        model.path(),
        "-n",
        "12",
    ];
    assert_eq!(run_with_input(&stdin, "Hello\n").ok().stdout, plain.stdout);
    assert_ne!(
        run_with_input(&stdin, "Hello\n\n").ok().stdout,
        plain.stdout
    );
}

#[test]
fn without_a_tokenizer_ids_are_printed() {
    let prompt = expected("gqa-tiny", 1);
    let (model, ids) = (golden("gqa-tiny"), list(&prompt.ids));
    let args = [
        "generate",
        "--ids",
        &ids,
        "--model",
        &model,
        "-n",
        "3",
        "--ignore-eos",
    ];
    assert_eq!(run(&args).ok().stdout, list(&prompt.greedy[..3]) + "\n");
}

#[test]
fn a_stop_string_ends_the_text_and_is_never_printed() {
    let model = Model::new();
    let args = [
        "generate",
        "Hello",
        "--model",
        model.path(),
        "-n",
        "40",
        "--ignore-eos",
    ];
    let whole = run(&args).ok().stdout;
    let chars: Vec<char> = whole.chars().collect();
    let stop: String = chars[9..12].iter().collect();
    let before = &whole[..whole.find(&stop).expect("there")];
    let more = ["--stop", "never there", "--stop", &stop];
    let stopped = run(&[&args[..], &more].concat()).ok().stdout;
    assert_eq!(stopped, before);
    let json = run(&[&args[..], &more, &["--json"]].concat()).ok().json();
    assert_eq!(json["text"], before);
    assert_eq!(json["finish_reason"], "stop");
}

#[test]
fn a_seed_repeats_a_drawn_text_and_is_told() {
    let prompt = [1, 2, 3];
    let model = golden("gqa-tiny");
    let drawn = |more: &[&str]| {
        let more = [&["-n", "24", "--temperature", "3", "--ignore-eos"], more].concat();
        generated(&model, &prompt, &more)
    };
    assert_eq!(drawn(&["--seed", "7"]), drawn(&["--seed", "7"]));
    assert_ne!(drawn(&["--seed", "7"]), drawn(&["--seed", "8"]));
    let args = [
        "generate", "--ids", "1,2,3", "--model", &model, "--json", "-n", "24",
    ];
    let json = run(&[&args[..], &["--temperature", "3", "--ignore-eos"]].concat())
        .ok()
        .json();
    let seed = json["seed"].as_u64().expect("a seed").to_string();
    let again = drawn(&["--seed", &seed]);
    assert_eq!(serde_json::json!(again), json["token_ids"]);
}

#[test]
fn flags_win_over_generation_config_and_verbose_shows_both() {
    let model = Model::new().with(
        "generation_config.json",
        r#"{"do_sample": true, "temperature": 0.5, "top_p": 0.9, "max_new_tokens": 3}"#,
    );
    let args = [
        "generate",
        "Hi",
        "--model",
        model.path(),
        "--verbose",
        "--temperature",
        "0",
    ];
    let ran = run(&args).ok();
    let lines = [
        "generation_config.json: do_sample true, temperature 0.5, top_p 0.9, max_new_tokens 3",
        "sampling: temperature 0, top_k 50, top_p 0.9, min_p 0,",
        "computing in f32 on flex",
    ];
    for line in lines {
        assert!(ran.stderr.contains(line), "{line}\n{ran:?}");
    }
    let greedy = run(&["generate", "Hi", "--model", model.path(), "--top-k", "1"]).ok();
    assert_eq!(greedy.stdout, ran.stdout);
}

#[test]
fn padding_rows_of_the_vocabulary_are_never_drawn() {
    // The tokenizer knows 512 ids; with one that knows 300, no id beyond is drawn.
    let prompt = expected("gqa-tiny", 1);
    let bias = prompt.greedy[0];
    let ids = generated(
        &golden("gqa-tiny"),
        &prompt.ids,
        &[
            "-n",
            "8",
            "--ignore-eos",
            "--logit-bias",
            &format!("{bias}=-100"),
        ],
    );
    assert_ne!(ids[0], bias);
}

#[test]
fn threads_do_not_change_the_answer() {
    let prompt = expected("gqa-tiny", 2);
    let with = |threads| {
        let more = ["-n", "16", "--ignore-eos", "--threads", threads];
        generated(&golden("gqa-tiny"), &prompt.ids, &more)
    };
    assert_eq!(with("1"), with("3"));
}

#[test]
fn a_text_that_ends_with_the_context_says_so() {
    let model = golden("gqa-tiny");
    let args = [
        "generate",
        "--ids",
        "1,2,3",
        "--model",
        &model,
        "--ignore-eos",
    ];
    let ran = run(&[&args[..], &["--context", "9"]].concat()).ok();
    assert_eq!(
        ran.stderr,
        "note: the text ends with the context of 9 positions: `--context` makes room\n"
    );
    // Who asked for a number got it.
    let ran = run(&[&args[..], &["--context", "9", "-n", "6"]].concat()).ok();
    assert_eq!(ran.stderr, "");
}

#[test]
fn ids_may_have_blanks_around_them() {
    let model = golden("gqa-tiny");
    let with = |ids| run(&["generate", "--ids", ids, "--model", &model, "-n", "3"]).ok();
    assert_eq!(with("1, 2 ,3").stdout, with("1,2,3").stdout);
}

#[test]
fn verbose_shows_kernels_and_threads_and_a_seed_only_where_one_was_used() {
    let model = golden("gqa-tiny");
    let args = ["generate", "--ids", "1", "--model", &model, "-n", "1", "-v"];
    let mut program = command(&[&args[..], &["--threads", "1"]].concat());
    let output = program.env("OLMO2_SIMD", "scalar").output();
    let ran = Run::of(output.expect("it runs")).ok().stderr;
    if cfg!(feature = "flex") {
        assert!(ran.contains("on flex, 1 thread, scalar kernels"), "{ran}");
    }
    assert!(ran.contains("1 token (") && !ran.contains("seed"), "{ran}");
    let ran = run(&[&args[..], &["--temperature", "1"]].concat()).ok();
    assert!(ran.stderr.contains("), seed "), "{ran:?}");
}

#[test]
fn a_tokenizer_with_more_ids_than_the_model_is_told() {
    let mut tokenizer = tokenizer();
    let added = tokenizer["added_tokens"].as_array_mut().expect("tokens");
    let mut more = added[0].clone();
    (more["id"], more["content"]) = (512.into(), "<|more|>".into());
    added.push(more);
    let model = Model::new().with("tokenizer.json", &tokenizer.to_string());
    let ran = run(&["generate", "Hi", "--model", model.path(), "-n", "2"]).ok();
    assert_eq!(
        ran.stderr,
        "note: the tokenizer has 513 ids and the model 512 (`vocab_size`): those from 512 on \
         cannot be used\n"
    );
}

#[test]
fn settings_without_effect_are_noted() {
    let config = r#"{"eos_token_id": 510, "suppress_tokens": [261], "num_beams": 1}"#;
    let model = Model::new().with("generation_config.json", config);
    let args = [
        "generate",
        "--ids",
        "1,2",
        "-n",
        "1",
        "--model",
        model.path(),
    ];
    let ran = run(&args).ok();
    let expected = "note: `generation_config.json`: `suppress_tokens` has no effect here\n";
    assert_eq!(ran.stderr, expected);
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_prompt() {
    let model = Model::new()
        .with("a.txt", "\u{feff}Hi\n")
        .with("b.txt", "Hi\n");
    let ids = |name: &str| {
        let file = format!("{}/{name}", model.path());
        run(&["tokenize", "--file", &file, "--model", model.path()])
            .ok()
            .stdout
    };
    assert_eq!(ids("a.txt"), ids("b.txt"));
}
