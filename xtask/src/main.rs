//! The workspace's own tools: `cargo xtask COMMAND`.

use clap::{Parser, Subcommand};

mod demo;

#[derive(Debug, Parser)]
#[command(name = "xtask", about = "Tools of this workspace")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write the demo model's corpus, train it, export it to `crates/olmo2/assets/demo`.
    TrainDemo(Box<demo::DemoArgs>),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::TrainDemo(args) => demo::run(&args),
    }
}
