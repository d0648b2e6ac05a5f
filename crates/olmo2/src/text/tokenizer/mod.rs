//! Text to token ids and back: the `tokenizers` crate, with checks of its input.
//!
//! OLMo 2's tokenizers are byte-level BPE (dolma2, a variant of cl100k), and nothing else is
//! accepted: every text can be spelled, and a token is a run of bytes, so that decoding is joining.

mod bytes;
mod config;
mod error;
mod file;
mod stop;
mod stream;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

pub(crate) use config::{TemplateField, TokenizerConfig};

pub use config::SpecialTexts;
pub use error::TokenizerError;
pub use stop::{StopCheck, StopStrings};
pub use stream::DecodeStream;

/// A byte-level BPE tokenizer. Clones share one vocabulary.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
}

struct Inner {
    engine: tokenizers::Tokenizer,
    vocab_size: usize,
    bos: Option<u32>,
    eos: Option<u32>,
    pad: Option<u32>,
}

/// Whether special tokens, such as `<|endoftext|>`, are part of decoded text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialTokens {
    /// They are part of it, spelled out.
    Keep,
    /// They are left out.
    Skip,
}

impl Tokenizer {
    /// Reads `tokenizer.json` in a folder and, if it exists, `tokenizer_config.json`.
    ///
    /// # Errors
    /// [`TokenizerError::Io`] for a file that can't be read, else as [`from_bytes`](Self::from_bytes).
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Self, TokenizerError> {
        let folder = folder.as_ref();
        let json = read(folder, "tokenizer.json")?;
        let config = read_if_exists(folder, "tokenizer_config.json")?;
        Self::from_bytes(&json, config.as_deref())
    }

    /// A tokenizer from the contents of `tokenizer.json` and of `tokenizer_config.json`, which
    /// names the special tokens.
    ///
    /// # Errors
    /// Contents that are malformed, contradict themselves, or are not byte-level BPE.
    pub fn from_bytes(json: &[u8], config: Option<&[u8]>) -> Result<Self, TokenizerError> {
        let (engine, vocab_size) = file::parse(json)?;
        let special = match config {
            Some(json) => TokenizerConfig::from_bytes(json)?.special,
            None => SpecialTexts::default(),
        };
        let id = |role, text: Option<String>| {
            text.map(|token| {
                engine
                    .token_to_id(&token)
                    .ok_or(TokenizerError::UnknownSpecialToken { role, token })
            })
            .transpose()
        };
        let (bos, eos, pad) = (
            id("bos_token", special.bos_token)?,
            id("eos_token", special.eos_token)?,
            id("pad_token", special.pad_token)?,
        );
        Ok(Self {
            inner: Arc::new(Inner {
                engine,
                vocab_size,
                bos,
                eos,
                pad,
            }),
        })
    }

    /// The ids of a text. Adds nothing: OLMo 2 has no bos or eos around plain text. The text of
    /// an added token (`<|endoftext|>`) becomes that token, as in transformers; a chat template
    /// relies on it.
    ///
    /// # Errors
    /// [`TokenizerError::Engine`] where the regex engine gives up (after 10 million steps back
    /// at one place, as in 10 MB of spaces), or added tokens that strip spaces claim the same ones.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let engine = &self.inner.engine;
        // `onig` panics at its limit of steps, `tokenizers` at added tokens whose stripped spaces
        // overlap, and neither has a call that returns it. Nothing is left half-done: the engine
        // is not changed, and the BPE's cache is not borrowed in either place.
        let encoding = catch_unwind(AssertUnwindSafe(|| engine.encode_fast(text, false)));
        match encoding {
            Ok(encoding) => {
                let encoding = encoding.map_err(|error| TokenizerError::engine(&error))?;
                Ok(encoding.get_ids().to_vec())
            }
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                let message = text.unwrap_or("it panicked").to_owned();
                Err(TokenizerError::Engine { message })
            }
        }
    }

    /// The text of ids. Bytes that are not UTF-8 become U+FFFD; ids that are not in the
    /// vocabulary are left out.
    pub fn decode(&self, ids: &[u32], special: SpecialTokens) -> String {
        let mut bytes = Vec::new();
        for &id in ids {
            self.append_bytes(id, special, &mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Decodes ids one after another.
    pub fn decode_stream(&self, special: SpecialTokens) -> DecodeStream {
        DecodeStream::new(self.clone(), special)
    }

    /// One more than the largest id, added tokens included: 100278 for OLMo 2, whose models have
    /// 100352 rows. Ids at and beyond it must not be sampled.
    pub fn vocab_size(&self) -> usize {
        self.inner.vocab_size
    }

    /// The id that starts a sequence.
    pub fn bos(&self) -> Option<u32> {
        self.inner.bos
    }

    /// The id that ends a sequence: 100257 for OLMo 2.
    pub fn eos(&self) -> Option<u32> {
        self.inner.eos
    }

    /// The id that fills up a batch: 100277 for OLMo 2.
    pub fn pad(&self) -> Option<u32> {
        self.inner.pad
    }

    /// Whether [`SpecialTokens::Skip`] leaves this id out.
    pub fn is_special(&self, id: u32) -> bool {
        let engine = &self.inner.engine;
        engine
            .id_to_token(id)
            .is_some_and(|token| engine.get_added_vocabulary().is_special_token(&token))
    }

    /// A token as the vocabulary spells it: bytes as printable characters, `Ġ` for a space.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.engine.id_to_token(id)
    }

    /// The id of a token, spelled as the vocabulary does.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.engine.token_to_id(token)
    }

    /// The bytes of a token; they need not be UTF-8 on their own.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        let token = self.id_to_token(id)?;
        let mut bytes = Vec::new();
        bytes::append_bytes(&token, &mut bytes);
        Some(bytes)
    }

    fn append_bytes(&self, id: u32, special: SpecialTokens, bytes: &mut Vec<u8>) {
        let engine = &self.inner.engine;
        let Some(token) = engine.id_to_token(id) else {
            return;
        };
        let skipped = special == SpecialTokens::Skip
            && engine.get_added_vocabulary().is_special_token(&token);
        if !skipped {
            bytes::append_bytes(&token, bytes);
        }
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.inner.vocab_size)
            .field("bos", &self.inner.bos)
            .field("eos", &self.inner.eos)
            .field("pad", &self.inner.pad)
            .finish_non_exhaustive()
    }
}

pub(crate) fn read(folder: &Path, name: &str) -> Result<Vec<u8>, TokenizerError> {
    let path = folder.join(name);
    std::fs::read(&path).map_err(|source| TokenizerError::Io { path, source })
}

/// `None` if the folder has no such file.
pub(crate) fn read_if_exists(folder: &Path, name: &str) -> Result<Option<Vec<u8>>, TokenizerError> {
    match read(folder, name) {
        Err(TokenizerError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Ok(None)
        }
        read => read.map(Some),
    }
}

#[cfg(test)]
pub(crate) mod tests;
