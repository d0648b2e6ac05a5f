//! `olmo2-cli`: OLMo 2 from the command line. Parse, run, exit code.

mod answer;
mod args;
mod backend;
mod commands;
mod memory;
mod messages;
mod model;
mod prompt;
mod request;
mod sampling;

use std::process::ExitCode;

use clap::Parser;

use args::Cli;
use messages::{Failure, Result, panics, show_usage};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return show_usage(&error),
    };
    match panics::caught(|| run(cli)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => failure.exit_code(),
        Err(code) => code,
    }
}

fn run(cli: Cli) -> Result<()> {
    // A level that is misspelled, or that the CPU lacks, is an error before any work.
    olmo2_kernels::level::requested().map_err(|error| {
        let hint = error.hint().unwrap_or_default();
        Failure::usage(error.to_string(), hint)
    })?;
    olmo2_kernels::keep_freed_memory();
    commands::run(args::resolve(cli.command)?)
}
