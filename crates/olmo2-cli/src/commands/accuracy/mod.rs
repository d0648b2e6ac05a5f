//! `cargo xtask accuracy`: what each format costs, as a table.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use burn::backend::Flex;
use burn::prelude::*;
use clap::Args;
use olmo2::{
    CacheOptions, ForwardInput, LoadOptions, Olmo2, Olmo2Config, Precision, QuantFormat, Quantize,
    StoredWeight, Weights,
};

use crate::{demo, tidy};

/// Rows of the demo's held-out text, and tokens in each.
const ROWS: [usize; 2] = [4, 256];

/// Arguments of `cargo xtask accuracy`.
#[derive(Debug, Args)]
pub(crate) struct AccuracyArgs {
    /// Folder of a checkpoint in floats; the embedded model on its held-out text, if not given.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Ids to feed a `--model`, a fixed list.
    #[arg(long, default_value_t = 64)]
    tokens: usize,
}

pub(crate) fn run(args: &AccuracyArgs) -> Result<()> {
    let demo = tidy::root().join("crates/olmo2/assets/demo");
    let folder = args.model.as_deref().unwrap_or(&demo);
    let config = Olmo2Config::from_folder(folder)?;
    let weights = olmo2::format::open(folder, &config)?;
    let rows = match args.model {
        None => demo::held_out(&demo.join("tokenizer.json"), ROWS)?,
        Some(_) => vec![fixed(args.tokens, &config)],
    };
    let tokens: usize = rows.iter().map(Vec::len).sum();
    println!("{} on {tokens} tokens, against f32:\n", name(folder));
    println!("| format | bits a weight | error of weights | error of logits | KL, nats | top 1 |");
    println!("|---|---|---|---|---|---|");
    let expected = logits(&config, &weights, &rows, Precision::F32)?;
    for (name, precision, quantize) in formats() {
        let weights = match quantize {
            None => weights.clone(),
            Some(quantize) => weights.quantized(&quantize)?,
        };
        let (bits, rmse) = stored(&weights, folder, &config)?;
        let found = logits(&config, &weights, &rows, precision)?;
        let distance = Distance::between(&found, &expected, config.vocab_size);
        println!(
            "| {name} | {bits:.2} | {:.2}% | {:.2}% | {:.2e} | {:.1}% |",
            100.0 * rmse,
            100.0 * distance.error,
            distance.divergence,
            100.0 * distance.agreement,
        );
    }
    Ok(())
}

fn name(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or(folder.as_os_str());
    format!("`{}`", name.to_string_lossy())
}

/// Ids all over the vocabulary.
fn fixed(count: usize, config: &Olmo2Config) -> Vec<u32> {
    let vocab = config.vocab_size.min(100_278);
    (0..count)
        .map(|i| ((i * 7919 + 13) % vocab) as u32)
        .collect()
}

