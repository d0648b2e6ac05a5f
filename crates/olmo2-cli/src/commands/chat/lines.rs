//! The lines of a chat: an editor with a history on a terminal, plain lines from a pipe.

use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;

use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::messages::{Context, Result, plain};

/// Where lines come from.
pub(super) enum Lines {
    Terminal {
        editor: Box<DefaultEditor>,
        history: Option<PathBuf>,
    },
    Pipe(io::StdinLock<'static>),
}

impl Lines {
    /// # Errors
    /// The terminal cannot be edited on.
    pub(super) fn open() -> Result<Self> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Ok(Self::Pipe(io::stdin().lock()));
        }
        let mut editor = Box::new(DefaultEditor::new().map_err(plain)?);
        let history = history_file();
        if let Some(path) = &history {
            // The first chat has none.
            let _ = editor.load_history(path);
        }
        Ok(Self::Terminal { editor, history })
    }

    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal { .. })
    }

    /// The next line, without its end; `None` at the end of input.
    ///
    /// # Errors
    /// Input that cannot be read, or is not UTF-8.
    pub(super) fn next(&mut self) -> Result<Option<String>> {
        match self {
            Self::Pipe(stdin) => {
                let mut line = String::new();
                let read = stdin.read_line(&mut line).context("cannot read stdin")?;
                let line = line.trim_end_matches(['\n', '\r']).to_owned();
                Ok((read > 0).then_some(line))
            }
            Self::Terminal { editor, .. } => loop {
                match editor.readline("> ") {
                    Ok(line) => {
                        editor.add_history_entry(&line).map_err(plain)?;
                        return Ok(Some(line));
                    }
                    // Ctrl-C on a line drops the line.
                    Err(ReadlineError::Interrupted) => {}
                    Err(ReadlineError::Eof) => return Ok(None),
                    Err(error) => return Err(plain(error)),
                }
            },
        }
    }

    /// Saves the history for the next chat, where a home folder exists.
    pub(super) fn close(self) {
        if let Self::Terminal {
            mut editor,
            history: Some(path),
        } = self
        {
            // A chat is not lost with its history.
            let folder = path.parent().map(std::fs::create_dir_all);
            if matches!(folder, Some(Ok(()))) {
                let _ = editor.save_history(&path);
            }
        }
    }
}

/// `olmo2-cli/history` in the folder for state that the XDG specification names.
fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let state = state
        .filter(|path| path.is_absolute())
        .or_else(|| Some(std::env::home_dir()?.join(".local/state")))?;
    Some(state.join("olmo2-cli/history"))
}
