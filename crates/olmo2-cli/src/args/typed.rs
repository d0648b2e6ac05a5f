//! What may be typed: clap's structs and nothing else.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use olmo2::record::StoredDtype;

use super::compare::CompareArgs;
use super::examples;
use super::prompt::{PromptArgs, parse_id};
use super::quantize::QuantizeArgs;
use super::run::{DeviceArgs, RunArgs, SourceArgs};

/// Generate, chat and measure with OLMo 2 and Olmo 3 on any burn backend.
#[derive(Debug, Parser)]
#[command(name = "olmo2-cli", version, max_term_width = 100, after_help = examples::ALL)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Continue a text
    #[command(after_help = examples::GENERATE, allow_negative_numbers = true)]
    Generate(GenerateArgs),
    /// Talk with a model; `/help` there lists the commands
    #[command(after_help = examples::CHAT, allow_negative_numbers = true)]
    Chat(ChatArgs),
    /// Show the token ids of a text, or the text of ids
    #[command(after_help = examples::TOKENIZE, allow_negative_numbers = true)]
    Tokenize(TokenizeArgs),
    /// Write the logits of every position to a safetensors file
    #[command(after_help = examples::LOGITS, allow_negative_numbers = true)]
    Logits(LogitsArgs),
    /// Measure how well a model predicts a text
    #[command(after_help = examples::PERPLEXITY, allow_negative_numbers = true)]
    Perplexity(PerplexityArgs),
    /// Measure speed and memory
    #[command(after_help = examples::BENCH, allow_negative_numbers = true)]
    Bench(BenchArgs),
    /// Convert a checkpoint to a record: aligned, hashed, quantized if asked
    #[command(after_help = examples::CONVERT)]
    Convert(ConvertArgs),
    /// Compare a record's files with the hashes of its receipt
    #[command(after_help = examples::CHECK)]
    Check(CheckArgs),
    /// The name that `check` had before
    #[command(hide = true)]
    Verify(VerifyArgs),
    /// Measure the error of each weight format, as a table
    #[command(after_help = examples::ACCURACY)]
    Accuracy(AccuracyArgs),
    /// Compare two models, or one under two settings: tensors, logits, tokenizer, template
    #[command(after_help = examples::COMPARE)]
    Compare(CompareArgs),
    /// List and remove downloaded models, and list the revisions of one
    #[command(after_help = examples::MODELS)]
    Models(ModelsArgs),
    /// Print a completion script for a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions(CompletionsArgs),
}

/// How tokens are chosen; what is not given comes from generation_config.json.
#[derive(Debug, Clone, Default, Args)]
#[command(
    next_help_heading = "Sampling (defaults: the model's generation_config.json, else greedy)"
)]
pub(crate) struct SamplingArgs {
    /// Divide the logits by this, 0 or more; 0 takes the most likely token each time
    #[arg(long, value_name = "T")]
    pub(crate) temperature: Option<f32>,
    /// Draw from the K most likely tokens; 0 for all
    #[arg(long, value_name = "K")]
    pub(crate) top_k: Option<usize>,
    /// Draw from the most likely tokens that together reach probability P, 0 to 1
    #[arg(long, value_name = "P")]
    pub(crate) top_p: Option<f32>,
    /// Drop tokens less likely than P times the most likely one, 0 to 1
    #[arg(long, value_name = "P")]
    pub(crate) min_p: Option<f32>,
    /// Penalize tokens already seen: > 1 discourages, 1 is off, < 1 encourages
    #[arg(long, value_name = "X")]
    pub(crate) repetition_penalty: Option<f32>,
    /// Subtract this from the logits of tokens in the output, -2 to 2
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) presence_penalty: Option<f32>,
    /// Subtract this for each time that a token is in the output, -2 to 2
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) frequency_penalty: Option<f32>,
    /// Add a bias from -100 to 100 to a token's logit; may be repeated
    #[arg(long, value_name = "ID=BIAS", value_parser = parse_bias)]
    pub(crate) logit_bias: Vec<(u32, f32)>,
    /// Draw the same tokens in each run [default: a random seed]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
}

fn parse_bias(text: &str) -> Result<(u32, f32), String> {
    let pair = text.split_once('=');
    pair.and_then(|(id, bias)| Some((id.trim().parse().ok()?, bias.trim().parse().ok()?)))
        .ok_or_else(|| "expected a token id and a bias, as in `1234=-5`".into())
}

