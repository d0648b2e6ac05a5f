//! The tokens of a prompt: from a text, a file, stdin, or ids.

use std::io::Read;
use std::path::Path;

use olmo2::{Checkpoint, CheckpointError, Tokenizer};

use crate::messages::{Context, Failure, Result};
use crate::request::PromptRequest;

/// A prompt, read but not yet encoded.
#[derive(Debug, Clone)]
pub(crate) enum Prompt {
    Text(String),
    Ids(Vec<u32>),
}

impl Prompt {
    /// Reads files as they are.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn read(request: &PromptRequest) -> Result<Self> {
        Ok(match request {
            PromptRequest::Ids(ids) => Self::Ids(ids.clone()),
            PromptRequest::Text(text) => Self::Text(text.clone()),
            PromptRequest::File(path) => Self::Text(read_text(path)?),
        })
    }

    /// Reads files without the line break at their end, which editors and `echo` add.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn read_trimmed(request: &PromptRequest) -> Result<Self> {
        let mut prompt = Self::read(request)?;
        if let (Self::Text(text), PromptRequest::File(_)) = (&mut prompt, request)
            && text.ends_with('\n')
        {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        Ok(prompt)
    }

    /// # Errors
    /// No tokens, a text without a tokenizer, or one that the tokenizer cannot encode.
    pub(crate) fn into_ids(
        self,
        checkpoint: &Checkpoint,
        tokenizer: Option<&Tokenizer>,
    ) -> Result<Vec<u32>> {
        let ids = match (self, tokenizer) {
            (Self::Ids(ids), _) => ids,
            (Self::Text(text), Some(tokenizer)) => tokenizer.encode(&text)?,
            (Self::Text(_), None) => {
                let name = checkpoint.name();
                return Err(CheckpointError::NoTokenizer { name }.into());
            }
        };
        if ids.is_empty() {
            let hint = "OLMo 2 puts no token before a text: give it at least one";
            return Err(Failure::new("the prompt has no tokens", hint));
        }
        Ok(ids)
    }
}

/// The text of a file, or of stdin for `-`.
///
/// # Errors
/// It cannot be read, or is not UTF-8.
fn read_text(path: &Path) -> Result<String> {
    let mut text = String::new();
    match path == Path::new("-") {
        true => {
            std::io::stdin()
                .read_to_string(&mut text)
                .context("cannot read stdin")?;
        }
        false => {
            text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read `{}`", path.display()))?;
        }
    }
    // Editors of Windows put a byte-order mark in front.
    match text.strip_prefix('\u{feff}') {
        Some(rest) => Ok(rest.to_owned()),
        None => Ok(text),
    }
}

/// Ids as `--ids` takes them.
pub(crate) fn join(ids: &[u32]) -> String {
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    ids.join(",")
}
