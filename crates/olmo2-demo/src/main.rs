//! `olmo2-demo`, also `cargo xtask train-demo`: the small OLMo 2 of `crates/olmo2/assets/demo`, from
//! its corpus to its model card.

mod characters;
mod checkpoint;
mod corpus;
mod data;
mod export;
mod grammar;
mod metrics;
mod optimizer;
mod piece;
mod prose;
mod report;
mod sample;
mod scene;
mod shape;
mod stage;
mod tokenizer;
mod train;
mod trainer;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use burn::module::AutodiffModule;
use clap::Parser;

use checkpoint::RunSettings;
use corpus::{Corpus, Split};
use train::{Run, RunOptions};

/// Seed of the embedded model's corpus and weights.
const SEED: u64 = 1;

/// Writes the demo model's corpus, trains it, exports it to `crates/olmo2/assets/demo`. A run that
/// was interrupted continues at its last checkpoint.
#[derive(Debug, Parser)]
#[command(name = "olmo2-demo")]
struct DemoArgs {
    /// Folder of metrics and checkpoints
    #[arg(long, default_value = "out/train-demo")]
    run: PathBuf,
    /// Steps in all; the schedule ends there
    #[arg(long, default_value_t = 5500)]
    steps: usize,
    /// Rows in a step
    #[arg(long, default_value_t = 4)]
    batch: usize,
    /// Tokens in a row
    #[arg(long, default_value_t = 256)]
    length: usize,
    /// Peak learning rate
    #[arg(long, default_value_t = 4e-3)]
    learning_rate: f64,
    /// Seed of corpus and weights
    #[arg(long, default_value_t = SEED)]
    seed: u64,
    /// Threads that share a batch
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Steps between checkpoints
    #[arg(long, default_value_t = 500)]
    save_every: usize,
    /// Stop after this many steps; the same command without it goes on
    #[arg(long)]
    stop_after: Option<usize>,
    /// Export the last checkpoint without training
    #[arg(long)]
    export: bool,
    /// Where the model goes
    #[arg(long, default_value = "crates/olmo2/assets/demo")]
    assets: PathBuf,
    /// Where the loss curve goes
    #[arg(long, default_value = "docs/demo-loss.svg")]
    curve: PathBuf,
    /// Continue these prompts with the last checkpoint, and do nothing else
    #[arg(long)]
    sample: Vec<String>,
    /// Temperature of `--sample`
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,
    /// Print this many documents of the corpus, and do nothing else
    #[arg(long)]
    print_corpus: Option<u64>,
    /// With `--print-corpus`: documents that no training run sees
    #[arg(long, requires = "print_corpus")]
    held_out: bool,
}

fn main() -> ExitCode {
    match run(&DemoArgs::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &DemoArgs) -> Result<()> {
    if let Some(count) = args.print_corpus {
        let split = if args.held_out {
            Split::HeldOut
        } else {
            Split::Train
        };
        return print_corpus(args.seed, split, count);
    }
    let settings = RunSettings {
        seed: args.seed,
        steps: args.steps,
        batch: args.batch,
        length: args.length,
        learning_rate: args.learning_rate,
        warm_up: (args.steps / 50).max(1),
        config: train::config(&args.run, args.seed, shape::DEMO)?,
    };
    let options = RunOptions {
        run: args.run.clone(),
        threads: args.threads,
        log_every: 10,
        save_every: args.save_every,
        stop_after: args.stop_after,
    };
    let mut run = Run::open(options, settings)?;
    if !args.sample.is_empty() {
        return print_samples(&run, args);
    }
    if !args.export {
        run.train()?;
    }
    if args.stop_after.is_none() || args.export {
        run.export(&args.assets, &args.curve)?;
        println!(
            "wrote {} and {}",
            args.assets.display(),
            args.curve.display()
        );
    }
    Ok(())
}

fn print_samples(run: &Run, args: &DemoArgs) -> Result<()> {
    let model = run.model().valid();
    for prompt in &args.sample {
        let prompt = prompt.replace("\\n", "\n");
        let text = sample::continuation(&model, run.tokenizer(), &prompt, args.temperature, 300)?;
        println!("[{prompt}]{text}\n");
    }
    Ok(())
}

fn print_corpus(seed: u64, split: Split, count: u64) -> Result<()> {
    let corpus = Corpus::new(seed)?;
    for index in 0..count {
        println!(
            "{}\n{}\n",
            corpus.document(split, index)?,
            corpus::END_OF_TEXT
        );
    }
    Ok(())
}
