//! How much is said on stderr beside errors.

use std::io::{self, Write};

/// Notes by default, details with `--verbose`, neither with `--quiet`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Verbosity {
    verbose: bool,
    quiet: bool,
}

impl Verbosity {
    pub(crate) fn new(verbose: bool, quiet: bool) -> Self {
        Self { verbose, quiet }
    }

    /// A line for all users; not with `--quiet`.
    pub(crate) fn say(self, text: impl std::fmt::Display) {
        if !self.quiet {
            write_line(format_args!("{text}"));
        }
    }

    /// Something that the user should know; not with `--quiet`.
    pub(crate) fn note(self, text: impl std::fmt::Display) {
        self.say(format_args!("note: {text}"));
    }

    /// Something that only `--verbose` shows.
    pub(crate) fn detail(self, text: impl std::fmt::Display) {
        if self.verbose {
            write_line(format_args!("{text}"));
        }
    }

    /// Whether progress may be drawn.
    pub(crate) fn is_quiet(self) -> bool {
        self.quiet
    }
}

/// Writes a line to stderr; a closed stderr does not end the program.
fn write_line(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{text}");
}
