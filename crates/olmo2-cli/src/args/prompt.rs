//! The arguments that give a prompt.

use std::path::PathBuf;

use clap::Args;

/// A text, a file or ids.
#[derive(Debug, Clone, Args)]
pub(crate) struct PromptArgs {
    /// Text to start from
    #[arg(conflicts_with_all = ["ids", "prompt_file"])]
    pub(crate) prompt: Option<String>,
    /// Token ids in place of a text; the model then needs no tokenizer
    #[arg(
        long,
        value_name = "ID,ID,..",
        value_delimiter = ',',
        value_parser = parse_id,
        conflicts_with = "prompt_file"
    )]
    pub(crate) ids: Option<Vec<u32>>,
    /// Read the text from a file, `-` for stdin; a line break at its end is dropped
    #[arg(long, value_name = "FILE")]
    pub(crate) prompt_file: Option<PathBuf>,
}

/// Pasted lists have blanks around their ids.
pub(super) fn parse_id(text: &str) -> Result<u32, String> {
    let id = text.trim().parse();
    id.map_err(|_| "expected token ids, as in `1,2,3`".into())
}
