//! The workspace's own tools: `cargo xtask COMMAND`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod accuracy;
mod ci;
mod codebook;
mod convert;
mod demo;
mod licences;
mod slow;
mod tidy;

#[derive(Debug, Parser)]
#[command(name = "xtask", about = "Tools of this workspace")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// All that must hold before a change lands: format, house rules, lints, docs, tests, Vulkan
    /// goldens, and that every backend compiles.
    Ci(ci::CiArgs),
    /// What takes too long for the gate: checkpoints of released shapes, memory, kill and resume.
    Slow(slow::SlowArgs),
    /// Write the demo model's corpus, train it, export it to `crates/olmo2/assets/demo`.
    TrainDemo(Box<demo::DemoArgs>),
    /// What the formats of weights cost, as a table: bits, error of weights and of logits.
    Accuracy(accuracy::AccuracyArgs),
    /// Train the tables of the 4-bit format, some minutes, and write them to olmo2-kernels.
    Codebook(codebook::CodebookArgs),
    /// Turn a checkpoint into a record.
    Convert(convert::ConvertArgs),
}

fn main() -> ExitCode {
    match run(&Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Ci(args) => ci::run(args),
        Command::Slow(args) => slow::run(args),
        Command::TrainDemo(args) => demo::run(args),
        Command::Accuracy(args) => accuracy::run(args),
        Command::Codebook(args) => codebook::run(args),
        Command::Convert(args) => convert::run(args),
    }
}
