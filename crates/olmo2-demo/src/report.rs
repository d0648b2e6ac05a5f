//! What a run leaves for readers: the loss curve and the model card.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::checkpoint::Progress;
use crate::metrics::Line;
use crate::shape::CONTEXT;
use crate::tokenizer::VOCAB_SIZE;

/// Draws training and held-out loss over the tokens seen, as SVG.
///
/// # Errors
/// No line yet, or the file system.
pub(crate) fn loss_curve(path: &Path, lines: &[Line], tokens_per_step: usize) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let millions = |line: &Line| (line.step * tokens_per_step) as f64 / 1e6;
    let train: Vec<_> = lines
        .iter()
        .map(|line| (millions(line), line.loss))
        .collect();
    let held_out: Vec<_> = lines
        .iter()
        .filter_map(|line| Some((millions(line), line.held_out?)))
        .collect();
    let end = train.last().context("the run has no metrics yet")?.0;
    let losses = train.iter().chain(&held_out).map(|point| point.1);
    let lowest = losses.fold(f64::MAX, f64::min);

    let area = SVGBackend::new(path, (800, 450)).into_drawing_area();
    area.fill(&WHITE)?;
    draw(
        &area,
        [train, held_out],
        0.0..end,
        (lowest - 0.2).max(0.0)..4.0,
    )?;
    area.present()?;
    Ok(())
}

/// Axes, the two lines and their legend.
fn draw(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    [train, held_out]: [Vec<(f64, f64)>; 2],
    x: Range<f64>,
    y: Range<f64>,
) -> Result<()> {
    let mut chart = ChartBuilder::on(area)
        .caption("Loss of the demo model", ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(52)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .x_desc("million tokens")
        .y_desc("nats a token")
        .light_line_style(WHITE)
        .draw()?;
    for (points, color, label) in [
        (train, RGBColor(150, 150, 150), "training"),
        (held_out, RGBColor(200, 40, 60), "held out"),
    ] {
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))?
            .label(label)
            .legend(move |(x, y)| {
                PathElement::new(vec![(x, y), (x + 18, y)], color.stroke_width(2))
            });
    }
    chart
        .configure_series_labels()
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()?;
    Ok(())
}

/// The model card: `model_card.md` with the run's numbers in its braces.
pub(crate) fn model_card(
    progress: &Progress,
    parameters: usize,
    held_out: f64,
    rows: usize,
) -> String {
    let run = &progress.settings;
    let tokens = progress.step * run.batch * run.length;
    let numbers = [
        ("millions", format!("{:.1}", parameters as f64 / 1e6)),
        ("layers", run.config["num_hidden_layers"].to_string()),
        ("hidden", run.config["hidden_size"].to_string()),
        ("inter", run.config["intermediate_size"].to_string()),
        ("heads", run.config["num_attention_heads"].to_string()),
        ("kv_heads", run.config["num_key_value_heads"].to_string()),
        ("vocab", VOCAB_SIZE.to_string()),
        ("context", CONTEXT.to_string()),
        ("length", run.length.to_string()),
        ("steps", progress.step.to_string()),
        ("all_steps", run.steps.to_string()),
        ("batch", run.batch.to_string()),
        ("million_tokens", format!("{:.1}", tokens as f64 / 1e6)),
        ("minutes", format!("{:.0}", progress.seconds / 60.0)),
        ("held_out", format!("{held_out:.3}")),
        ("perplexity", format!("{:.2}", held_out.exp())),
        ("rows", rows.to_string()),
        ("seed", run.seed.to_string()),
        ("lr", run.learning_rate.to_string()),
        ("warm_up", run.warm_up.to_string()),
    ];
    let mut card = include_str!("model_card.md").to_owned();
    for (name, value) in numbers {
        card = card.replace(&format!("{{{name}}}"), &value);
    }
    card
}
