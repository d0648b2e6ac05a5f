//! `accuracy`: the error of each weight format, as a table.

use std::io::{self, Write};

use burn::prelude::*;
use olmo2::hub::Files;
use olmo2::{
    CacheDtype, CacheOptions, Capabilities, ForwardInput, LoadOptions, Olmo2, Olmo2Config,
    Precision, QuantFormat, Quantize, StoredWeight, Weights,
};

use super::distance::Distance;
use super::fixed_ids::fixed_ids;
use super::to_host::to_host;
use crate::backend::{self, OnBackend};
use crate::memory::Needed;
use crate::messages::{Failure, Result, Verbosity, plain};
use crate::model::find;
use crate::request::AccuracyRequest;

/// Ids of the demo model's held-out text, `[4][256]`: what no training step saw. A test of
/// `olmo2-demo` checks them against its corpus.
const HELD_OUT: &str = include_str!("held_out.json");

pub(super) fn run(request: &AccuracyRequest) -> Result<()> {
    let checkpoint = find(&request.model, Files::Model)?;
    let config = checkpoint.config()?;
    let weights = checkpoint.weights(&config)?;
    if weights.is_quantized() {
        return Err(Failure::new(
            format!(
                "{} is quantized, and `accuracy` compares formats with floats",
                checkpoint.name()
            ),
            "give the checkpoint, or a record without `--quantize`",
        ));
    }
    let texts = match request.model.name {
        None => serde_json::from_str(HELD_OUT).map_err(plain)?,
        Some(_) => vec![fixed_ids(request.tokens, &config)],
    };
    let tokens: usize = texts.iter().map(Vec::len).sum();
    let (device, verbosity) = (request.device, request.model.verbosity);
    let (backend, _) = backend::prepare(device.backend, device.threads, verbosity)?;
    if backend.is_cpu() {
        let needed = needed(&weights, &config, &texts, &backend.capabilities());
        verbosity.detail(needed);
        needed.check("close other programs, or choose a smaller model")?;
    }
    let mut out = io::stdout();
    writeln!(
        out,
        "{} on {tokens} tokens, against f32:\n\n\
         | format | bits a weight | error of weights | error of logits | KL, nats | top 1 |\n\
         |---|---|---|---|---|---|",
        checkpoint.name()
    )?;
    backend.dispatch(Accuracy {
        config,
        weights,
        texts,
        verbosity,
    })
}

/// Memory of the largest row of the table, beside the reference's logits.
fn needed(
    weights: &Weights,
    config: &Olmo2Config,
    texts: &[Vec<u32>],
    capabilities: &Capabilities,
) -> Needed {
    let max_tokens = texts.iter().map(Vec::len).max().unwrap_or(0);
    let bytes = rows().map(|row| {
        let options = LoadOptions {
            precision: row.precision,
            quantize: row.quantize,
        };
        let cache = CacheOptions {
            dtype: Some(row.cache),
            ..CacheOptions::for_context(config, Some(max_tokens))
        };
        let activations = capabilities.activations(row.precision);
        Needed {
            weights: weights.load_bytes(&options, capabilities),
            cache: cache.bytes(config, Some(max_tokens), activations),
        }
    });
    Needed {
        weights: bytes.iter().map(|needed| needed.weights).max().unwrap_or(0),
        cache: bytes.iter().map(|needed| needed.cache).max().unwrap_or(0),
    }
}

struct Accuracy {
    config: Olmo2Config,
    weights: Weights,
    /// Ids of each text.
    texts: Vec<Vec<u32>>,
    verbosity: Verbosity,
}

