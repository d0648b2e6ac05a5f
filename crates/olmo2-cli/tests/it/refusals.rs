//! What is refused: exit 2 for usage, 1 for failure; one line of error and one hint.

use std::fs::File;
use std::io::{Read, Write};

use crate::fixture::{Model, golden};
use crate::program::{Run, command, run, start};

/// Checks the form that every error has, and returns `error: ..` and `hint: ..`.
#[track_caller]
fn refused(message: &Run, code: i32) -> String {
    assert_eq!(message.code, code, "{message:?}");
    assert_eq!(message.stdout, "");
    let lines: Vec<&str> = message.stderr.lines().collect();
    assert!(lines[0].starts_with("error: "), "{message:?}");
    assert!(
        lines.len() == 1 || (lines.len() == 2 && lines[1].starts_with("hint: ")),
        "{message:?}"
    );
    message.stderr.clone()
}

/// Command lines that make no sense; `MODEL` stands for a folder.
const NONSENSE: &[&[&str]] = &[
    &["generate"],
    &["generate", "text", "--ids", "1,2"],
    &["generate", "--ids", "1,x"],
    &["generate", "--ids", "1", "--quantize", "q5"],
    &["generate", "text", "--dtype", "f64"],
    &["generate", "text", "--cache-dtype", "q4"],
    &["generate", "text", "--backend", "tpu"],
    &["generate", "text", "--threads", "0"],
    &["generate", "text", "--logit-bias", "5"],
    &["generate", "text", "--revision", "main"],
    &["generate", "text", "--verbose", "--quiet"],
    &["generat"],
    &["logits", "--ids", "1"],
    &["bench", "--batch", "0"],
    &["models", "remove"],
    &["completions", "tcsh"],
    &[
        "perplexity",
        "--ids",
        "1,2,3",
        "--context",
        "2",
        "--stride",
        "2",
        "--model",
        "MODEL",
    ],
    &[
        "generate",
        "--ids",
        "1",
        "--model",
        "MODEL",
        "--revision",
        "main",
    ],
];

#[test]
fn a_command_line_that_makes_no_sense_exits_with_2() {
    let model = golden("gqa-tiny");
    let mut all = String::new();
    for args in NONSENSE {
        let shown = args.join(" ");
        let args: Vec<&str> = args
            .iter()
            .map(|arg| if *arg == "MODEL" { &model } else { *arg })
            .collect();
        let message = refused(&run(&args), 2).replace(&model, "MODEL");
        let message = message.replace("has flex, ndarray", "has flex");
        all += &format!("$ olmo2-cli {shown}\n{message}\n");
    }
    insta::assert_snapshot!("usage", all);
}

#[test]
fn no_arguments_show_the_help_and_exit_with_2() {
    let message = run(&[]);
    assert_eq!((message.code, message.stdout.as_str()), (2, ""));
    assert!(
        message.stderr.contains("Usage: olmo2-cli <COMMAND>"),
        "{message:?}"
    );
}

#[test]
fn a_backend_that_was_not_compiled_is_told_from_one_that_does_not_exist() {
    if cfg!(feature = "cuda") {
        return;
    }
    let message = run(&["generate", "text", "--backend", "cuda"]);
    let message = refused(&message, 2);
    assert!(
        message.starts_with("error: backend `cuda` is not in this build, which has "),
        "{message}"
    );
    assert!(
        message.ends_with("hint: build it in with `--features cuda`\n"),
        "{message}"
    );
}

#[test]
fn a_cache_that_the_backend_lacks_is_refused_before_the_model_is_loaded() {
    if cfg!(not(feature = "ndarray")) {
        return;
    }
    for dtype in ["bf16", "q8"] {
        let message = run(&[
            "generate",
            "text",
            "--backend",
            "ndarray",
            "--cache-dtype",
            dtype,
        ]);
        let message = refused(&message, 1);
        let expected = format!("error: backend `ndarray` has no cache in `{dtype}`\nhint: ");
        assert!(message.starts_with(&expected), "{message}");
    }
}

#[test]
fn a_model_that_is_not_there_is_named() {
    let mut all = String::new();
    for (model, revision) in [
        ("/no/such/folder", None),
        ("nowhere", None),
        ("Cargo.toml", None),
        ("allenai/OLMo-2-0425-1B", Some("stage1-step0-tokens0B")),
    ] {
        let mut args = vec!["generate", "text", "--model", model];
        args.extend(
            revision
                .iter()
                .flat_map(|revision| ["--revision", revision]),
        );
        let message = refused(&run(&args), 1);
        // The cache's folder is another in each run.
        let (before, after) = message.split_once("the cache `").unwrap_or((&message, "`"));
        let (_, after) = after.split_once('`').expect("a quoted folder");
        all += &format!("$ --model {model}\n{before}{after}\n");
    }
    insta::assert_snapshot!("no_model", all);
}

