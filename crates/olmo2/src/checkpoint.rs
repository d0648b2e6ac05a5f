//! A model's files, opened as one: a folder, a record, an id of the hub, or the embedded demo.

use std::path::{Path, PathBuf};

use burn::prelude::*;
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

/// A model's files. Each is read when it is asked for.
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
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
        /// What was asked for.
        name: String,
    },
    /// A file where a folder is expected.
    #[error("`{name}` is not a folder")]
    NotAFolder {
        /// What was asked for.
        name: String,
    },
    /// A folder without a config.
    #[error("the folder `{folder}` has no `config.json`", folder = folder.display())]
    NoConfig {
        /// The folder.
        folder: PathBuf,
    },
    /// A revision of a folder.
    #[error("a revision belongs to an id of the hub, and `{name}` is a folder")]
    RevisionOfFolder {
        /// What was asked for.
        name: String,
    },
    /// The model has no tokenizer.
    #[error("{name} has no `tokenizer.json`")]
    NoTokenizer {
        /// What the model is called.
        name: String,
    },
    /// The hub.
    #[cfg(feature = "hub")]
    #[error(transparent)]
    Hub(#[from] olmo2_hub::HubError),
    /// No local folder, and the hub cannot be reached or has no such model: perhaps a folder was
    /// meant.
    #[cfg(feature = "hub")]
    #[error("`{name}` is not a local folder; on the hub: {source}")]
    NeitherFolderNorOnHub {
        /// What was asked for.
        name: String,
        /// What the hub answers.
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
            Self::NoFolder { .. } | Self::NotAFolder { .. } => {
                "a model is the folder of a checkpoint, or an id of the hub such as \
                 `allenai/OLMo-2-0425-1B`"
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
    /// A folder of a Hugging Face checkpoint or of a record.
    ///
    /// # Errors
    /// There is no such folder, or it has no `config.json`. What is wrong in a file is an error when
    /// that file is read.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, CheckpointError> {
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
            true => Ok(Self {
                place: Place::Folder(folder),
            }),
            false => Err(CheckpointError::NoConfig { folder }),
        }
    }

    /// The model that is part of this crate.
    #[cfg(feature = "demo")]
    pub fn demo() -> Self {
        Self { place: Place::Demo }
    }

    /// The folder, if it is one.
    pub fn folder(&self) -> Option<&Path> {
        match &self.place {
            #[cfg(feature = "demo")]
            Place::Demo => None,
            Place::Folder(folder) => Some(folder),
        }
    }

    /// What the model is called in messages.
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

    /// The tokenizer, `None` where there is none.
    ///
    /// # Errors
    /// A tokenizer that cannot be read.
    pub fn tokenizer(&self) -> Result<Option<Tokenizer>, CheckpointError> {
        Ok(match &self.place {
            #[cfg(feature = "demo")]
            Place::Demo => Some(demo::tokenizer()?),
            Place::Folder(folder) if folder.join("tokenizer.json").exists() => {
                Some(Tokenizer::from_folder(folder)?)
            }
            Place::Folder(_) => None,
        })
    }

    /// The tokenizer, where nothing can be done without.
    ///
    /// # Errors
    /// As [`tokenizer`](Self::tokenizer), and where there is none.
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

    /// The defaults of `generation_config.json`; nothing is set where there is no such file.
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

    /// The defaults for generation, with the ids that end a text; see [`GenerateParams::new`].
    ///
    /// # Errors
    /// Config, generation config or tokenizer cannot be read.
    pub fn generate_params(&self) -> Result<GenerateParams, CheckpointError> {
        let (config, generation) = (self.config()?, self.generation_config()?);
        let tokenizer = self.tokenizer()?;
        Ok(GenerateParams::new(
            &config,
            &generation,
            tokenizer.as_ref(),
        ))
    }

    /// The weights as they are stored: checked, and mapped where they are a file's.
    ///
    /// # Errors
    /// Weights that are not those of `config`.
    pub fn weights(&self, config: &Olmo2Config) -> Result<Weights, CheckpointError> {
        Ok(match &self.place {
            #[cfg(feature = "demo")]
            Place::Demo => demo::weights(config)?,
            Place::Folder(folder) => format::open(folder, config)?,
        })
    }

    /// The model on a device.
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

/// From the hub.
#[cfg(feature = "hub")]
impl Checkpoint {
    /// A folder, or an id of the hub such as `allenai/OLMo-2-0425-1B`, whose files are downloaded as
    /// far as `files` says and the cache lacks them.
    ///
    /// # Errors
    /// As [`open`](Self::open), a revision of a folder, and what the hub answers.
    pub fn find(
        name: &str,
        revision: Option<&str>,
        files: olmo2_hub::Files,
        progress: &mut dyn olmo2_hub::Progress,
    ) -> Result<Self, CheckpointError> {
        use olmo2_hub::{DEFAULT_REVISION, Hub, HubError, HubOptions, parse_id};

        if Path::new(name).is_dir() {
            let checkpoint = Self::open(name)?;
            return match revision {
                None => Ok(checkpoint),
                Some(_) => Err(CheckpointError::RevisionOfFolder { name: name.into() }),
            };
        }
        let Some(id) = parse_id(name)? else {
            return Self::open(name);
        };
        let hub = Hub::new(HubOptions::from_env()?);
        let fetched = hub.fetch(&id, revision.unwrap_or(DEFAULT_REVISION), files, progress);
        let folder = fetched.map_err(|source| match source {
            HubError::Network { .. } | HubError::RepoNotFound { .. } => {
                let name = name.into();
                CheckpointError::NeitherFolderNorOnHub { name, source }
            }
            source => source.into(),
        })?;
        Ok(Self {
            place: Place::Folder(folder),
        })
    }
}
