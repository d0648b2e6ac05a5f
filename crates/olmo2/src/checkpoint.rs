//! A model's files, opened as one: a folder, a record, an id of the hub, or the embedded demo.

#[cfg(feature = "hub")]
use std::borrow::Borrow;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use burn::prelude::*;
#[cfg(feature = "hub")]
use olmo2_hub::{DEFAULT_REVISION, Hub, HubError, HubOptions, parse_id};
use thiserror::Error;

use crate::config::generation::{GenerationConfig, GenerationConfigError};
use crate::config::{ConfigError, Olmo2Config};
#[cfg(feature = "demo")]
use crate::demo;
use crate::format;
use crate::generate::GenerateParams;
use crate::hint::Hint;
use crate::load::{LoadError, LoadOptions};
use crate::model::Olmo2;
use crate::text::chat::{ChatError, ChatTemplate};
use crate::text::tokenizer::{Tokenizer, TokenizerError};
use crate::weights::{Weights, WeightsError};

/// A model's files. Each is read when its method is called; the tokenizer, which is large, only once.
///
/// ```no_run
/// use burn::backend::Flex;
/// use olmo2::{Checkpoint, LoadOptions, Session};
///
/// let checkpoint = Checkpoint::open("olmo2-1b")?;
/// let model = checkpoint.load::<Flex>(&LoadOptions::default(), &Default::default())?;
/// let prompt = checkpoint.needed_tokenizer()?.encode("Once upon a time")?;
/// let mut session = Session::new(model, 512);
/// for id in session.generate(&prompt, checkpoint.generate_params()?)? {
///     println!("{}", id?);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Checkpoint {
    place: Place,
    tokenizer: OnceLock<Option<Tokenizer>>,
}

#[derive(Debug, Clone)]
enum Place {
    /// The model of `assets/demo`.
    #[cfg(feature = "demo")]
    Demo,
    /// A checkpoint or a record, on disk or in the hub's cache.
    Folder(PathBuf),
}

/// Why a model's files could not be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// Neither a folder nor, with the feature `hub`, an id of the hub.
    #[error("there is no folder `{name}`")]
    NoFolder {
        /// The name that was given.
        name: String,
    },
    /// A file where a folder is expected.
    #[error("`{name}` is not a folder")]
    NotAFolder {
        /// The name that was given.
        name: String,
    },
    /// A folder without a config.
    #[error("the folder `{folder}` has no `config.json`", folder = folder.display())]
    NoConfig {
        /// The folder.
        folder: PathBuf,
    },
    /// A revision that was given for a folder.
    #[error("a revision belongs to an id of the hub, and `{name}` is a folder")]
    RevisionOfFolder {
        /// The name that was given.
        name: String,
    },
    /// The model has no tokenizer.
    #[error("{name} has no `tokenizer.json`")]
    NoTokenizer {
        /// The model's name.
        name: String,
    },
    /// The hub.
    #[cfg(feature = "hub")]
    #[error(transparent)]
    Hub(#[from] olmo2_hub::HubError),
    /// Not a local folder, and the hub cannot be reached or has no such model.
    #[cfg(feature = "hub")]
    #[error("`{name}` is not a local folder; on the hub: {source}")]
    NeitherFolderNorOnHub {
        /// The name that was given.
        name: String,
        /// The error of the hub.
        source: olmo2_hub::HubError,
    },
    /// `config.json`.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// `generation_config.json`.
    #[error(transparent)]
    GenerationConfig(#[from] GenerationConfigError),
    /// The tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The chat template.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// The weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The weights in the model.
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl Hint for CheckpointError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoFolder { .. } | Self::NotAFolder { .. } => match cfg!(feature = "hub") {
                true => {
                    "a model is the folder of a checkpoint, or an id of the hub such as \
                     `allenai/OLMo-2-0425-1B`"
                }
                false => "a model is the folder of a checkpoint or of a record",
            },
            Self::NoConfig { folder } if folder.join("config.yaml").exists() => {
                "`config.yaml` is a trainer's: convert its checkpoint for transformers first, by \
                 `convert_olmo2_weights_to_hf.py`"
            }
            Self::NoConfig { .. } => "a model is the folder of a checkpoint or of a record",
            Self::RevisionOfFolder { .. } => "leave the revision out",
            Self::NoTokenizer { .. } => "a model runs without a tokenizer, on token ids",
            _ => return self.inner()?.hint(),
        };
        Some(hint.into())
    }

    fn inner(&self) -> Option<&(dyn Hint + 'static)> {
        match self {
            #[cfg(feature = "hub")]
            Self::Hub(e) | Self::NeitherFolderNorOnHub { source: e, .. } => Some(e),
            Self::Config(e) => Some(e),
            Self::GenerationConfig(e) => Some(e),
            Self::Tokenizer(e) => Some(e),
            Self::Chat(e) => Some(e),
            Self::Weights(e) => Some(e),
            Self::Load(e) => Some(e),
            _ => None,
        }
    }
}

