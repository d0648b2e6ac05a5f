//! Errors of a tokenizer and of its input.

use std::path::PathBuf;

use crate::config::json::JsonError;
use crate::hint::Hint;

/// Why a tokenizer can't be read, or can't encode a text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A file that can't be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// A file that is not JSON of the expected form.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A part of `tokenizer.json` that the `tokenizers` crate can't read.
    #[error("`{part}` in `tokenizer.json` is not valid: {source}")]
    Part {
        /// The key.
        part: &'static str,
        /// The parser's error.
        source: serde_json::Error,
    },
    /// A tokenizer other than byte-level BPE.
    #[error("`{part}` in `tokenizer.json` must be {expected}, found `{found}`")]
    Unsupported {
        /// The key.
        part: &'static str,
        /// The supported kinds.
        expected: &'static str,
        /// The kind in the file.
        found: String,
    },
    /// An id of 2^24 or more.
    #[error("token `{token}` has id {id}, expected an id below 2^24")]
    IdTooLarge {
        /// The token.
        token: String,
        /// Its id.
        id: u32,
    },
    /// Two tokens with one id.
    #[error("id {id} belongs to both `{}` and `{}`", tokens[0], tokens[1])]
    SharedId {
        /// The id.
        id: u32,
        /// Two tokens that have it.
        tokens: [String; 2],
    },
    /// A byte without a token: some texts could not be encoded.
    #[error("the vocabulary has no token for byte {byte:#04x}")]
    MissingByte {
        /// The byte.
        byte: u8,
    },
    /// A merge of tokens, or into a token, that the vocabulary lacks.
    #[error("the merge of `{left}` and `{right}` names a token that is not in the vocabulary")]
    UnknownMerge {
        /// Its left part.
        left: String,
        /// Its right part.
        right: String,
    },
    /// An added token without text.
    #[error("the added token with id {id} is empty")]
    EmptyAddedToken {
        /// Its id.
        id: u32,
    },
    /// An added token that is listed twice.
    #[error("the added token `{token}` is listed twice")]
    AddedTwice {
        /// The token.
        token: String,
    },
    /// An added token whose id is not the one that it has or would get in the vocabulary.
    #[error("the added token `{token}` must have id {expected}, found {found}")]
    AddedTokenId {
        /// The token.
        token: String,
        /// Its id by the vocabulary.
        expected: u32,
        /// Its id by `added_tokens`.
        found: u32,
    },
    /// A special token of `tokenizer_config.json` that the vocabulary lacks.
    #[error("`{role}` is `{token}`, which is not in the vocabulary")]
    UnknownSpecialToken {
        /// Its key in `tokenizer_config.json`.
        role: &'static str,
        /// The token.
        token: String,
    },
    /// A stop string that would stop every text at once.
    #[error("a stop string must not be empty")]
    EmptyStopString,
    /// An error of the `tokenizers` crate.
    #[error("the tokenizer failed: {message}")]
    Engine {
        /// Its text.
        message: String,
    },
}

impl TokenizerError {
    pub(super) fn engine(error: &tokenizers::Error) -> Self {
        Self::Engine {
            message: error.to_string(),
        }
    }
}

impl Hint for TokenizerError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Io { .. } => "a model runs without a tokenizer, on token ids",
            Self::Json(_) | Self::Part { .. } => {
                "the file may be cut short or a Git LFS pointer: download it again"
            }
            Self::Unsupported { .. } => "OLMo 2's tokenizers are byte-level BPE",
            Self::EmptyStopString => "leave the stop string out",
            Self::Engine { .. } => return None,
            _ => "the file contradicts itself: download it again",
        };
        Some(hint.to_owned())
    }
}