impl OnBackend for Accuracy {
    fn run<B: Backend>(self, device: B::Device) -> Result<()> {
        let (f32, cache) = (Precision::F32, CacheDtype::F32);
        let expected = self.logits::<B>(&self.weights, f32, cache, &device)?;
        let capabilities = Capabilities::of::<B>(&device);
        for row in rows() {
            let name = row.name;
            if let Err(error) = capabilities.check_precision(row.precision) {
                let note = format_args!("no row `{name}`: {error}");
                self.verbosity.note(note);
                continue;
            }
            if let Err(error) = capabilities.check_cache(row.cache) {
                let note = format_args!("no row `{name}`: {error}");
                self.verbosity.note(note);
                continue;
            }
            let weights = match row.quantize {
                None => self.weights.clone(),
                Some(quantize) => self.weights.quantized(&quantize)?,
            };
            let (bits, rmse) = stored(&weights, &self.weights)?;
            let found = self.logits::<B>(&weights, row.precision, row.cache, &device)?;
            let distance = Distance::between(&found, &expected, self.config.vocab_size);
            writeln!(
                io::stdout(),
                "| {name} | {bits:.2} | {:.2}% | {:.2}% | {:.2e} | {:.1}% |",
                100.0 * rmse,
                100.0 * distance.error,
                distance.divergence,
                100.0 * distance.agreement,
            )?;
        }
        Ok(())
    }
}

impl Accuracy {
    /// Logits of all texts, `[tokens, vocab]`.
    fn logits<B: Backend>(
        &self,
        weights: &Weights,
        precision: Precision,
        cache: CacheDtype,
        device: &B::Device,
    ) -> Result<Vec<f32>> {
        let options = LoadOptions {
            precision,
            ..LoadOptions::default()
        };
        let model = Olmo2::<B>::from_weights(&self.config, weights, &options, device)?;
        let mut all = Vec::new();
        for text in &self.texts {
            let mut cache = model.new_cache(CacheOptions {
                capacity: text.len(),
                chunk: text.len(),
                dtype: Some(cache),
                ..CacheOptions::default()
            });
            let output = model.forward(ForwardInput::ids(text).with_cache(&mut cache))?;
            all.extend(to_host(output.logits.ok_or_else(no_logits)?)?);
        }
        Ok(all)
    }
}

fn no_logits() -> Failure {
    Failure::message("the model returned no logits")
}

/// A row of the table: what differs from weights as they are stored, f32 and an f32 cache.
struct Row {
    name: &'static str,
    precision: Precision,
    quantize: Option<Quantize>,
    cache: CacheDtype,
}

fn rows() -> [Row; 5] {
    let row = |name, quantize| Row {
        name,
        precision: Precision::F32,
        quantize,
        cache: CacheDtype::F32,
    };
    let (q4, q8) = (
        Quantize::all(QuantFormat::Q4),
        Quantize::all(QuantFormat::Q8),
    );
    let mixed = Quantize {
        layers: q4.layers,
        ..q8
    };
    [
        Row {
            precision: Precision::Bf16,
            ..row("as stored, `--dtype bf16`", None)
        },
        Row {
            cache: CacheDtype::Bf16,
            ..row("as stored, `--cache-dtype bf16`", None)
        },
        row("q8", Some(q8)),
        row("q4", Some(q4)),
        row("q4, head and embedding in q8", Some(mixed)),
    ]
}

/// Bits of a weight in matrices, and the error of weights relative to `floats`.
fn stored(weights: &Weights, floats: &Weights) -> Result<(f64, f64)> {
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
        let not_in_floats = || Failure::message(format!("`{name}` is not in floats"));
        let source = source.ok_or_else(not_in_floats)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// More bits, less error, on the embedded model.
    #[test]
    fn eight_bits_lose_less_than_four() {
        let config = olmo2::demo::config().expect("a config");
        let floats = olmo2::demo::weights(&config).expect("weights");
        let error = |format| {
            let weights = floats.quantized(&Quantize::all(format)).expect("floats");
            stored(&weights, &floats).expect("the same model")
        };
        let ((q8_bits, q8), (q4_bits, q4)) = (error(QuantFormat::Q8), error(QuantFormat::Q4));
        assert!((8.5..8.51).contains(&q8_bits) && (4.5..4.51).contains(&q4_bits));
        assert!(q8 < 0.01 && q8 < q4 && q4 < 0.15, "{q8} and {q4}");
    }
}
