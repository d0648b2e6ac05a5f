//! Which model, and how it is run: the arguments that most commands share.

use clap::{Args, ValueEnum};
use olmo2::{CacheDtype, Precision};

use super::backend::BackendParser;
use super::quantize::QuantizeArgs;
use crate::backend::BackendKind;

/// Which model, and how much is said about it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct SourceArgs {
    /// Folder of a checkpoint or record, or an id of the Hugging Face hub [default: the embedded
    /// demo model]
    #[arg(long, value_name = "DIR|HUB_ID")]
    pub(crate) model: Option<String>,
    /// Branch, tag or commit of a model of the hub [default: main]
    #[arg(long, requires = "model")]
    pub(crate) revision: Option<String>,
    /// Print to stderr what is loaded, the defaults in effect and the time taken
    #[arg(short, long, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
    /// Print nothing to stderr except errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// What a model is run on.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct DeviceArgs {
    /// Backend that runs the model [default: the first of this build that starts, GPUs before CPUs]
    #[arg(long, value_parser = BackendParser)]
    pub(crate) backend: Option<BackendKind>,
    /// Threads of the CPU [default: its physical cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: Option<u16>,
}

/// How a model is run.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    /// Type to compute in; weights keep the type that they are stored in. bf16 on flex rounds the
    /// input of each matmul and keeps f32 between them. f16 has no kernels here on CPUs, and OLMo 2
    /// 1B overflows in it
    #[arg(long, default_value = "f32")]
    pub(crate) dtype: Dtype,
    /// Type of the KV cache: bf16 takes half the memory of f32, q8 (flex only) a little over a
    /// quarter [default: f32; bf16 on flex with quantized weights or `--dtype bf16`]
    #[arg(long, value_name = "DTYPE")]
    pub(crate) cache_dtype: Option<CacheDtypeArg>,
    #[command(flatten)]
    pub(super) quantize: QuantizeArgs,
    /// Positions that a sequence may take, prompt and output together [default: the model's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) context: Option<u32>,
}

/// The compute types, without help of their own, which would lengthen every help text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dtype {
    F32,
    Bf16,
    F16,
}

impl From<Dtype> for Precision {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::Bf16 => Self::Bf16,
            Dtype::F16 => Self::F16,
        }
    }
}

/// The types of a cache; without help of their own, as those of `--dtype`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CacheDtypeArg {
    F32,
    Bf16,
    Q8,
}

impl From<CacheDtypeArg> for CacheDtype {
    fn from(dtype: CacheDtypeArg) -> Self {
        match dtype {
            CacheDtypeArg::F32 => Self::F32,
            CacheDtypeArg::Bf16 => Self::Bf16,
            CacheDtypeArg::Q8 => Self::Q8,
        }
    }
}
