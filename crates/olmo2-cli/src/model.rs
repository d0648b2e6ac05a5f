//! Where a model comes from: a folder, the hub, or this program itself.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use burn::prelude::*;
use olmo2::chat::ChatTemplate;
use olmo2::config::generation::GenerationConfig;
use olmo2::hub::{DEFAULT_REVISION, Files, Hub, HubError, HubOptions, parse_id};
use olmo2::{
    CacheDtype, CacheOptions, Capabilities, LoadOptions, Olmo2, Olmo2Config, Tokenizer, Weights,
    demo,
};

use crate::args::{RunArgs, SourceArgs};
use crate::backend::{self, BackendKind};
use crate::download::Bars;
use crate::failure::Failure;
use crate::memory::{self, Sequences};
use crate::quantize;
use crate::talk::Talk;
use crate::words::count;

/// A place that holds a model's files.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// The model that is part of this program.
    Demo,
    /// A checkpoint or a record, on disk or in the hub's cache.
    Folder(PathBuf),
}

impl Source {
    /// Finds the model that was asked for; one of the hub is downloaded as far as `files` says.
    ///
    /// # Errors
    /// No such folder, and whatever the hub answers.
    pub(crate) fn find(args: &SourceArgs, files: Files, talk: Talk) -> Result<Self> {
        let Some(model) = &args.model else {
            return Ok(Self::Demo);
        };
        let path = Path::new(model);
        if path.is_dir() && !path.join("config.json").exists() {
            return Err(Failure::new(
                format!("the folder `{model}` has no `config.json`"),
                "`--model` takes the folder of a checkpoint or of a record",
            )
            .into());
        }
        if path.is_dir() {
            return match &args.revision {
                None => Ok(Self::Folder(path.into())),
                Some(_) => Err(Failure::usage(
                    format!("`--revision` is for models of the hub, and `{model}` is a folder"),
                    "leave `--revision` out",
                )
                .into()),
            };
        }
        let Some(id) = parse_id(model)? else {
            let what = if path.exists() { "is no" } else { "no such" };
            let message = match what {
                "is no" => format!("`{model}` is not a folder"),
                _ => format!("there is no folder `{model}`"),
            };
            return Err(Failure::new(
                message,
                "`--model` takes the folder of a checkpoint, or an id of the hub such as \
                 `allenai/OLMo-2-0425-1B`",
            )
            .into());
        };
        let hub = Hub::new(HubOptions::from_env()?);
        let revision = args.revision.as_deref().unwrap_or(DEFAULT_REVISION);
        let fetched = hub.fetch(&id, revision, files, &mut Bars::new(talk));
        let folder = match fetched {
            // Perhaps a folder was meant.
            Err(error @ (HubError::Network { .. } | HubError::RepoNotFound { .. })) => {
                return Err(error).context(format!("`{model}` is no folder here, and on the hub"));
            }
            fetched => fetched?,
        };
        Ok(Self::Folder(folder))
    }

    /// How the model is called in messages.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Demo => "the embedded demo model".into(),
            Self::Folder(folder) => format!("`{}`", folder.display()),
        }
    }

    /// # Errors
    /// No `config.json`, or not one of OLMo 2.
    pub(crate) fn config(&self) -> Result<Olmo2Config> {
        Ok(match self {
            Self::Demo => demo::config()?,
            Self::Folder(folder) => Olmo2Config::from_folder(folder)?,
        })
    }

    /// The tokenizer, `None` where there is none.
    ///
    /// # Errors
    /// A tokenizer that cannot be read.
    pub(crate) fn tokenizer(&self) -> Result<Option<Tokenizer>> {
        Ok(match self {
            Self::Demo => Some(demo::tokenizer()?),
            Self::Folder(folder) if folder.join("tokenizer.json").exists() => {
                Some(Tokenizer::from_folder(folder)?)
            }
            Self::Folder(_) => None,
        })
    }

    /// The tokenizer, where the command cannot do without.
    ///
    /// # Errors
    /// As [`tokenizer`](Self::tokenizer), and where there is none.
    pub(crate) fn needed_tokenizer(&self) -> Result<Tokenizer> {
        self.tokenizer()?.ok_or_else(|| no_tokenizer(self).into())
    }

    /// The chat template, `None` for a base model.
    ///
    /// # Errors
    /// A template that cannot be read.
    pub(crate) fn template(&self) -> Result<Option<ChatTemplate>> {
        Ok(match self {
            Self::Demo => demo::chat_template()?,
            Self::Folder(folder) => ChatTemplate::from_folder(folder)?,
        })
    }

    /// The defaults of `generation_config.json`; nothing is set where there is no such file.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn generation(&self) -> Result<GenerationConfig> {
        Ok(match self {
            Self::Demo => demo::generation_config()?,
            Self::Folder(folder) => GenerationConfig::from_folder(folder)?.unwrap_or_default(),
        })
    }

    fn weights(&self, config: &Olmo2Config) -> Result<Weights> {
        Ok(match self {
            Self::Demo => demo::weights(config)?,
            Self::Folder(folder) => olmo2::format::open(folder, config)?,
        })
    }
}

