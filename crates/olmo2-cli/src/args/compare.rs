//! `compare`: two models, or one under two settings.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use olmo2::{CacheDtype, LoadOptions, Precision, QuantFormat, Quantize};

use super::prompt::parse_id;
use super::run::{DeviceArgs, Dtype};
use crate::messages::Verbosity;
use crate::request::{CompareRequest, DeviceRequest, ModelRequest, PromptRequest, RunRequest};

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// Folder of a checkpoint or record, or an id of the Hugging Face hub
    #[arg(value_name = "A")]
    a: String,
    /// What is compared with it
    #[arg(value_name = "B", required_unless_present = "against")]
    b: Option<String>,
    /// Compare A with itself under one other setting: `quantize=q8`, `quantize=q4`, `dtype=bf16`,
    /// `dtype=f16` or `revision=NAME`
    #[arg(long, value_name = "SETTING=VALUE", conflicts_with = "b")]
    against: Option<Against>,
    /// Branch, tag or commit of A, where it is a model of the hub [default: main]
    #[arg(long)]
    revision: Option<String>,
    /// Token ids to run both on [default: 64 fixed ids]
    #[arg(
        long,
        value_name = "ID,ID,..",
        value_delimiter = ',',
        value_parser = parse_id,
        conflicts_with = "prompt_file"
    )]
    ids: Option<Vec<u32>>,
    /// Run both on the text of a file, `-` for stdin, encoded by the tokenizer of A
    #[arg(long, value_name = "FILE")]
    prompt_file: Option<PathBuf>,
    /// Maximum difference of a logit; above it, or where tokenizers or chat templates differ, the exit
    /// status is 1
    #[arg(long, value_name = "X", default_value_t = 1e-4)]
    tolerance: f32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) device: DeviceArgs,
    /// Print to stderr what is loaded and the time taken
    #[arg(short, long, conflicts_with = "quiet")]
    verbose: bool,
    /// Print nothing to stderr except errors
    #[arg(short, long)]
    quiet: bool,
}

/// The setting that the second side has.
#[derive(Debug, Clone, PartialEq)]
enum Against {
    Quantize(QuantFormat),
    Dtype(Precision),
    Revision(String),
}

impl FromStr for Against {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some(("quantize", name)) => QuantFormat::ALL
                .into_iter()
                .find(|format| format.name() == name)
                .map(Self::Quantize)
                .ok_or_else(|| format!("expected `quantize=q8` or `quantize=q4`, found `{text}`")),
            Some(("dtype", name)) => Dtype::from_str(name, false)
                .map(|dtype| Self::Dtype(dtype.into()))
                .map_err(|_| format!("expected `dtype=bf16` or `dtype=f16`, found `{text}`")),
            Some(("revision", name)) if !name.is_empty() => Ok(Self::Revision(name.into())),
            _ => Err("expected `quantize=..`, `dtype=..` or `revision=..`".into()),
        }
    }
}

pub(super) fn request(args: CompareArgs, device: DeviceRequest) -> CompareRequest {
    let verbosity = Verbosity::new(args.verbose, args.quiet);
    let run = |name: &str, revision: Option<&String>, options| RunRequest {
        model: ModelRequest {
            name: Some(name.into()),
            revision: revision.cloned(),
            verbosity,
        },
        device,
        options,
        cache_dtype: Some(CacheDtype::F32),
        context: None,
    };
    let plain = LoadOptions::default();
    let a = run(&args.a, args.revision.as_ref(), plain);
    let b = match (args.against, args.b) {
        (Some(Against::Quantize(format)), _) => {
            let quantize = Some(Quantize::all(format));
            let options = LoadOptions { quantize, ..plain };
            run(&args.a, args.revision.as_ref(), options)
        }
        (Some(Against::Dtype(precision)), _) => {
            let options = LoadOptions { precision, ..plain };
            run(&args.a, args.revision.as_ref(), options)
        }
        (Some(Against::Revision(name)), _) => run(&args.a, Some(&name), plain),
        (None, b) => run(&b.unwrap_or_default(), None, plain),
    };
    CompareRequest {
        sides: [a, b],
        prompt: match (args.ids, args.prompt_file) {
            (Some(ids), _) => Some(PromptRequest::Ids(ids)),
            (None, file) => file.map(PromptRequest::File),
        },
        tolerance: args.tolerance,
        json: args.json,
    }
}
