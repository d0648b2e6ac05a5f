//! A model that is found, checked and known to fit, before any backend is touched.

use std::time::Instant;

use burn::prelude::*;
use olmo2::hub::Files;
use olmo2::{
    CacheDtype, CacheOptions, Capabilities, Checkpoint, CheckpointError, LoadOptions, Olmo2,
    Olmo2Config, Quantize, Weights,
};

use crate::backend::{self, BackendKind};
use crate::memory;
use crate::messages::{Bars, Failure, Result, Verbosity, count};
use crate::request::{ModelRequest, RunRequest};

/// Weights from which on quantizing takes seconds, and a record is worth its disk.
const MANY: u64 = 100_000_000;

/// Finds the requested model; for an id of the hub, downloads the `files` that the cache lacks.
///
/// # Errors
/// No such folder, and those of the hub.
pub(crate) fn find(request: &ModelRequest, files: Files) -> Result<Checkpoint> {
    let Some(name) = &request.name else {
        return Ok(Checkpoint::demo());
    };
    let revision = request.revision.as_deref();
    let mut bars = Bars::new(request.verbosity);
    Checkpoint::find(name, revision, files, &mut bars).map_err(|error| {
        let is_usage = matches!(error, CheckpointError::RevisionOfFolder { .. });
        let failure = Failure::from(error);
        match is_usage {
            true => failure.into_usage(),
            false => failure,
        }
    })
}

/// The sequences that a command will hold at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sequences {
    pub(crate) count: usize,
    /// Maximum number of tokens in one; `None` where it may fill the context.
    pub(crate) max_tokens: Option<usize>,
}

impl Sequences {
    /// One of at most `max_tokens` tokens.
    pub(crate) fn one(max_tokens: usize) -> Self {
        Self {
            count: 1,
            max_tokens: Some(max_tokens),
        }
    }
}

/// A model that may be loaded.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) config: Olmo2Config,
    pub(crate) verbosity: Verbosity,
    /// It starts.
    pub(crate) backend: BackendKind,
    /// Threads of the CPU's pools.
    pub(crate) threads: usize,
    /// The cache of the sequences that the command holds.
    pub(crate) cache: CacheOptions,
    weights: Weights,
    options: LoadOptions,
}

impl Model {
    /// Opens the weights, sets the threads, chooses the backend, and checks that a cache of
    /// `sequences` fits in memory beside the weights.
    ///
    /// # Errors
    /// Weights that are not those of the config, or that do not fit in memory; a backend
    /// that cannot start.
    pub(crate) fn open(
        checkpoint: Checkpoint,
        request: &RunRequest,
        sequences: Sequences,
    ) -> Result<Self> {
        let prepare = || {
            let device = request.device;
            backend::prepare(device.backend, device.threads, request.model.verbosity)
        };
        Self::open_on(checkpoint, request, sequences, prepare)
    }

    /// As [`open`](Self::open), on a backend with its threads that `prepare` gives once the files
    /// are known to be right: a process prepares one once.
    pub(crate) fn open_on(
        checkpoint: Checkpoint,
        request: &RunRequest,
        sequences: Sequences,
        prepare: impl FnOnce() -> Result<(BackendKind, usize)>,
    ) -> Result<Self> {
        let (verbosity, options) = (request.model.verbosity, request.options);
        let config = checkpoint.config()?;
        let weights = checkpoint.weights(&config)?;
        for warning in weights.warnings() {
            verbosity.note(warning);
        }
        for note in weights.notes() {
            verbosity.detail(note);
        }
        check_context(&config, request.context)?;
        describe_weights(&weights, options.quantize, &config, verbosity);
        let (backend, threads) = prepare()?;
        let capabilities = backend.capabilities();
        let is_quantized = weights.is_quantized() || options.quantize.is_some_and(|q| !q.is_none());
        let default_cache = capabilities.default_cache(options.precision, is_quantized);
        let cache_dtype = request.cache_dtype.unwrap_or(default_cache);
        let cache = CacheOptions {
            slots: sequences.count,
            dtype: Some(cache_dtype),
            ..CacheOptions::for_context(&config, request.context)
        };
        if request.cache_dtype.is_none() && cache_dtype != CacheDtype::F32 {
            verbosity.detail(format_args!(
                "KV cache in {cache_dtype}, since weights or activations are below f32 already; \
                 `--cache-dtype f32` keeps f32"
            ));
        }
        if backend.is_cpu() {
            let activations = capabilities.activations(options.precision);
            let needed = memory::Needed {
                weights: weights.load_bytes(&options, &capabilities),
                cache: cache.bytes(&config, sequences.max_tokens, activations),
            };
            verbosity.detail(needed);
            needed.check("lower `--context`, close other programs, or choose a smaller model")?;
        }
        Ok(Self {
            checkpoint,
            config,
            verbosity,
            backend,
            threads,
            cache,
            weights,
            options,
        })
    }