impl Checkpoint {
    /// A folder of a Hugging Face checkpoint or of a record; with the feature `hub` also an id of the
    /// hub such as `allenai/OLMo-2-0425-1B`, downloaded as far as the cache lacks it.
    ///
    /// `Checkpoint::find` takes a revision and reports the progress of the download.
    ///
    /// # Errors
    /// There is no such folder, it has no `config.json`, or the download failed. A malformed file is
    /// an error of the method that reads it.
    pub fn open(model: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let model = model.as_ref();
        #[cfg(feature = "hub")]
        if let Some(name) = model.to_str() {
            return Self::find(name, None, olmo2_hub::Files::Model, &mut ());
        }
        Self::from_folder(model)
    }

    /// A folder of a Hugging Face checkpoint or of a record.
    ///
    /// # Errors
    /// There is no such folder, or it has no `config.json`.
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let folder = folder.as_ref();
        let name = || folder.display().to_string();
        if !folder.is_dir() {
            return Err(match folder.exists() {
                true => CheckpointError::NotAFolder { name: name() },
                false => CheckpointError::NoFolder { name: name() },
            });
        }
        let folder = folder.to_owned();
        match folder.join("config.json").exists() {
            true => Ok(Self::at(Place::Folder(folder))),
            false => Err(CheckpointError::NoConfig { folder }),
        }
    }

    /// The model that is part of this crate.
    #[cfg(feature = "demo")]
    pub fn demo() -> Self {
        Self::at(Place::Demo)
    }

    fn at(place: Place) -> Self {
        Self {
            place,
            tokenizer: OnceLock::new(),
        }
    }

    /// The folder, `None` for the embedded model.
    pub fn folder(&self) -> Option<&Path> {
        match &self.place {
            #[cfg(feature = "demo")]
            Place::Demo => None,
            Place::Folder(folder) => Some(folder),
        }
    }

    /// The model's name for messages.
    pub fn name(&self) -> String {
        match self.folder() {
            None => "the embedded demo model".into(),
            Some(folder) => format!("`{}`", folder.display()),
        }
    }

    /// The architecture.
    ///
    /// # Errors
    /// No `config.json`, or not one of OLMo 2.
    pub fn config(&self) -> Result<Olmo2Config, CheckpointError> {
        Ok(match &self.place {
            #[cfg(feature = "demo")]
            Place::Demo => demo::config()?,
            Place::Folder(folder) => Olmo2Config::from_folder(folder)?,
        })
    }

    /// The tokenizer, `None` if the model has none.
    ///
    /// # Errors
    /// A tokenizer that cannot be read.
    pub fn tokenizer(&self) -> Result<Option<Tokenizer>, CheckpointError> {
        if let Some(tokenizer) = self.tokenizer.get() {
            return Ok(tokenizer.clone());
        }
        let tokenizer = match &self.place {
            #[cfg(feature = "demo")]
            Place::Demo => Some(demo::tokenizer()?),
            Place::Folder(folder) if folder.join("tokenizer.json").exists() => {
                Some(Tokenizer::from_folder(folder)?)
            }
            Place::Folder(_) => None,
        };
        Ok(self.tokenizer.get_or_init(|| tokenizer).clone())
    }

    /// The tokenizer of a model that must have one.
    ///
    /// # Errors
    /// As [`tokenizer`](Self::tokenizer), and [`CheckpointError::NoTokenizer`].
    pub fn needed_tokenizer(&self) -> Result<Tokenizer, CheckpointError> {
        let none = || CheckpointError::NoTokenizer { name: self.name() };
        self.tokenizer()?.ok_or_else(none)
    }

    /// The chat template, `None` for a base model.
    ///
    /// # Errors
    /// A template that cannot be read.
    pub fn chat_template(&self) -> Result<Option<ChatTemplate>, CheckpointError> {
        Ok(match &self.place {
            #[cfg(feature = "demo")]
            Place::Demo => demo::chat_template()?,
            Place::Folder(folder) => ChatTemplate::from_folder(folder)?,
        })
    }

    /// The defaults of `generation_config.json`; none are set if there is no such file.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn generation_config(&self) -> Result<GenerationConfig, CheckpointError> {
        Ok(match &self.place {
            #[cfg(feature = "demo")]
            Place::Demo => demo::generation_config()?,
            Place::Folder(folder) => GenerationConfig::from_folder(folder)?.unwrap_or_default(),
        })
    }

    /// The defaults for generation, with the ids that end a text; see [`GenerateParams::new`]
    /// and [`GenerateParams::with_chat_stops`].
    ///
    /// # Errors
    /// Config, generation config or tokenizer cannot be read.
    pub fn generate_params(&self) -> Result<GenerateParams, CheckpointError> {
        let (config, generation) = (self.config()?, self.generation_config()?);
        let tokenizer = self.tokenizer()?;
        let params = GenerateParams::new(&config, &generation, tokenizer.as_ref());
        // Commands that need the template report one that cannot be read.
        let template = self.chat_template().ok().flatten();
        Ok(match template.zip(tokenizer) {
            Some((template, tokenizer)) => params.with_chat_stops(&template, &tokenizer),
            None => params,
        })
    }

    /// The weights as they are stored: checked, and mapped if they come from files.
    ///
    /// # Errors
    /// Weights that do not match `config`.
    pub fn weights(&self, config: &Olmo2Config) -> Result<Weights, CheckpointError> {
        Ok(match &self.place {
            #[cfg(feature = "demo")]
            Place::Demo => demo::weights(config)?,
            Place::Folder(folder) => format::open(folder, config)?,
        })
    }

    /// Loads the model onto a device.
    ///
    /// # Errors
    /// Config or weights cannot be read, or the backend does not compute in the precision asked for.
    pub fn load<B: Backend>(
        &self,
        options: &LoadOptions,
        device: &B::Device,
    ) -> Result<Olmo2<B>, CheckpointError> {
        let config = self.config()?;
        let weights = self.weights(&config)?;
        Ok(Olmo2::from_weights(&config, &weights, options, device)?)
    }
}

