//! How a run ends: exit codes, and errors as one line with a hint.

mod hints;
mod usage;

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use olmo2::Hint;

pub(crate) use usage::show_usage;

/// A command that failed.
const FAILURE: u8 = 1;
/// A wrong command line.
const USAGE: u8 = 2;

/// What to do about logits that are not finite.
pub(crate) const NOT_FINITE: &str = "the weights hold NaN or infinities (`olmo2-cli check` \
    finds a damaged file of a record), or, with `--dtype f16`, the arithmetic overflowed";

/// What a command returns.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// Why a command failed, with what to do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    cause: Cause,
    /// What was tried, the outermost last.
    context: Vec<String>,
    hint: Option<String>,
    code: u8,
}

#[derive(Debug)]
enum Cause {
    /// An error of the library or the system.
    Error(Box<dyn Hint + Send + Sync>),
    /// An error of this program's own.
    Message(String),
    /// Errors that were shown where they happened: only the exit code is left to say.
    Shown,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..Self::message(message)
        }
    }

    /// An error without a hint.
    pub(crate) fn message(message: impl Into<String>) -> Self {
        Self::of(Cause::Message(message.into()))
    }

    /// A command line that clap accepts and that makes no sense.
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(message, hint).into_usage()
    }

    /// The same, blamed on the command line.
    pub(crate) fn into_usage(self) -> Self {
        Self {
            code: USAGE,
            ..self
        }
    }

    /// Errors were shown already.
    pub(crate) fn shown() -> Self {
        Self::of(Cause::Shown)
    }

    fn of(cause: Cause) -> Self {
        Self {
            cause,
            context: Vec::new(),
            hint: None,
            code: FAILURE,
        }
    }

    /// The same with what was tried.
    fn while_trying(mut self, context: String) -> Self {
        self.context.push(context);
        self
    }

    /// Whether the reader of stdout closed it: that is no failure.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        let Cause::Error(error) = &self.cause else {
            return false;
        };
        let error: &dyn std::error::Error = &**error;
        let error = error.downcast_ref::<io::Error>();
        error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Writes `error: ..` and `hint: ..` to stderr.
    pub(crate) fn show(&self) {
        if !matches!(self.cause, Cause::Shown) {
            write_lines(&self.to_string(), self.hint().as_deref());
        }
    }

    /// The exit code of a run, once its error was shown.
    pub(crate) fn exit_code(&self) -> ExitCode {
        if self.is_broken_pipe() {
            return ExitCode::SUCCESS;
        }
        self.show();
        ExitCode::from(self.code)
    }

    fn hint(&self) -> Option<String> {
        match (&self.hint, &self.cause) {
            (Some(hint), _) => Some(hint.clone()),
            (None, Cause::Error(error)) => hints::of(&**error),
            (None, _) => None,
        }
    }
}

impl<E: Hint + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::of(Cause::Error(Box::new(error)))
    }
}

/// What was tried and the chain of causes, as one line; what a message already repeats of its cause
/// is left out.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = self.context.iter().rev().cloned().collect();
        match &self.cause {
            Cause::Message(message) => parts.push(message.clone()),
            Cause::Shown => parts.push("something failed".into()),
            Cause::Error(error) => {
                let mut next: Option<&dyn std::error::Error> = Some(&**error);
                while let Some(error) = next {
                    parts.push(error.to_string());
                    next = error.source();
                }
            }
        }
        let mut text = String::new();
        for part in parts.iter().map(|part| one_line(part)) {
            if text.is_empty() {
                text = part;
            } else if !text.contains(&part) {
                text = format!("{text}: {part}");
            }
        }
        f.write_str(&text)
    }
}

/// Adds what was tried to an error.
pub(crate) trait Context<T> {
    fn context(self, context: impl Into<String>) -> Result<T>;
    fn with_context(self, context: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Failure>> Context<T> for std::result::Result<T, E> {
    fn context(self, context: impl Into<String>) -> Result<T> {
        self.map_err(|error| error.into().while_trying(context.into()))
    }

    fn with_context(self, context: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| error.into().while_trying(context()))
    }
}

/// Makes a failure of an error that has no hint, of whatever type.
pub(crate) fn plain(error: impl fmt::Display) -> Failure {
    Failure::message(error.to_string())
}

fn write_lines(message: &str, hint: Option<&str>) {
    let mut text = format!("error: {message}\n");
    if let Some(hint) = hint {
        text += &format!("hint: {}\n", one_line(hint));
    }
    // A closed stderr cannot be reported.
    let _ = io::stderr().write_all(text.as_bytes());
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_is_repeated_is_said_once() {
        let source = || Err::<(), _>(io::Error::other("the disk\nis gone"));
        let failure = source().context("cannot write `x`").expect_err("an error");
        assert_eq!(failure.to_string(), "cannot write `x`: the disk is gone");
        let repeated = source().context("cannot write `x`: the disk is gone");
        assert_eq!(
            repeated.expect_err("an error").to_string(),
            "cannot write `x`: the disk is gone"
        );
    }

    #[test]
    fn the_hint_of_the_cause_is_shown() {
        let failure = Err::<(), _>(Failure::new("no room", "make some")).context("while");
        let failure = failure.expect_err("an error");
        assert_eq!(failure.hint().as_deref(), Some("make some"));
        assert_eq!(failure.to_string(), "while: no room");
        assert_eq!(Failure::message("no hint").hint(), None);
        let error = olmo2::PrecisionError {
            backend: "x".into(),
            precision: "f16",
        };
        let hint = Failure::from(olmo2::LoadError::Precision(error)).hint();
        assert!(hint.expect("a hint").contains("`--dtype`"));
    }
}