/// Why a text can't be used with this model.
pub(crate) fn no_tokenizer(source: &Source) -> Failure {
    Failure::new(
        format!("{} has no `tokenizer.json`", source.name()),
        "`--ids` gives token ids in place of a text",
    )
}

/// A model whose weights are found, checked and known to fit, before any backend is touched.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) source: Source,
    pub(crate) config: Olmo2Config,
    pub(crate) talk: Talk,
    /// What computes; it starts.
    pub(crate) backend: BackendKind,
    /// Threads of the CPU's pools.
    pub(crate) threads: usize,
    weights: Weights,
    options: LoadOptions,
    cache_dtype: CacheDtype,
}

impl Checkpoint {
    /// Opens the weights, sets the threads, chooses the backend, and checks that a cache of
    /// `sequences` fits in memory beside the weights.
    ///
    /// # Errors
    /// Weights that are not those of the config, or that need more memory than there is; a backend
    /// that cannot start.
    pub(crate) fn open(source: Source, args: &RunArgs, sequences: Sequences) -> Result<Self> {
        let talk = Talk::new(&args.source);
        let config = source.config()?;
        let weights = source.weights(&config)?;
        for note in weights.notes() {
            talk.detail(note);
        }
        check_context(&config, args.context)?;
        let options = LoadOptions {
            precision: args.dtype.into(),
            quantize: args.quantize.choice(),
        };
        let cache_dtype = args.cache_dtype.into();
        quantize::tell(&weights, options.quantize, &config, talk);
        let threads = backend::set_threads(args.threads)?;
        let backend = backend::choose(args.backend, talk)?;
        if backend.is_cpu() {
            let positions = positions(&config, args.context);
            let capabilities = backend.capabilities();
            let activations = capabilities.activations(options.precision);
            let needed = memory::Needed {
                weights: weights.load_bytes(&options, &capabilities),
                cache: memory::cache_bytes(&config, sequences, positions, activations, cache_dtype),
            };
            talk.detail(needed);
            needed.check()?;
        }
        Ok(Self {
            source,
            config,
            talk,
            backend,
            threads,
            weights,
            options,
            cache_dtype,
        })
    }

    /// The weights as they are stored: mapped, where they are a file's.
    pub(crate) fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Moves the weights to the device.
    ///
    /// # Errors
    /// The backend does not compute in the precision asked for, or has no such cache.
    pub(crate) fn load<B: Backend>(&self, device: &B::Device) -> Result<Olmo2<B>> {
        Capabilities::of::<B>(device).check_cache(self.cache_dtype)?;
        let started = Instant::now();
        let model = Olmo2::<B>::from_weights(&self.config, &self.weights, &self.options, device)?;
        self.talk.detail(format_args!(
            "{}: loaded in {:.2} s, computing in {} on {}, {}{}",
            self.source.name(),
            started.elapsed().as_secs_f64(),
            self.options.precision.name(),
            B::name(device),
            count(self.threads, "thread"),
            self.backend.kernels(),
        ));
        Ok(model)
    }
}

/// Refuses positions that the model does not have; dynamic RoPE has no end.
fn check_context(config: &Olmo2Config, context: Option<u32>) -> Result<()> {
    let trained = config.max_position_embeddings;
    match context {
        Some(context) if context as usize > trained && !config.rope.is_dynamic() => {
            Err(Failure::usage(
                format!(
                    "`--context` is {context}, and the model has {} (`max_position_embeddings`)",
                    count(trained, "position")
                ),
                "lower `--context`, or leave it out to have all of them",
            )
            .into())
        }
        _ => Ok(()),
    }
}

/// What is told where a text ends for lack of positions.
pub(crate) fn end_of_positions(config: &Olmo2Config, context: Option<u32>) -> String {
    let limit = positions(config, context);
    let held = count(limit, "position");
    match config.rope.is_dynamic() || limit < config.max_position_embeddings {
        true => format!("the text ends with the context of {held}: `--context` makes room"),
        false => format!("the text ends with the model's {held}"),
    }
}

/// Positions that a cache is made for.
///
/// Without `--context` that is one more than the model has, so that the limit which a message
/// names is the model's own. Dynamic RoPE has no end: four times the trained length is a choice.
pub(crate) fn capacity(config: &Olmo2Config, context: Option<u32>) -> usize {
    let trained = config.max_position_embeddings;
    match context {
        Some(context) => context as usize,
        None if config.rope.is_dynamic() => trained.saturating_mul(4).max(4096),
        None => trained.saturating_add(1),
    }
}

/// One sequence's cache, as asked for.
pub(crate) fn cache_options(config: &Olmo2Config, args: &RunArgs) -> CacheOptions {
    CacheOptions {
        slots: 1,
        capacity: capacity(config, args.context),
        dtype: args.cache_dtype.into(),
    }
}

/// Positions that can be in use at once.
pub(crate) fn positions(config: &Olmo2Config, context: Option<u32>) -> usize {
    let capacity = capacity(config, context);
    match config.rope.is_dynamic() {
        true => capacity,
        false => capacity.min(config.max_position_embeddings),
    }
}
