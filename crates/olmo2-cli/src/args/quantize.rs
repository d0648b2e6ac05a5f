//! `--quantize` and its kin: which matrices become blocks, in `convert` and at load.

use clap::{Args, ValueEnum};
use olmo2::{QuantFormat, Quantize};

#[derive(Debug, Clone, Copy, Args)]
pub(super) struct QuantizeArgs {
    /// Quantize the weights to this format, head and embedding too [default: as they are stored]
    #[arg(long, value_name = "FORMAT")]
    quantize: Option<Format>,
    /// Format of the head; a tied head has that of the embedding
    #[arg(long, value_name = "FORMAT")]
    quantize_head: Option<Format>,
    /// Format of the embedding
    #[arg(long, value_name = "FORMAT")]
    quantize_embedding: Option<Format>,
}

/// `none`, or a format of the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Format(Option<QuantFormat>);

impl ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [Format; 1 + QuantFormat::ALL.len()] = {
            let mut all = [Format(None); 1 + QuantFormat::ALL.len()];
            let mut i = 0;
            while i < QuantFormat::ALL.len() {
                all[i + 1] = Format(Some(QuantFormat::ALL[i]));
                i += 1;
            }
            all
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(self.0.map_or("none", QuantFormat::name).into())
    }
}

impl QuantizeArgs {
    /// The choice of formats; `None` takes the weights as they are stored.
    pub(super) fn choice(self) -> Option<Quantize> {
        let Self {
            quantize,
            quantize_head,
            quantize_embedding,
        } = self;
        quantize.or(quantize_head).or(quantize_embedding)?;
        let layers = quantize.and_then(|format| format.0);
        Some(Quantize {
            layers,
            head: quantize_head.map_or(layers, |format| format.0),
            embedding: quantize_embedding.map_or(layers, |format| format.0),
        })
    }
}
