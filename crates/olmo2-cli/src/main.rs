//! `olmo2-cli`: OLMo 2 from the command line. Parse, run, exit code.

mod args;
mod backend;
mod bench;
mod chat;
mod completions;
mod download;
mod examples;
mod failure;
mod generate;
mod logits;
mod memory;
mod model;
mod models;
mod panics;
mod passes;
mod perplexity;
mod prompt;
mod quantize;
mod sampling;
mod stream;
mod talk;
mod tokenize;
mod verify;
mod words;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return failure::tell_usage(&error),
    };
    match panics::caught(|| run(cli.command)) {
        Ok(result) => failure::exit_code(&result),
        Err(code) => code,
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    // A level that is misspelled, or that the CPU lacks, is told before any work.
    olmo2_kernels::level::requested().map_err(|error| {
        let hint = error.hint().unwrap_or_default();
        failure::Failure::usage(error.to_string(), hint)
    })?;
    olmo2_kernels::keep_freed_memory();
    match command {
        Command::Generate(args) => generate::run(&args),
        Command::Chat(args) => chat::run(&args),
        Command::Tokenize(args) => tokenize::run(&args),
        Command::Logits(args) => logits::run(&args),
        Command::Perplexity(args) => perplexity::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Models(args) => models::run(&args.command),
        Command::Completions(args) => completions::run(args.shell),
    }
}