#[test]
fn a_folder_without_weights_or_of_another_model_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("UTF-8");
    let args = ["generate", "--ids", "1", "--model", path];
    let message = refused(&run(&args), 1);
    assert!(message.contains("config.json"), "{message}");
    let config = folder.path().join("config.json");
    std::fs::write(&config, r#"{"model_type": "olmo"}"#).expect("written");
    let message = refused(&run(&args), 1);
    assert!(
        message
            .contains("`model_type` in `config.json`: expected `olmo2` or `olmo3`, found `olmo`"),
        "{message}"
    );
    std::fs::copy(golden("gqa-tiny") + "/config.json", &config).expect("copied");
    let message = refused(&run(&args), 1);
    assert!(message.contains("no weights in"), "{message}");
}

#[test]
fn an_output_that_does_not_fit_names_both_numbers() {
    let model = golden("gqa-tiny");
    let args = |more: &[&'static str]| {
        let mut args = vec!["generate", "--ids", "1,2,3", "--model", &model];
        args.extend(more);
        refused(&run(&args), 1)
    };
    let message = args(&["-n", "4094"]);
    assert!(
        message.contains("prompt of 3 and output of 4094 tokens"),
        "{message}"
    );
    assert!(
        message.contains("do not fit the model's 4096 positions"),
        "{message}"
    );
    let message = args(&["-n", "6", "--context", "8"]);
    assert!(
        message.contains("prompt of 3 and output of 6 tokens do not fit the context's 8"),
        "{message}"
    );
    assert!(message.contains("hint: raise `--context`"), "{message}");
    let message = args(&["--context", "3"]);
    assert!(
        message.contains("prompt of 3 and output of 1 tokens"),
        "{message}"
    );
}

#[test]
fn ids_and_parameters_out_of_range_are_refused() {
    let model = golden("gqa-tiny");
    for (more, code, expected) in [
        (["--ids", "1,512"], 1, "token id 512 at position 1"),
        (
            ["--top-p", "1.5"],
            2,
            "`top_p` must be from 0 to 1, found 1.5",
        ),
        (["--logit-bias", "512=1"], 1, "token id 512"),
    ] {
        let mut args = vec!["generate", "--model", &model];
        if more[0] != "--ids" {
            args.extend(["--ids", "1"]);
        }
        args.extend(more);
        let message = refused(&run(&args), code);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn text_without_a_tokenizer_is_refused() {
    let model = golden("gqa-tiny");
    for args in [
        &["generate", "text"][..],
        &["generate", "--ids", "1", "--stop", "x"],
        &["tokenize", "text"],
        &["chat"],
        &["perplexity", "Cargo.toml"],
    ] {
        let args = [args, &["--model", &model]].concat();
        let message = refused(&run(&args), 1);
        assert!(message.contains("has no `tokenizer.json`"), "{message}");
    }
}

#[test]
fn an_empty_prompt_is_refused() {
    let message = refused(&run(&["generate", ""]), 1);
    assert!(
        message.starts_with("error: the prompt has no tokens\nhint: "),
        "{message}"
    );
}

#[test]
fn a_prompt_file_that_is_not_there_is_named() {
    let message = run(&["generate", "--prompt-file", "/no/such/file"]);
    let message = refused(&message, 1);
    assert!(
        message.contains("cannot read `/no/such/file`: No such file"),
        "{message}"
    );
}

/// A 32B checkpoint whose file is a header and a hole.
#[test]
#[cfg(target_os = "linux")]
fn a_model_larger_than_memory_is_refused_before_it_is_loaded() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = r#"{"model_type": "olmo2", "vocab_size": 100352, "hidden_size": 5120,
        "intermediate_size": 27648, "num_hidden_layers": 64, "num_attention_heads": 40,
        "num_key_value_heads": 8, "max_position_embeddings": 4096}"#;
    std::fs::write(folder.path().join("config.json"), config).expect("written");
    let config = olmo2::Olmo2Config::from_json(config).expect("valid");
    let mut header = serde_json::Map::new();
    let mut end = 0;
    let parts = olmo2::layout::parts(&config);
    for tensor in parts.iter().flat_map(|part| &part.tensors) {
        // f32, so that no machine of today has the memory.
        let start = end;
        end += 4 * tensor.shape.iter().product::<usize>() as u64;
        let entry = serde_json::json!({
            "dtype": "F32", "shape": tensor.shape, "data_offsets": [start, end],
        });
        header.insert(tensor.name.clone(), entry);
    }
    let mut header = serde_json::Value::from(header).to_string();
    header += &" ".repeat(header.len().next_multiple_of(8) - header.len());
    let mut file = File::create(folder.path().join("model.safetensors")).expect("created");
    file.write_all(&(header.len() as u64).to_le_bytes())
        .expect("written");
    file.write_all(header.as_bytes()).expect("written");
    if file.set_len(8 + header.len() as u64 + end).is_err() {
        // A file system without holes, or with a lower limit.
        return;
    }
    let path = folder.path().to_str().expect("UTF-8");
    let message = refused(&run(&["generate", "--ids", "1", "--model", path]), 1);
    // 32,234,279,936 parameters; 64 layers x 2 x 1024 x 512 positions x 4 bytes.
    let expected = "error: the model needs 129 GB of memory: 129 GB for weights, 268 MB for the \
                    cache, and ";
    assert!(message.starts_with(expected), "{message}");
    assert!(
        message.contains("available\nhint: lower `--context`"),
        "{message}"
    );
}

