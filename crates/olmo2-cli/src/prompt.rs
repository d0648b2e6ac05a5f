//! The tokens that a command starts from: a text, a file, stdin, or ids.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use olmo2::Tokenizer;

use crate::args::PromptArgs;
use crate::model::{Source, no_tokenizer};

/// What was given as a prompt, read but not yet encoded.
#[derive(Debug, Clone)]
pub(crate) enum Prompt {
    Text(String),
    Ids(Vec<u32>),
}

impl Prompt {
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn read(args: &PromptArgs) -> Result<Self> {
        if let Some(ids) = &args.ids {
            return Ok(Self::Ids(ids.clone()));
        }
        if let Some(path) = &args.prompt_file {
            let mut text = read_text(path)?;
            // Editors and `echo` end a file with a line break that nobody means.
            if text.ends_with('\n') {
                text.pop();
                if text.ends_with('\r') {
                    text.pop();
                }
            }
            return Ok(Self::Text(text));
        }
        Ok(Self::Text(args.prompt.clone().unwrap_or_default()))
    }

    /// # Errors
    /// A text without a tokenizer, or one that the tokenizer cannot encode.
    pub(crate) fn into_ids(
        self,
        source: &Source,
        tokenizer: Option<&Tokenizer>,
    ) -> Result<Vec<u32>> {
        match (self, tokenizer) {
            (Self::Ids(ids), _) => Ok(ids),
            (Self::Text(text), Some(tokenizer)) => Ok(tokenizer.encode(&text)?),
            (Self::Text(_), None) => Err(no_tokenizer(source).into()),
        }
    }
}

/// The text of a file, or of stdin for `-`.
///
/// # Errors
/// It cannot be read, or is not UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read stdin")?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))
}

/// Ids as `--ids` takes them.
pub(crate) fn join(ids: &[u32]) -> String {
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    ids.join(",")
}