/// Models of the hub.
#[cfg(feature = "hub")]
impl Checkpoint {
    /// A folder, or an id of the hub such as `allenai/OLMo-2-0425-1B` at `revision` (a branch, a tag
    /// or a commit; `main` without one). Of `files`, those that the cache lacks are downloaded; the
    /// environment variables of Python's `huggingface_hub` say from where, and into which cache.
    ///
    /// # Errors
    /// As [`from_folder`](Self::from_folder), a revision given for a folder, a setting of the
    /// environment that makes no sense, or a failed download.
    pub fn find(
        name: &str,
        revision: Option<&str>,
        files: olmo2_hub::Files,
        progress: &mut dyn olmo2_hub::Progress,
    ) -> Result<Self, CheckpointError> {
        let hub = || Ok(Hub::new(HubOptions::from_env()?));
        Self::find_with(hub, name, revision, files, progress)
    }

    /// [`find`](Self::find) on a hub with settings of its own.
    ///
    /// # Errors
    /// As [`find`](Self::find), without those of the environment.
    pub fn find_on(
        hub: &Hub,
        name: &str,
        revision: Option<&str>,
        files: olmo2_hub::Files,
        progress: &mut dyn olmo2_hub::Progress,
    ) -> Result<Self, CheckpointError> {
        Self::find_with(|| Ok(hub), name, revision, files, progress)
    }

    /// Makes `hub` only when `name` is an id: a folder is opened whatever the environment says.
    fn find_with<H: Borrow<Hub>>(
        hub: impl FnOnce() -> Result<H, HubError>,
        name: &str,
        revision: Option<&str>,
        files: olmo2_hub::Files,
        progress: &mut dyn olmo2_hub::Progress,
    ) -> Result<Self, CheckpointError> {
        if Path::new(name).is_dir() {
            let checkpoint = Self::from_folder(name)?;
            return match revision {
                None => Ok(checkpoint),
                Some(_) => Err(CheckpointError::RevisionOfFolder { name: name.into() }),
            };
        }
        let Some(id) = parse_id(name)? else {
            return Self::from_folder(name);
        };
        let revision = revision.unwrap_or(DEFAULT_REVISION);
        let fetched = hub()?.borrow().fetch(&id, revision, files, progress);
        let folder = fetched.map_err(|source| match source {
            HubError::Network { .. } | HubError::RepoNotFound { .. } => {
                let name = name.into();
                CheckpointError::NeitherFolderNorOnHub { name, source }
            }
            source => source.into(),
        })?;
        Ok(Self::at(Place::Folder(folder)))
    }
}
