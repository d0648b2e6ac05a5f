//! `chat` by a pipe: turns, commands, and the cache from one turn to the next.

use std::fs;
use std::io::{Read, Write};

use serde_json::Value;

use crate::fixture::{Model, TEMPLATE};
use crate::program::{Run, command, feed, run_with_input, start};

#[track_caller]
fn chat(model: &Model, more: &[&str], input: &str) -> Run {
    let args = [&["chat", "--model", model.path(), "-n", "6"], more].concat();
    run_with_input(&args, input)
}

#[test]
fn turns_are_answered_and_share_the_cache() {
    let model = Model::new().with("chat_template.jinja", TEMPLATE);
    let ran = chat(&model, &["--quiet"], "Hello\n/stats\n").ok();
    assert_eq!(ran.stderr, "");
    // `<|user|>\nHello\n<|assistant|>\n` by bytes, and 5 of 6 answered tokens.
    let first = "<|user|>\nHello\n<|assistant|>\n".len();
    assert!(
        ran.stdout
            .contains(&format!("prompt of {first} tokens, 0 of them")),
        "{ran:?}"
    );
    let ran = chat(&model, &["--quiet"], "Hello\nAnd?\n/stats\n").ok();
    let (_, reused) = ran.stdout.split_once(" tokens, ").expect("the stats");
    let reused: usize = reused
        .split(' ')
        .next()
        .expect("a number")
        .parse()
        .expect("a number");
    assert!(reused >= first, "{reused} of {first}: {ran:?}");
    assert!(ran.stdout.contains("turns 2;"), "{ran:?}");
}

#[test]
fn a_second_turn_is_what_a_fresh_model_says_to_the_whole_conversation() {
    let model = Model::new().with("chat_template.jinja", TEMPLATE);
    let folder = tempfile::tempdir().expect("a folder");
    let saved = folder.path().join("chat.json");
    let save = format!("Hello\nAnd?\n/save {}\n", saved.display());
    chat(&model, &["--system", "Be brief."], &save).ok();
    let json: Value = serde_json::from_slice(&fs::read(&saved).expect("saved")).expect("JSON");
    let messages = json["messages"].as_array().expect("messages");
    let roles: Vec<&str> = messages.iter().filter_map(|m| m["role"].as_str()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user", "assistant"]);
    let content = |i: usize| messages[i]["content"].as_str().expect("text");
    assert_eq!(content(0), "Be brief.");
    let spelled = |m: &Value| {
        format!(
            "<|{}|>\n{}\n",
            m["role"].as_str().expect("a role"),
            m["content"].as_str().expect("text")
        )
    };
    let prompt: String = messages[..4].iter().map(spelled).collect();
    let prompt = prompt + "<|assistant|>\n";
    let args = ["generate", &prompt, "--model", model.path(), "-n", "6"];
    assert_eq!(crate::program::run(&args).ok().stdout, content(4));
}

#[test]
fn a_base_model_continues_the_text_and_says_so() {
    let model = Model::new();
    let folder = tempfile::tempdir().expect("a folder");
    let saved = folder.path().join("text.txt");
    let input = format!("Once upon\n/save {}\n", saved.display());
    let ran = chat(&model, &[], &input).ok();
    assert!(
        ran.stderr.contains("note: this model has no chat template"),
        "{ran:?}"
    );
    let args = ["generate", "Once upon", "--model", model.path(), "-n", "6"];
    let continued = crate::program::run(&args).ok().stdout;
    assert_eq!(ran.stdout, format!("{continued}\n"));
    assert_eq!(
        fs::read_to_string(&saved).expect("saved"),
        format!("Once upon{continued}")
    );
    let ran = chat(&model, &["-q"], "/system Be brief.\n");
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr
            .contains("no chat template, so no system message"),
        "{ran:?}"
    );
}

