//! What is said on stderr beside errors: notes, and details for who asked for them.

use std::io::{self, Write};

use crate::args::SourceArgs;

/// How much is said.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Talk {
    verbose: bool,
    quiet: bool,
}

impl Talk {
    pub(crate) fn new(args: &SourceArgs) -> Self {
        Self {
            verbose: args.verbose,
            quiet: args.quiet,
        }
    }

    /// For a command that loads no model.
    pub(crate) fn with_quiet(quiet: bool) -> Self {
        Self {
            verbose: false,
            quiet,
        }
    }

    /// Something that the user should know; not with `--quiet`.
    pub(crate) fn note(self, text: impl std::fmt::Display) {
        if !self.quiet {
            say(format_args!("note: {text}"));
        }
    }

    /// Something that only `--verbose` shows.
    pub(crate) fn detail(self, text: impl std::fmt::Display) {
        if self.verbose {
            say(format_args!("{text}"));
        }
    }

    /// Whether progress may be drawn.
    pub(crate) fn is_quiet(self) -> bool {
        self.quiet
    }
}

/// Writes a line to stderr; a closed one is nobody's loss.
fn say(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{text}");
}
