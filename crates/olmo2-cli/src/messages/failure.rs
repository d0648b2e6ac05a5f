//! How a run ends: exit codes, and errors as one line with a hint.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use olmo2::chat::ChatError;
use olmo2::config::generation::GenerationConfigError;
use olmo2::hub::HubError;
use olmo2::tokenizer::TokenizerError;
use olmo2::{
    CacheDtypeError, ConfigError, GenerateError, InputError, LoadError, PrecisionError,
    QuantizeError, SamplingError, WeightsError,
};

/// A command that was asked for what cannot be, or did not manage it.
const FAILURE: u8 = 1;
/// A command line that makes no sense.
const USAGE: u8 = 2;

/// What to do about logits that are no numbers.
pub(crate) const NOT_FINITE: &str = "the weights hold NaN or infinities (`olmo2-cli verify` \
    finds a damaged file of a record), or, with `--dtype f16`, the arithmetic overflowed";

/// An error of this program's own, with what to do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    hint: Option<String>,
    code: u8,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: Some(hint.into()),
            code: FAILURE,
        }
    }

    /// A command line that clap takes and that still makes no sense.
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            code: USAGE,
            ..Self::new(message, hint)
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// A failure that was told where it happened: only the exit code is left to say.
#[derive(Debug)]
pub(crate) struct Told;

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("something failed")
    }
}

impl std::error::Error for Told {}

/// The exit code of a run, after its error has been told.
pub(crate) fn exit_code(result: &anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    // Who closed stdout has read enough.
    if is_broken_pipe(error) {
        return ExitCode::SUCCESS;
    }
    if error.downcast_ref::<Told>().is_none() {
        tell(error);
    }
    let own = error.downcast_ref::<Failure>();
    ExitCode::from(own.map_or(FAILURE, |own| own.code))
}

/// Whether stdout was closed by its reader.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Writes `error: ..` and `hint: ..` to stderr.
pub(crate) fn tell(error: &anyhow::Error) {
    write_lines(&message(error), hint(error).as_deref());
}

/// What clap has to say: help and versions as they are, errors as one line and a hint.
pub(crate) fn tell_usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A closed stdout has no use for help.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
        }
        _ => {
            let (message, hint) = split_usage(&error.render().to_string());
            write_lines(&message, Some(&hint));
        }
    }
    ExitCode::from(USAGE)
}