#[test]
fn a_reader_that_leaves_ends_the_program_quietly() {
    let model = Model::new();
    let mut child = start(&mut command(&[
        "generate",
        "Hello",
        "--model",
        model.path(),
        "-n",
        "4000",
        "--ignore-eos",
    ]));
    let mut stdout = child.stdout.take().expect("a pipe");
    stdout.read_exact(&mut [0]).expect("one byte");
    drop(stdout);
    let message = Run::of(child.wait_with_output().expect("it ends"));
    assert_eq!((message.code, message.stderr.as_str()), (0, ""));
}

#[test]
fn a_level_of_kernels_that_is_misspelled_is_told() {
    let mut program = command(&["generate", "text"]);
    let output = program.env("OLMO2_SIMD", "sse9").output();
    let message = refused(&Run::of(output.expect("it runs")), 2);
    assert!(message.contains("`OLMO2_SIMD` is `sse9`"), "{message}");
}

#[test]
fn more_tokens_than_there_are_numbers_are_refused_with_both() {
    let count = usize::MAX.to_string();
    let message = refused(&run(&["generate", "text", "-n", &count]), 1);
    assert!(
        message.contains(&count) && message.contains("512"),
        "{message}"
    );
}

#[test]
fn negative_numbers_and_a_dash_are_no_options() {
    let message = refused(&run(&["generate", "text", "--temperature", "-1"]), 2);
    assert!(
        message.contains("`temperature` must be 0 or more"),
        "{message}"
    );
    let message = refused(&run(&["generate", "-"]), 2);
    assert!(message.contains("--prompt-file -"), "{message}");
}

#[test]
fn a_context_beyond_the_models_is_refused_with_both_numbers() {
    let model = golden("gqa-tiny");
    let args = ["generate", "--ids", "1", "--model", &model, "-n", "1"];
    let message = refused(&run(&[&args[..], &["--context", "4097"]].concat()), 2);
    let expected = "error: `--context` is 4097, and the model has 4096 positions\n";
    assert!(message.starts_with(expected), "{message}");
    run(&[&args[..], &["--context", "4096"]].concat()).ok();
    // Dynamic RoPE stretches to what is asked for.
    let dynamic = golden("rope-dynamic");
    let args = ["generate", "--ids", "1", "--model", &dynamic, "-n", "1"];
    run(&[&args[..], &["--context", "10000"]].concat()).ok();
}

#[test]
fn ids_that_no_token_has_are_not_decoded_to_nothing() {
    let model = Model::new();
    let args = ["tokenize", "--decode", "72,512", "--model", model.path()];
    let message = refused(&run(&args), 1);
    let expected = "error: there is no token 512: the vocabulary has ids below 512\n";
    assert!(message.starts_with(expected), "{message}");
}

#[test]
fn a_shard_that_is_missing_has_a_hint() {
    let folder = tempfile::tempdir().expect("a folder");
    for entry in std::fs::read_dir(golden("sharded")).expect("a folder") {
        let path = entry.expect("a file").path();
        let name = path.file_name().expect("a name");
        if !name.to_string_lossy().starts_with("model-00002") {
            std::fs::copy(&path, folder.path().join(name)).expect("copied");
        }
    }
    let path = folder.path().to_str().expect("UTF-8");
    let message = refused(&run(&["generate", "--ids", "1", "--model", path]), 1);
    assert!(
        message.contains("/model-00002-of-00005.safetensors`: "),
        "{message}"
    );
    assert!(
        message.contains("hint: a file of the model is missing"),
        "{message}"
    );
    assert_eq!(message.matches("os error").count(), 1, "{message}");
}

#[test]
fn an_address_of_the_hub_is_an_id() {
    for model in [
        "https://huggingface.co/allenai/OLMo-2-0425-1B",
        "allenai/OLMo-2-0425-1B/",
    ] {
        let message = refused(&run(&["generate", "text", "--model", model]), 1);
        assert!(
            message.contains("`allenai/OLMo-2-0425-1B` at revision `main`"),
            "{message}"
        );
    }
    let file = "https://huggingface.co/allenai/OLMo-2-0425-1B/tree/main";
    let message = refused(&run(&["generate", "text", "--model", file]), 1);
    assert!(
        message.contains("expected the address of a model's page"),
        "{message}"
    );
}