/// Each with the type of activations between products, and what is quantized.
fn formats() -> [(&'static str, Precision, Option<Quantize>); 4] {
    let (q4, q8) = (
        Quantize::all(QuantFormat::Q4),
        Quantize::all(QuantFormat::Q8),
    );
    let mixed = Quantize {
        layers: q4.layers,
        ..q8
    };
    [
        ("as stored, `--dtype bf16`", Precision::Bf16, None),
        ("q8", Precision::F32, Some(q8)),
        ("q4", Precision::F32, Some(q4)),
        ("q4, head and embedding in q8", Precision::F32, Some(mixed)),
    ]
}

/// Logits of all rows, `[tokens, vocab]`.
fn logits(
    config: &Olmo2Config,
    weights: &Weights,
    rows: &[Vec<u32>],
    precision: Precision,
) -> Result<Vec<f32>> {
    let options = LoadOptions {
        precision,
        ..LoadOptions::default()
    };
    let device = Default::default();
    let model = Olmo2::<Flex>::from_weights(config, weights, &options, &device)?;
    let mut all = Vec::new();
    for row in rows {
        let mut cache = model.new_cache(CacheOptions {
            slots: 1,
            capacity: row.len(),
            ..Default::default()
        });
        let output = model.forward(ForwardInput::ids(row).with_cache(&mut cache))?;
        let logits: Tensor<Flex, 2> = output.logits.context("logits were asked for")?;
        let values = logits.into_data().into_vec::<f32>();
        all.extend(values.map_err(|error| anyhow::anyhow!("{error:?}"))?);
    }
    Ok(all)
}

/// Bits of a weight in matrices, and the error of weights relative to those of the folder.
fn stored(weights: &Weights, folder: &Path, config: &Olmo2Config) -> Result<(f64, f64)> {
    let floats = olmo2::format::open(folder, config)?;
    let [mut bits, mut count, mut error, mut size] = [0.0; 4];
    for (name, weight) in weights.iter() {
        let &[out, input] = weight.shape() else {
            continue;
        };
        bits += 8.0 * weight.byte_len() as f64;
        count += (out * input) as f64;
        let Some(packed) = weight.packed() else {
            continue;
        };
        let source = floats.get(name).and_then(StoredWeight::float);
        let source = source.with_context(|| format!("`{name}` is not in floats"))?;
        let (mut exact, mut found) = (vec![0.0; input], vec![0.0; input]);
        for row in 0..out {
            source.row(row, &mut exact);
            packed.row(row, &mut found);
            for (exact, found) in exact.iter().zip(&found) {
                error += f64::from(exact - found).powi(2);
                size += f64::from(*exact).powi(2);
            }
        }
    }
    let rmse = if size > 0.0 {
        (error / size).sqrt()
    } else {
        0.0
    };
    Ok((bits / count, rmse))
}

/// How far two sets of logits lie apart.
struct Distance {
    /// Root mean square of the difference, over that of the logits.
    error: f64,
    /// Kullback-Leibler divergence of the next token's distribution, mean over positions.
    divergence: f64,
    /// Share of positions with the same most likely token.
    agreement: f64,
}

impl Distance {
    fn between(found: &[f32], expected: &[f32], vocab: usize) -> Self {
        let [mut error, mut size, mut divergence, mut same] = [0.0; 4];
        let positions = expected.len() / vocab;
        for (found, expected) in found.chunks_exact(vocab).zip(expected.chunks_exact(vocab)) {
            let (p, q) = (log_softmax(expected), log_softmax(found));
            divergence += p
                .iter()
                .zip(&q)
                .map(|(p, q)| p.exp() * (p - q))
                .sum::<f64>();
            same += f64::from(u8::from(largest(found) == largest(expected)));
            for (found, expected) in found.iter().zip(expected) {
                error += f64::from(found - expected).powi(2);
                size += f64::from(*expected).powi(2);
            }
        }
        Self {
            error: (error / size).sqrt(),
            divergence: divergence / positions as f64,
            agreement: same / positions as f64,
        }
    }
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shifted = || logits.iter().map(|x| f64::from(x - largest));
    let total = shifted().map(f64::exp).sum::<f64>().ln();
    shifted().map(|x| x - total).collect()
}

fn largest(logits: &[f32]) -> Option<usize> {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probabilities 1/4, 3/4 against 1/2, 1/2: 1/4 ln(1/2) + 3/4 ln(3/2).
    #[test]
    fn distances_are_those_of_the_definition() {
        let expected = [0.0, 3.0_f32.ln()];
        let distance = Distance::between(&[1.0, 1.0], &expected, 2);
        let divergence = 0.25 * 0.5_f64.ln() + 0.75 * 1.5_f64.ln();
        assert!((distance.divergence - divergence).abs() < 1e-7);
        let same = Distance::between(&expected, &expected, 2);
        assert_eq!(
            (same.error, same.divergence, same.agreement),
            (0.0, 0.0, 1.0)
        );
        let error = (1.0 + (3.0_f64.ln() - 1.0).powi(2)).sqrt() / 3.0_f64.ln();
        assert!((distance.error - error).abs() < 1e-6);
    }

    /// More bits, less error, on the embedded model.
    #[test]
    fn eight_bits_lose_less_than_four() {
        let folder = tidy::root().join("crates/olmo2/assets/demo");
        let config = Olmo2Config::from_folder(&folder).expect("a config");
        let floats = olmo2::format::open(&folder, &config).expect("weights");
        let error = |format| {
            let weights = floats.quantized(&Quantize::all(format)).expect("floats");
            stored(&weights, &folder, &config).expect("the same model")
        };
        let ((q8_bits, q8), (q4_bits, q4)) = (error(QuantFormat::Q8), error(QuantFormat::Q4));
        assert!((8.5..8.51).contains(&q8_bits) && (4.5..4.51).contains(&q4_bits));
        assert!(q8 < 0.01 && q8 < q4 && q4 < 0.15, "{q8} and {q4}");
    }
}