fn write_lines(message: &str, hint: Option<&str>) {
    let mut text = format!("error: {message}\n");
    if let Some(hint) = hint {
        text += &format!("hint: {}\n", one_line(hint));
    }
    // Nobody is left to be told that stderr is closed.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// clap's paragraphs: the error, perhaps a tip or the possible values, the usage.
fn split_usage(text: &str) -> (String, String) {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let mut message = first.strip_prefix("error: ").unwrap_or(first).to_owned();
    let mut hint = String::new();
    for line in lines {
        if line.starts_with("Usage:") || line.starts_with("For more information") {
            break;
        }
        match line.strip_prefix("tip: ") {
            Some(tip) => hint = tip.to_owned(),
            None if line.starts_with('[') => hint = line.trim_matches(['[', ']']).to_owned(),
            None => message = format!("{message} {line}"),
        }
    }
    if hint.is_empty() {
        hint = "`--help` behind the command lists its arguments".into();
    }
    (message, hint)
}

/// The chain of causes as one line; causes that a message already repeats are left out.
fn message(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = one_line(&cause.to_string());
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Hints that name this program's own flags and commands, which the library does not know.
fn own_hint(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(own) = cause.downcast_ref::<Failure>() {
        return own.hint.clone();
    }
    let of_load = cause.downcast_ref::<LoadError>();
    if cause.is::<PrecisionError>() || matches!(of_load, Some(LoadError::Precision(_))) {
        return Some("choose another `--dtype`; f32 runs everywhere".into());
    }
    if cause.is::<CacheDtypeError>() {
        let hint = "choose another `--cache-dtype`; f32 runs everywhere, the others on flex";
        return Some(hint.into());
    }
    if let Some(LoadError::Quantize(QuantizeError::Already { .. })) = of_load {
        let hint = "the weights are quantized already: leave `--quantize` out, or start from the \
                    checkpoint's floats";
        return Some(hint.into());
    }
    if let Some(InputError::Capacity { .. }) = cause.downcast_ref() {
        return Some("make room with `--context N`, or shorten the prompt".into());
    }
    let fixed = match cause.downcast_ref()? {
        GenerateError::Sampling(
            SamplingError::NotFinite { .. } | SamplingError::NothingToSample { .. },
        ) => NOT_FINITE,
        GenerateError::TooLong {
            which: "context", ..
        } => "raise `--context`, or lower `--max-new-tokens`",
        GenerateError::TooLong { prompt, limit, .. } if prompt >= limit => return None,
        GenerateError::TooLong { .. } => "lower `--max-new-tokens`, or shorten the prompt",
        _ => return None,
    };
    Some(fixed.into())
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// As [`own_hint`], of the hub.
fn hub_hint(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    match cause.downcast_ref()? {
        HubError::NothingCached { .. } => {
            Some("`olmo2-cli models list` shows what it holds".into())
        }
        HubError::RevisionNotFound { id, .. } => Some(format!(
            "`olmo2-cli models revisions {id}` lists what there is"
        )),
        HubError::Io { source, .. } if is_full(source) => {
            let hint = "free some space (`olmo2-cli models remove ID`), or set `HF_HUB_CACHE` to \
                        another disk";
            Some(hint.into())
        }
        _ => None,
    }
}

/// The first error of the chain that has a hint.
fn hint(error: &anyhow::Error) -> Option<String> {
    macro_rules! ask {
        ($cause:expr, $($error:ty),+) => {
            $(if let Some(error) = $cause.downcast_ref::<$error>() {
                return error.hint();
            })+
        };
    }
    let of = |cause: &(dyn std::error::Error + 'static)| -> Option<String> {
        if let Some(hint) = own_hint(cause).or_else(|| hub_hint(cause)) {
            return Some(hint);
        }
        ask!(
            cause,
            LoadError,
            ConfigError,
            WeightsError,
            GenerateError,
            InputError,
            CacheDtypeError,
            SamplingError,
            TokenizerError,
            ChatError,
            HubError,
            GenerationConfigError
        );
        None
    };
    error.chain().find_map(of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_cause_that_is_repeated_is_told_once() {
        let source = || io::Error::other("the disk\nis gone");
        let plain = anyhow::Error::from(source()).context("cannot write `x`");
        assert_eq!(message(&plain), "cannot write `x`: the disk is gone");
        let told = Err::<(), _>(source()).context("cannot write `x`: the disk is gone");
        assert_eq!(
            message(&told.expect_err("an error")),
            "cannot write `x`: the disk is gone"
        );
    }

    #[test]
    fn the_first_hint_of_the_chain_is_told() {
        let error = anyhow::Error::from(Failure::new("no room", "make some")).context("while");
        assert_eq!(hint(&error).as_deref(), Some("make some"));
        assert_eq!(message(&error), "while: no room");
        assert_eq!(hint(&anyhow::anyhow!("no hint")), None);
    }

    #[test]
    fn paragraphs_of_clap_become_one_line_and_a_hint() {
        let text = "error: the following required arguments were not provided:\n  --out <FILE>\n\n\
                    Usage: olmo2-cli logits --out <FILE>\n\nFor more information, try '--help'.\n";
        let (message, hint) = split_usage(text);
        assert_eq!(
            message,
            "the following required arguments were not provided: --out <FILE>"
        );
        assert_eq!(hint, "`--help` behind the command lists its arguments");
        let text =
            "error: invalid value 'x' for '--dtype <DTYPE>'\n  [possible values: f32, bf16]\n";
        assert_eq!(split_usage(text).1, "possible values: f32, bf16");
    }
}
