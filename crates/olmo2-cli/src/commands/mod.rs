//! The commands, a file or a folder each.

mod accuracy;
mod bench;
mod chat;
mod check;
mod compare;
mod completions;
mod convert;
mod distance;
mod fixed_ids;
mod generate;
mod json;
mod logits;
mod models;
mod perplexity;
mod to_host;
mod tokenize;

use crate::args::Request;
use crate::messages::Result;

/// Runs one command.
///
/// # Errors
/// Those of the command.
pub(crate) fn run(request: Request) -> Result<()> {
    match request {
        Request::Generate(request) => generate::run(&request),
        Request::Chat(request) => chat::run(&request),
        Request::Tokenize(request) => tokenize::run(&request),
        Request::Logits(request) => logits::run(&request),
        Request::Perplexity(request) => perplexity::run(&request),
        Request::Bench(request) => bench::run(&request),
        Request::Convert(request) => convert::run(&request),
        Request::Check(request) => check::run(&request),
        Request::Accuracy(request) => accuracy::run(&request),
        Request::Compare(request) => compare::run(&request),
        Request::Models(request) => models::run(&request),
        Request::Completions(shell) => completions::run(shell),
    }
}