    /// The weights as they are stored: mapped, where they are a file's.
    pub(crate) fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Positions that a sequence can use.
    pub(crate) fn positions(&self) -> usize {
        self.cache.usable_positions(&self.config)
    }

    /// Moves the weights to the device.
    ///
    /// # Errors
    /// The backend lacks the compute type or the cache type.
    pub(crate) fn load<B: Backend>(&self, device: &B::Device) -> Result<Olmo2<B>> {
        Capabilities::of::<B>(device).check_cache(self.cache.dtype.unwrap_or_default())?;
        let started = Instant::now();
        let model = Olmo2::<B>::from_weights(&self.config, &self.weights, &self.options, device)?;
        self.verbosity.detail(format_args!(
            "{}: loaded in {:.2} s, computing in {} on {}, {}{}",
            self.checkpoint.name(),
            started.elapsed().as_secs_f64(),
            self.options.precision.name(),
            B::name(device),
            count(self.threads, "thread"),
            self.backend.kernels(),
        ));
        Ok(model)
    }

    /// What is said where a text ends for lack of positions.
    pub(crate) fn end_of_positions(&self) -> String {
        let limit = self.positions();
        let positions = count(limit, "position");
        match self.config.max_positions() {
            Some(max) if max <= limit => format!("the text ends with the model's {positions}"),
            _ => format!("the text ends with the context of {positions}: `--context` makes room"),
        }
    }
}

/// Refuses positions that the model does not have; dynamic RoPE has no end.
fn check_context(config: &Olmo2Config, context: Option<usize>) -> Result<()> {
    match (context, config.max_positions()) {
        (Some(context), Some(max)) if context > max => Err(Failure::usage(
            format!(
                "`--context` is {context}, and the model has {}",
                count(max, "position")
            ),
            "lower `--context`, or leave it out to have all of them",
        )),
        _ => Ok(()),
    }
}

/// Says what the weights are in and what becomes of them.
fn describe_weights(
    weights: &Weights,
    quantize: Option<Quantize>,
    config: &Olmo2Config,
    verbosity: Verbosity,
) {
    let stored: Vec<String> = weights
        .formats()
        .into_iter()
        .map(|(format, bytes)| format!("{} {}", format.name(), memory::size(bytes)))
        .collect();
    verbosity.detail(format_args!(
        "weights as they are stored: {}",
        stored.join(", ")
    ));
    let Some(quantize) = quantize else {
        return;
    };
    verbosity.detail(format_args!("quantized to: {quantize}"));
    if let Some(note) = quantize.note(config) {
        verbosity.note(note);
    }
    let count = |shape: &[usize]| shape.iter().map(|&dim| dim as u64).product::<u64>();
    let floats = weights.iter().filter(|(name, weight)| {
        weight.packed().is_none() && quantize.format_of(name, weight.shape()).is_some()
    });
    let many: u64 = floats.map(|(_, weight)| count(weight.shape())).sum();
    if many >= MANY {
        let millions = many / 1_000_000;
        verbosity.note(format_args!(
            "quantizing {millions} million weights at each start; `olmo2-cli convert --quantize` \
             does it once"
        ));
    }
}
