//! The requests: resolved arguments, all that a command sees of the command line.

use std::path::PathBuf;

use olmo2::record::StoredDtype;
use olmo2::{CacheDtype, LoadOptions, Quantize, SamplingParams};

use crate::backend::BackendKind;
use crate::messages::Verbosity;

/// Which model.
#[derive(Debug, Clone)]
pub(crate) struct ModelRequest {
    /// A folder or an id of the hub; `None` is the embedded model.
    pub(crate) name: Option<String>,
    /// Of a model of the hub.
    pub(crate) revision: Option<String>,
    pub(crate) verbosity: Verbosity,
}

/// What a model is run on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeviceRequest {
    /// `None` takes the first that starts.
    pub(crate) backend: Option<BackendKind>,
    /// `None` takes the physical cores.
    pub(crate) threads: Option<usize>,
}

/// How a model is run.
#[derive(Debug, Clone)]
pub(crate) struct RunRequest {
    pub(crate) model: ModelRequest,
    pub(crate) device: DeviceRequest,
    pub(crate) options: LoadOptions,
    /// `None` takes the default of the model on its backend.
    pub(crate) cache_dtype: Option<CacheDtype>,
    /// Positions that a sequence may take; `None` takes the model's.
    pub(crate) context: Option<usize>,
}

/// Where the tokens come from.
#[derive(Debug, Clone)]
pub(crate) enum PromptRequest {
    Text(String),
    /// `-` is stdin.
    File(PathBuf),
    Ids(Vec<u32>),
}

/// Changes to the sampling defaults of the model's files.
#[derive(Debug, Clone, Default)]
pub(crate) struct SamplingRequest {
    pub(crate) temperature: Option<f32>,
    /// 0 is off.
    pub(crate) top_k: Option<usize>,
    pub(crate) top_p: Option<f32>,
    pub(crate) min_p: Option<f32>,
    pub(crate) repetition_penalty: Option<f32>,
    pub(crate) presence_penalty: Option<f32>,
    pub(crate) frequency_penalty: Option<f32>,
    pub(crate) logit_bias: Vec<(u32, f32)>,
    pub(crate) seed: Option<u64>,
}

impl SamplingRequest {
    /// Overrides `params`.
    pub(crate) fn apply_to(&self, params: &mut SamplingParams) {
        params.temperature = self.temperature.unwrap_or(params.temperature);
        if let Some(k) = self.top_k {
            params.top_k = Some(k).filter(|k| *k > 0);
        }
        params.top_p = self.top_p.unwrap_or(params.top_p);
        params.min_p = self.min_p.unwrap_or(params.min_p);
        params.repetition_penalty = self.repetition_penalty.unwrap_or(params.repetition_penalty);
        params.presence_penalty = self.presence_penalty.unwrap_or(params.presence_penalty);
        params.frequency_penalty = self.frequency_penalty.unwrap_or(params.frequency_penalty);
        params.logit_bias.clone_from(&self.logit_bias);
        params.seed = self.seed;
    }
}

/// When a text ends.
#[derive(Debug, Clone)]
pub(crate) struct LimitRequest {
    pub(crate) max_new_tokens: Option<usize>,
    pub(crate) stop: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct GenerateRequest {
    pub(crate) prompt: PromptRequest,
    pub(crate) limit: LimitRequest,
    pub(crate) ignore_eos: bool,
    pub(crate) json: bool,
    pub(crate) sampling: SamplingRequest,
    pub(crate) run: RunRequest,
}

#[derive(Debug)]
pub(crate) struct ChatRequest {
    pub(crate) system: Option<String>,
    pub(crate) limit: LimitRequest,
    pub(crate) sampling: SamplingRequest,
    pub(crate) run: RunRequest,
}

#[derive(Debug)]
pub(crate) struct TokenizeRequest {
    /// Ids are decoded, all else is encoded.
    pub(crate) input: PromptRequest,
    pub(crate) json: bool,
    pub(crate) model: ModelRequest,
}

#[derive(Debug)]
pub(crate) struct LogitsRequest {
    pub(crate) prompt: PromptRequest,
    pub(crate) out: PathBuf,
    pub(crate) hidden: bool,
    pub(crate) run: RunRequest,
}

#[derive(Debug)]
pub(crate) struct PerplexityRequest {
    pub(crate) text: PromptRequest,
    pub(crate) stride: Option<usize>,
    pub(crate) json: bool,
    pub(crate) run: RunRequest,
}

#[derive(Debug)]
pub(crate) struct BenchRequest {
    pub(crate) prompt_tokens: usize,
    pub(crate) new_tokens: usize,
    pub(crate) depth: usize,
    pub(crate) batch: usize,
    pub(crate) repetitions: u16,
    pub(crate) json: bool,
    pub(crate) run: RunRequest,
}

#[derive(Debug)]
pub(crate) struct CheckRequest {
    pub(crate) folder: PathBuf,
    pub(crate) verbosity: Verbosity,
}

#[derive(Debug)]
pub(crate) enum ModelsRequest {
    List {
        json: bool,
    },
    Remove {
        id: String,
        revision: Option<String>,
    },
    Revisions {
        id: String,
        json: bool,
    },
}

#[derive(Debug)]
pub(crate) struct ConvertRequest {
    /// A folder or an id of the hub.
    pub(crate) source: String,
    pub(crate) revision: Option<String>,
    pub(crate) out: PathBuf,
    /// `None` keeps the types of the source.
    pub(crate) dtype: Option<StoredDtype>,
    pub(crate) quantize: Quantize,
    pub(crate) verbosity: Verbosity,
}

/// Two models, or one under two settings.
#[derive(Debug)]
pub(crate) struct CompareRequest {
    pub(crate) sides: [RunRequest; 2],
    /// `None` takes fixed ids.
    pub(crate) prompt: Option<PromptRequest>,
    /// Maximum difference of a logit.
    pub(crate) tolerance: f32,
    pub(crate) json: bool,
}

#[derive(Debug)]
pub(crate) struct AccuracyRequest {
    /// A folder or an id of the hub; `None` is the embedded model on its held-out text.
    pub(crate) model: ModelRequest,
    pub(crate) device: DeviceRequest,
    /// Ids to run a named model on.
    pub(crate) tokens: usize,
}
