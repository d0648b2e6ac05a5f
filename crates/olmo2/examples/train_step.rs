//! A few steps of AdamW on one text, through the same module under `Autodiff`:
//! `cargo run -p olmo2 --example train_step --features demo`.

use std::error::Error;
use std::process::ExitCode;

use burn::backend::{Autodiff, Flex};
use burn::optim::{AdamWConfig, GradientsParams, Optimizer};
use burn::prelude::*;
use olmo2::{ForwardInput, LoadOptions, causal_lm_loss, demo};

type B = Autodiff<Flex>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // `main`'s own way to tell an error is the form for programmers.
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let device = Default::default();
    let mut model = demo::load::<B>(&LoadOptions::default(), &device)?;
    let mut optimizer = AdamWConfig::new().init();
    let ids = demo::tokenizer()?.encode("The lighthouse keeper taught his parrot to cook.")?;
    let row: Vec<i32> = ids.iter().map(|id| *id as i32).collect();
    let labels = Tensor::<B, 1, Int>::from_data(row.as_slice(), &device).unsqueeze();

    for step in 1..=5 {
        let output = model.forward(ForwardInput::ids(&ids))?;
        let logits = output.logits.ok_or("no logits")?;
        let loss = causal_lm_loss(logits, labels.clone(), -100);
        println!(
            "step {step}: {:.3} nats a token",
            loss.clone().into_scalar()
        );
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(1e-3, model, grads);
    }
    Ok(())
}