/// When a text ends.
#[derive(Debug, Clone, Args)]
pub(crate) struct LimitArgs {
    /// Maximum number of tokens to generate [default: generation_config.json's, else 256, in a chat 1024]
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) max_new_tokens: Option<usize>,
    /// End the text before this string; may be repeated
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) stop: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    pub(crate) prompt: PromptArgs,
    #[command(flatten)]
    pub(crate) limit: LimitArgs,
    /// Continue after tokens that end a text
    #[arg(long)]
    pub(crate) ignore_eos: bool,
    /// Print one JSON object: token_ids, text, finish_reason, seed, timings
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    /// System message, for models with a chat template
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    #[command(flatten)]
    pub(crate) limit: LimitArgs,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TokenizeArgs {
    /// Text to encode
    #[arg(required_unless_present_any = ["file", "decode"], conflicts_with_all = ["file", "decode"])]
    pub(crate) text: Option<String>,
    /// Read the text from a file as it is, `-` for stdin
    #[arg(long, conflicts_with = "decode")]
    pub(crate) file: Option<PathBuf>,
    /// Show the text of these ids instead
    #[arg(long, value_name = "ID,ID,..", value_delimiter = ',', value_parser = parse_id)]
    pub(crate) decode: Option<Vec<u32>>,
    /// Print one JSON object: token_ids, tokens, text
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LogitsArgs {
    #[command(flatten)]
    pub(crate) prompt: PromptArgs,
    /// File to write: `logits`, f32 [seq, vocab]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Also write `hidden`, f32 [layers + 1, seq, hidden]: embeddings, then each layer's output,
    /// the last after the final norm
    #[arg(long)]
    pub(crate) hidden: bool,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PerplexityArgs {
    /// File with the text, `-` for stdin
    #[arg(required_unless_present = "ids", conflicts_with = "ids")]
    pub(crate) file: Option<PathBuf>,
    /// Token ids in place of a text; the model then needs no tokenizer
    #[arg(long, value_name = "ID,ID,..", value_delimiter = ',', value_parser = parse_id)]
    pub(crate) ids: Option<Vec<u32>>,
    /// Tokens from one window's start to the next [default: half of `--context`]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) stride: Option<u32>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Prompt tokens for prefill; 0 skips prefill
    #[arg(short = 'p', long, value_name = "N", default_value_t = 512)]
    pub(crate) prompt_tokens: usize,
    /// Tokens to decode, one at a time; 0 skips decoding
    #[arg(short = 'n', long, value_name = "N", default_value_t = 32)]
    pub(crate) new_tokens: usize,
    /// Positions already filled when decoding starts
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) depth: usize,
    /// Sequences run together; rates count the tokens of all
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) batch: u16,
    /// Measured runs, after one warm-up run
    #[arg(short, long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) repetitions: u16,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// The types of stored floats; without help of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StoredDtypeArg {
    F32,
    Bf16,
    F16,
}

impl From<StoredDtypeArg> for StoredDtype {
    fn from(dtype: StoredDtypeArg) -> Self {
        match dtype {
            StoredDtypeArg::F32 => Self::F32,
            StoredDtypeArg::Bf16 => Self::Bf16,
            StoredDtypeArg::F16 => Self::F16,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// Folder of a checkpoint, or an id of the hub such as `allenai/OLMo-2-0425-1B`
    pub(crate) source: String,
    /// Folder of the record; an interrupted conversion resumes there
    #[arg(short, long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Branch, tag or commit of a model of the hub [default: main]
    #[arg(long)]
    pub(crate) revision: Option<String>,
    /// Type to store floats in [default: that of the source]
    #[arg(long)]
    pub(crate) dtype: Option<StoredDtypeArg>,
    #[command(flatten)]
    pub(super) quantize: QuantizeArgs,
    /// Print nothing to stderr except errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Folder of a record
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,
    /// Print nothing to stderr except errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// Any arguments: the answer is the same.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _rest: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AccuracyArgs {
    /// Tokens to run a `--model` on, from a fixed list; the demo model runs on a held-out text
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) tokens: usize,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ModelsArgs {
    #[command(subcommand)]
    pub(crate) command: ModelsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// List the models in the hub's cache
    List {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Remove a model, or one revision of it, from the hub's cache
    Remove {
        /// The model's id
        #[arg(value_name = "HUB_ID")]
        id: String,
        /// Remove only this revision
        #[arg(long)]
        revision: Option<String>,
    },
    /// List the branches and tags of a model on the hub
    Revisions {
        /// The model's id
        #[arg(value_name = "HUB_ID")]
        id: String,
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}