#[test]
fn clear_forgets_and_set_changes() {
    let model = Model::new().with("chat_template.jinja", TEMPLATE);
    let once = chat(&model, &["-q"], "Hello\n").ok().stdout;
    let ran = chat(&model, &["-q"], "Hello\n/clear\nHello\n").ok().stdout;
    assert_eq!(ran, once.repeat(2));
    let ran = chat(
        &model,
        &["-q"],
        "/set temperature 0.5\n/set max_new_tokens 3\n/set\n",
    );
    insta::assert_snapshot!("chat_set", ran.ok().stdout);
}

#[test]
fn help_lists_the_commands_and_exit_leaves() {
    let model = Model::new();
    let ran = chat(&model, &["-q"], "/help\n\n/exit\nnever said\n").ok();
    insta::assert_snapshot!("chat_help", ran.stdout);
}

#[test]
fn a_script_goes_on_after_an_error_and_its_exit_code_tells() {
    let model = Model::new();
    let said = chat(&model, &["-q"], "Hello\n").ok().stdout;
    for (line, error) in [
        ("/nonsense", "there is no command `/nonsense`"),
        ("/set top_q 1", "there is no parameter `top_q`"),
        ("/set top_p 7", "`top_p` must be from 0 to 1, found 7"),
    ] {
        let ran = chat(&model, &["-q"], &format!("{line}\nHello\n"));
        assert_eq!((ran.code, &ran.stdout), (1, &said), "{line}");
        let expected = format!("error: {error}\n");
        assert!(ran.stderr.starts_with(&expected), "{ran:?}");
        assert_eq!(ran.stderr.matches("error: ").count(), 1, "{ran:?}");
    }
}

#[test]
fn save_keeps_a_file_that_is_there_and_knows_the_home_folder() {
    let model = Model::new();
    let home = tempfile::tempdir().expect("a folder");
    let mut program = command(&["chat", "--model", model.path(), "-q", "-n", "3"]);
    program.env("HOME", home.path());
    let input =
        "Hello\n/save ~/a.txt\n/clear\nBye\n/save ~/a.txt\n/save! ~/b.txt\n/save! ~/b.txt\n";
    let ran = feed(&mut program, input);
    assert_eq!(ran.code, 1);
    let file = home.path().join("a.txt");
    let expected = format!("error: `{}` already exists\nhint: ", file.display());
    assert!(ran.stderr.starts_with(&expected), "{ran:?}");
    let saved = |name| fs::read_to_string(home.path().join(name)).expect("saved");
    assert!(saved("a.txt").starts_with("Hello"));
    assert!(saved("b.txt").starts_with("Bye"));
}

#[test]
fn an_answer_that_ends_with_the_context_says_so() {
    let model = Model::new().with("chat_template.jinja", TEMPLATE);
    let ran = chat(&model, &["--context", "31"], "Hello\n").ok();
    let expected = "note: the text ends with the context of 31 positions: `--context` makes room";
    assert!(ran.stderr.contains(expected), "{ran:?}");
}

/// Ctrl-C while an answer of 4000 tokens comes.
#[test]
#[cfg(unix)]
fn ctrl_c_ends_the_answer_and_not_the_program() {
    let model = Model::new().with("generation_config.json", r#"{"eos_token_id": 509}"#);
    let args = ["chat", "--model", model.path(), "-n", "4000", "-q"];
    let mut child = start(&mut command(&args));
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(b"Hello\n").expect("it reads");
    let mut stdout = child.stdout.take().expect("a pipe");
    stdout.read_exact(&mut [0]).expect("the answer begins");
    let id = child.id().to_string();
    let killed = std::process::Command::new("kill")
        .args(["-INT", &id])
        .status();
    assert!(killed.expect("kill is there").success());
    stdin.write_all(b"/stats\n").expect("it reads");
    drop(stdin);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("text");
    let ran = Run::of(child.wait_with_output().expect("it ends"));
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(rest.contains("(interrupted); prefill"), "{rest}");
}

#[test]
fn a_conversation_that_fills_the_context_says_so() {
    let model = Model::new().with("chat_template.jinja", TEMPLATE);
    let ran = chat(&model, &["-q", "--context", "40"], "Hello\nHello again\n");
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("leaves no room\nhint: `/clear`"),
        "{ran:?}"
    );
}
