//! The workspace's own tools: `cargo xtask COMMAND`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod arrows;
mod ci;
mod codebook;
mod features;
mod forward;
mod golden;
mod licenses;
mod root;
mod slow;
mod tidy;

use forward::ForwardArgs;

#[derive(Debug, Parser)]
#[command(name = "xtask", about = "Tools of this workspace")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// All that must hold before a change lands: format, house rules, licenses, lints, docs, tests,
    /// kernels under AddressSanitizer, goldens on Vulkan, and that every feature compiles.
    Ci(ci::CiArgs),
    /// House rules that need no build: sizes and heads of files, floors of the library, circles.
    Tidy,
    /// What takes too long for the gate: checkpoints of released shapes, memory, kill and resume.
    Slow(slow::SlowArgs),
    /// Train the tables of the 4-bit format, some minutes, and write them to olmo2-kernels.
    Codebook(codebook::CodebookArgs),
    /// Write the goldens of `tests/golden` anew by their scripts, or check them.
    Golden(golden::GoldenArgs),
    /// `olmo2-cli convert`: turn a checkpoint into a record.
    Convert(ForwardArgs),
    /// `olmo2-cli accuracy`: what each format of weights costs, as a table.
    Accuracy(ForwardArgs),
    /// `olmo2-demo`: train the embedded model and write it to `crates/olmo2/assets/demo`.
    TrainDemo(ForwardArgs),
}

fn main() -> ExitCode {
    match run(&Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", line(&error));
            ExitCode::FAILURE
        }
    }
}

/// The chain of causes on one line; what a message repeats of its cause is said once.
fn line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        match text.contains(&cause) {
            true => {}
            false if text.is_empty() => text = cause,
            false => text = format!("{text}: {cause}"),
        }
    }
    text
}

fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Ci(args) => ci::run(args),
        Command::Tidy => tidy::run(),
        Command::Slow(args) => slow::run(args),
        Command::Codebook(args) => codebook::run(args),
        Command::Golden(args) => golden::run(args),
        Command::Convert(args) => match forward::run("olmo2-cli", Some("convert"), args)? {},
        Command::Accuracy(args) => match forward::run("olmo2-cli", Some("accuracy"), args)? {},
        Command::TrainDemo(args) => match forward::run("olmo2-demo", None, args)? {},
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_cause_that_a_message_repeats_is_printed_once() {
        let cause = || std::io::Error::other("gone (os error 2)");
        let repeated = Err::<(), _>(cause()).context("cannot read `x`: gone (os error 2)");
        let error = repeated.context("step `y`").expect_err("an error");
        assert_eq!(line(&error), "step `y`: cannot read `x`: gone (os error 2)");
    }
}
