//! What a run leaves for readers: the loss curve and the model card.

use std::path::Path;

use anyhow::{Context, Result};
use plotters::prelude::*;

use super::checkpoint::Progress;
use super::metrics::Line;
use super::shape::CONTEXT;
use super::tokenizer::VOCAB_SIZE;

/// Draws training and held-out loss over the tokens seen, as SVG.
///
/// # Errors
/// No line yet, or the file system.
pub(crate) fn loss_curve(path: &Path, lines: &[Line], tokens_per_step: usize) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let millions = |line: &Line| (line.step * tokens_per_step) as f64 / 1e6;
    let train: Vec<(f64, f64)> = lines
        .iter()
        .map(|line| (millions(line), line.loss))
        .collect();
    let held_out: Vec<(f64, f64)> = lines
        .iter()
        .filter_map(|line| Some((millions(line), line.held_out?)))
        .collect();
    let end = train.last().context("the run has no metrics yet")?.0;
    let lowest = train
        .iter()
        .chain(&held_out)
        .map(|point| point.1)
        .fold(f64::MAX, f64::min);

    let area = SVGBackend::new(path, (800, 450)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("Loss of the demo model", ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..end, (lowest - 0.2).max(0.0)..4.0)?;
    chart
        .configure_mesh()
        .x_desc("million tokens")
        .y_desc("nats a token")
        .light_line_style(WHITE)
        .draw()?;
    for (points, colour, label) in [
        (train, RGBColor(150, 150, 150), "training"),
        (held_out, RGBColor(200, 40, 60), "held out"),
    ] {
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(label)
            .legend(move |(x, y)| {
                PathElement::new(vec![(x, y), (x + 18, y)], colour.stroke_width(2))
            });
    }
    chart
        .configure_series_labels()
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()?;
    area.present()?;
    Ok(())
}

/// The model card.
pub(crate) fn model_card(
    progress: &Progress,
    parameters: usize,
    held_out: f64,
    rows: usize,
) -> String {
    let run = &progress.settings;
    let config = &run.config;
    let tokens = progress.step * run.batch * run.length;
    format!(
        "---
license: mit
language: en
library_name: burn
tags: [olmo2, demo]
---
# OLMo 2 demo, {millions:.1} million parameters

A very small language model with the OLMo 2 architecture. `olmo2-cli` embeds it and runs it when no
`--model` is given; the tests of tokenizer, chat and generation use it as a fixture. It continues
English stories and descriptions for a paragraph, and it can be chatted with in the OLMo 2 Instruct
template. It knows nothing of the world beyond what its toy corpus says, does not follow
instructions outside of the forms below, and is no measure of what OLMo 2 can do.

| | |
|---|---|
| Layers, hidden, feed-forward | {layers}, {hidden}, {inter} |
| Heads, key and value heads | {heads}, {kv_heads} |
| Vocabulary | {VOCAB_SIZE}, byte-level BPE with the splitting of OLMo 2's tokenizer |
| Context | {CONTEXT}; trained on rows of {length} |
| Weights | bf16 |
| Training | {steps} of {all_steps} steps of {batch} rows, {million_tokens:.1} million tokens, {minutes:.0} minutes on 2 CPU cores |
| Held-out loss | {held_out:.3} nats a token (perplexity {perplexity:.2}), on {rows} rows of {length} tokens, with the exported bf16 weights |

## Training data
All of its text is generated: `xtask/src/demo/grammar` holds a grammar written for this purpose
(plots, characters, facts), `xtask/src/demo` expands it with seed {seed}. About 58 % of the documents
are stories, 23 % descriptions, explanations, instructions, letters and diaries, 19 % chats. No text
was taken from elsewhere. The held-out documents come from another seed of the same grammar: the
loss says how well the grammar was learnt, not how well English was.

## What to try
- `Once upon a time`, `The little dog`, `My grandmother`, `In the morning, Anna`
- in a chat: `Tell me a story about a fox`, `What is a lighthouse?`, `How do I make pancakes?`,
  `What do owls eat?`, `Who are you?`

## How it was made
`cargo xtask train-demo`: the library's own module under burn's `Autodiff` on the `flex` backend,
AdamW (betas 0.9 and 0.95, weight decay 0.1 on matrices, none on the gains of norms; gradients
clipped to norm 1 tensor by tensor), peak learning rate {lr}, {warm_up} steps of warm-up, cosine to
a tenth. `docs/demo-loss.svg` shows the losses.
",
        millions = parameters as f64 / 1e6,
        layers = config["num_hidden_layers"],
        hidden = config["hidden_size"],
        inter = config["intermediate_size"],
        heads = config["num_attention_heads"],
        kv_heads = config["num_key_value_heads"],
        length = run.length,
        steps = progress.step,
        all_steps = run.steps,
        batch = run.batch,
        million_tokens = tokens as f64 / 1e6,
        minutes = progress.seconds / 60.0,
        perplexity = held_out.exp(),
        seed = run.seed,
        lr = run.learning_rate,
        warm_up = run.warm_up,
    )
}
