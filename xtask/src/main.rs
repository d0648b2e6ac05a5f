//! The workspace's own tools: `cargo xtask COMMAND`.

use clap::{Parser, Subcommand};

mod ci;
mod demo;
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
    /// Write the demo model's corpus, train it, export it to `crates/olmo2/assets/demo`.
    TrainDemo(Box<demo::DemoArgs>),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Ci(args) => ci::run(&args),
        Command::TrainDemo(args) => demo::run(&args),
    }
}
