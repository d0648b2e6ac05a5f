//! `--quantize` and its kin: which weights are quantized while they are loaded.

use clap::{Args, ValueEnum};
use olmo2::{Olmo2Config, QuantFormat, Quantize, Weights};

use crate::talk::Talk;

/// Weights from which on quantizing takes seconds, and a record is worth its disk.
const MANY: u64 = 100_000_000;

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct QuantizeArgs {
    /// Quantize the weights while they are loaded, head and embedding too [default: as stored]
    #[arg(long, value_name = "FORMAT")]
    quantize: Option<Format>,
    /// Format of the head; a tied head has that of the embedding
    #[arg(long, value_name = "FORMAT")]
    quantize_head: Option<Format>,
    /// Format of the embedding
    #[arg(long, value_name = "FORMAT")]
    quantize_embedding: Option<Format>,
}

/// The formats; without help of their own, which would stretch every help text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    None,
    Q8,
    Q4,
}

impl From<Format> for Option<QuantFormat> {
    fn from(format: Format) -> Self {
        match format {
            Format::None => None,
            Format::Q8 => Some(QuantFormat::Q8),
            Format::Q4 => Some(QuantFormat::Q4),
        }
    }
}

impl QuantizeArgs {
    /// What was asked for; `None` takes the weights as they are stored.
    pub(crate) fn choice(self) -> Option<Quantize> {
        let Self {
            quantize,
            quantize_head,
            quantize_embedding,
        } = self;
        quantize.or(quantize_head).or(quantize_embedding)?;
        let layers = quantize.and_then(Into::into);
        Some(Quantize {
            layers,
            head: quantize_head.map_or(layers, Into::into),
            embedding: quantize_embedding.map_or(layers, Into::into),
        })
    }
}

/// Tells what the weights are in and what becomes of them.
pub(crate) fn tell(
    weights: &Weights,
    quantize: Option<Quantize>,
    config: &Olmo2Config,
    talk: Talk,
) {
    let stored: Vec<String> = weights
        .formats()
        .into_iter()
        .map(|(format, bytes)| format!("{} {}", format.name(), crate::memory::size(bytes)))
        .collect();
    talk.detail(format_args!(
        "weights as they are stored: {}",
        stored.join(", ")
    ));
    let Some(quantize) = quantize else {
        return;
    };
    talk.detail(format_args!("quantized to: {quantize}"));
    if let Some(note) = quantize.note(config) {
        talk.note(note);
    }
    let count = |shape: &[usize]| shape.iter().map(|&dim| dim as u64).product::<u64>();
    let floats = weights.iter().filter(|(name, weight)| {
        weight.packed().is_none() && quantize.format_of(name, weight.shape()).is_some()
    });
    let many: u64 = floats.map(|(_, weight)| count(weight.shape())).sum();
    if many >= MANY {
        let millions = many / 1_000_000;
        talk.note(format_args!(
            "quantizing {millions} million weights, as at each start; `cargo xtask convert --quantize` does it once"
        ));
    }
}
