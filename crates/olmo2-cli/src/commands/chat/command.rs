//! A line of a chat: a message, or a command.

use std::path::PathBuf;

use crate::messages::{Failure, Result};

/// The commands, for `/help`.
pub(super) const HELP: &str = "\
/system TEXT      set the system message, from the next answer on; without TEXT, remove it
/clear            forget the conversation
/set              show the settings
/set NAME VALUE   change one: /set temperature 0.7
/stats            tokens, cache and speed of the last answer
/save FILE        write the conversation to a new file; /save! FILE replaces one
/exit, /quit      leave, as Ctrl-D does
To send a line that begins with a slash, put a space before it.
";

/// A line, understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    Nothing,
    Say(String),
    System(Option<String>),
    Clear,
    Show,
    Set(String, String),
    Stats,
    Save {
        file: PathBuf,
        /// Even if the file exists.
        replace: bool,
    },
    Help,
    Exit,
}

impl Input {
    /// # Errors
    /// A command that does not exist, or lacks something.
    pub(super) fn parse(line: &str) -> Result<Self> {
        let Some(command) = line.strip_prefix('/') else {
            let said = line.trim();
            return Ok(match said.is_empty() {
                true => Self::Nothing,
                false => Self::Say(said.into()),
            });
        };
        let (name, rest) = command
            .split_once(char::is_whitespace)
            .unwrap_or((command, ""));
        let rest = rest.trim();
        Ok(match (name, rest) {
            ("system", "") => Self::System(None),
            ("system", text) => Self::System(Some(text.into())),
            ("set", "") => Self::Show,
            ("set", pair) => {
                let pair = pair.split_once(char::is_whitespace);
                let (name, value) = pair.ok_or_else(|| lacks("/set", "a name and a value"))?;
                Self::Set(name.into(), value.trim().into())
            }
            ("save" | "save!", "") => return Err(lacks("/save", "a file")),
            ("save" | "save!", path) => Self::Save {
                file: expanded(path),
                replace: name == "save!",
            },
            ("clear", "") => Self::Clear,
            ("stats", "") => Self::Stats,
            ("help", "") => Self::Help,
            ("exit" | "quit", "") => Self::Exit,
            _ => {
                let message = format!("there is no command `/{command}`");
                let hint = "`/help` lists them; put a space before the slash to send the line to the model";
                return Err(Failure::new(message, hint));
            }
        })
    }
}

/// The path that a shell would make of it: `~/` is the user's folder.
fn expanded(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => path.into(),
    }
}

fn lacks(command: &str, what: &str) -> Failure {
    Failure::new(
        format!("`{command}` needs {what}"),
        "`/help` shows how it is used",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_said_and_slashes_command() {
        let parse = |line| Input::parse(line).expect(line);
        assert_eq!(parse("  \t"), Input::Nothing);
        assert_eq!(parse("Hello /clear"), Input::Say("Hello /clear".into()));
        assert_eq!(parse(" /clear"), Input::Say("/clear".into()));
        assert_eq!(parse("/clear"), Input::Clear);
        assert_eq!(
            parse("/system  Be brief. "),
            Input::System(Some("Be brief.".into()))
        );
        assert_eq!(parse("/system"), Input::System(None));
        assert_eq!(
            parse("/set top_p  0.9"),
            Input::Set("top_p".into(), "0.9".into())
        );
        assert_eq!(parse("/set"), Input::Show);
        let save = |file: &str, replace| Input::Save {
            file: file.into(),
            replace,
        };
        assert_eq!(parse("/save a b.json"), save("a b.json", false));
        assert_eq!(parse("/save! ~a"), save("~a", true));
    }

    #[test]
    fn what_is_no_command_is_an_error_and_not_said() {
        for line in [
            "/",
            "/clearall",
            "/clear all",
            "/set top_p",
            "/save",
            "/save!",
        ] {
            Input::parse(line).expect_err(line);
        }
    }
}
