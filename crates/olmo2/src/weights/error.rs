//! Errors of weights: each names the file and, if there is one, the tensor.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::layout::RECEIPT;
use crate::hint::Hint;

/// Why the weights of a folder cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// A file cannot be read or mapped.
    #[error("cannot read `{path}`: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The folder holds no weights in a known format.
    #[error("no weights in `{folder}`: expected a record, `model.safetensors` or `model.safetensors.index.json`, found {found}", folder = folder.display())]
    NoWeights {
        /// The folder.
        folder: PathBuf,
        /// The files of weights in other formats, if any.
        found: String,
    },
    /// A record whose conversion did not finish.
    #[error("`{folder}` is an unfinished record: expected {expected} parts, found {done}; `{part}` is missing", folder = folder.display())]
    Incomplete {
        /// The folder.
        folder: PathBuf,
        /// The first part that is missing.
        part: String,
        /// Parts that the receipt lists.
        done: usize,
        /// Number of the model's parts.
        expected: usize,
    },
    /// A file that is malformed or cut short.
    #[error("`{file}` is damaged: {reason}", file = file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// The fault, with expected and found values.
        reason: String,
    },
    /// A tensor, or a field of an index or a receipt, that is not as expected.
    #[error("`{file}`: {what} of `{name}`: expected {expected}, found {found}", file = file.display())]
    Mismatch {
        /// The file (the folder, where no file holds the tensor).
        file: PathBuf,
        /// The tensor or field.
        name: String,
        /// Shape, dtype, offsets, file, ...
        what: &'static str,
        /// The value that the config or the file format requires.
        expected: String,
        /// The value in the file.
        found: String,
    },
    /// A tensor of the model that no file holds.
    #[error("`{file}`: tensor `{tensor}` is missing: expected shape {shape:?}, found no such tensor", file = file.display())]
    Missing {
        /// The file or folder that was searched.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape according to the config.
        shape: Vec<usize>,
    },
    /// A tensor that the model does not have.
    #[error("`{file}`: tensor `{tensor}` is surplus: expected no such tensor after `config.json`, found shape {shape:?}", file = file.display())]
    Surplus {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape in the file.
        shape: Vec<usize>,
    },
    /// A file of another kind, such as a git-lfs pointer or a web page.
    #[error("`{file}`: expected safetensors, found {kind}", file = file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// What it is.
        kind: String,
    },
    /// Weights that another tool quantized.
    #[error("the weights in `{folder}` are quantized by another tool ({method}), which is not read here", folder = folder.display())]
    Quantized {
        /// The folder.
        folder: PathBuf,
        /// The method, as `config.json` names it.
        method: String,
    },
    /// A head with values of its own in a checkpoint whose config ties it to the embedding.
    #[error("`{file}`: `lm_head.weight` is not the embedding, as `tie_word_embeddings` in `config.json` says", file = file.display())]
    UntiedHead {
        /// The file.
        file: PathBuf,
    },
    /// A norm before attention: the checkpoint is of another model, such as Llama.
    #[error("`{file}`: tensor `{tensor}` is not of OLMo 2: expected norms after attention and feed-forward only, found one before", file = file.display())]
    NotOlmo2 {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
    },
}

impl WeightsError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn damaged(file: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged {
            file: file.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn mismatch(
        file: &Path,
        what: &'static str,
        name: &str,
        expected: impl Display,
        found: impl Display,
    ) -> Self {
        Self::Mismatch {
            file: file.to_owned(),
            name: name.to_owned(),
            what,
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }
}

impl Hint for WeightsError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoWeights { found, .. } if found.contains(".bin") => {
                "PyTorch's pickled files are not read: take the checkpoint's safetensors files"
            }
            Self::NoWeights { found, .. } if found.contains("adapter_model") => {
                "an adapter must be merged into its base model first"
            }
            Self::NoWeights { .. } => "a checkpoint folder holds its weights beside `config.json`",
            Self::Incomplete { .. } => "run the conversion again: it resumes",
            Self::Mismatch { name, .. } if name == "format_version" => {
                "remove the folder and convert the checkpoint again with this version"
            }
            Self::Damaged { file, .. } if file.ends_with(RECEIPT) => {
                "remove the folder and convert the checkpoint again"
            }
            Self::Damaged { .. } => "fetch or convert the file again",
            Self::Mismatch { what: "BLAKE3", .. } => {
                "the file is damaged: run the conversion again, which replaces it"
            }
            Self::Missing { tensor, .. } if tensor == "lm_head.weight" => {
                "the checkpoint has no head: its body alone was saved, or \
                 `tie_word_embeddings` in `config.json` should be true"
            }
            Self::Surplus { tensor, .. } if tensor.ends_with("score.weight") => {
                "that is the head of a classifier (`Olmo2ForSequenceClassification`): only language \
                 models run here"
            }
            Self::Mismatch {
                what: "shape",
                found,
                ..
            } if found == "[0]" => {
                "the weights were saved without being gathered from all devices (ZeRO-3, FSDP)"
            }
            Self::Quantized { .. } => {
                "take the unquantized checkpoint: `--quantize q8` or `q4` quantizes it here"
            }
            Self::UntiedHead { .. } => {
                "set `tie_word_embeddings` to false to run the file's own head"
            }
            Self::Foreign { .. } => "fetch the file again, or convert it to safetensors",
            Self::Missing { .. } | Self::Surplus { .. } => {
                "`config.json` and the weights must come from the same checkpoint"
            }
            Self::NotOlmo2 { .. } => "only OLMo 2 checkpoints run here",
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "a file of the model is missing: fetch or convert it again"
            }
            Self::Io { .. } | Self::Mismatch { .. } => return None,
        };
        Some(hint.into())
    }
}
