//! `tokenize`: ids of a text, or the text of ids.

use std::io::{self, IsTerminal, Write};

use olmo2::Tokenizer;
use olmo2::hub::Files;
use olmo2::tokenizer::SpecialTokens;
use serde::Serialize;

use super::json::print_json;
use crate::messages::{Failure, Result};
use crate::model::find;
use crate::prompt::{Prompt, join};
use crate::request::TokenizeRequest;

pub(super) fn run(request: &TokenizeRequest) -> Result<()> {
    let input = Prompt::read(&request.input)?;
    let checkpoint = find(&request.model, Files::NoWeights)?;
    let tokenizer = checkpoint.needed_tokenizer()?;
    request.model.verbosity.detail(format_args!(
        "tokenizer of {}: {} ids",
        checkpoint.name(),
        tokenizer.vocab_size()
    ));
    let (ids, is_encoded) = match input {
        Prompt::Text(text) => (tokenizer.encode(&text)?, true),
        Prompt::Ids(ids) => (known(ids, &tokenizer)?, false),
    };
    if request.json {
        return print_json(&Report::new(&tokenizer, &ids));
    }
    let mut out = io::stdout().lock();
    match is_encoded {
        true => writeln!(out, "{}", join(&ids))?,
        false => {
            write!(out, "{}", tokenizer.decode(&ids, SpecialTokens::Keep))?;
            // On a terminal the shell's prompt then starts on a new line.
            if out.is_terminal() {
                writeln!(out)?;
            }
        }
    }
    Ok(out.flush()?)
}

/// Ids that all have a token.
///
/// # Errors
/// An id without a token: its text would silently be empty.
fn known(ids: Vec<u32>, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    match ids.iter().find(|id| tokenizer.id_to_token(**id).is_none()) {
        None => Ok(ids),
        Some(id) => Err(Failure::new(
            format!(
                "there is no token {id}: the vocabulary has ids below {}",
                tokenizer.vocab_size()
            ),
            "do the ids come from this model's tokenizer?",
        )),
    }
}

/// The object of `--json`.
#[derive(Debug, Serialize)]
struct Report<'a> {
    token_ids: &'a [u32],
    /// The text of each id on its own.
    tokens: Vec<String>,
    text: String,
}

impl<'a> Report<'a> {
    fn new(tokenizer: &Tokenizer, ids: &'a [u32]) -> Self {
        let token = |id: &u32| {
            let bytes = tokenizer.token_bytes(*id)?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        };
        Self {
            token_ids: ids,
            tokens: ids.iter().filter_map(token).collect(),
            text: tokenizer.decode(ids, SpecialTokens::Keep),
        }
    }
}
