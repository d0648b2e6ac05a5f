//! Help texts, as they are printed.

use crate::program::run;

#[track_caller]
fn check(name: &str, args: &[&str]) {
    let ran = run(args).ok();
    assert_eq!(ran.stderr, "");
    // Which backends there are depends on the features of the build.
    let lines = ran.stdout.lines().map(|line| {
        let end = line.find("[possible values: flex");
        end.map_or(line, |end| line[..end].trim_end())
    });
    let text: Vec<&str> = lines.collect();
    assert!(text.iter().all(|line| line.chars().count() <= 100));
    insta::assert_snapshot!(name, text.join("\n"));
}

#[test]
fn every_command_has_its_help() {
    check("help", &["--help"]);
    for command in [
        "generate",
        "chat",
        "tokenize",
        "logits",
        "perplexity",
        "bench",
        "convert",
        "check",
        "accuracy",
        "compare",
        "models",
        "completions",
    ] {
        check(&format!("help_{command}"), &[command, "--help"]);
    }
    for command in ["list", "remove", "revisions"] {
        check(
            &format!("help_models_{command}"),
            &["models", command, "--help"],
        );
    }
}

#[test]
fn the_version_is_the_packages() {
    let ran = run(&["--version"]).ok();
    let expected = concat!("olmo2-cli ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(ran.stdout, expected);
}

#[test]
fn completions_name_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell]).ok().stdout;
        for command in ["generate", "perplexity", "convert", "models"] {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
}
