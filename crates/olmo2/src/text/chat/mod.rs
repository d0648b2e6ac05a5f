//! Conversations to text, by the chat template that comes with a checkpoint.
//!
//! A template is found, never guessed: `chat_template.jinja`, or `chat_template` in
//! `tokenizer_config.json`, and none for a base model. It is rendered as transformers 5.23 does
//! (`utils/chat_template_utils.py`), by minijinja, and on a budget: a template is code from a
//! download. The budget is minijinja's fuel, which stops endless loops and huge texts, but in 3.1
//! does not count the items of lists that are added to themselves: so it does not protect against a
//! malicious template.

mod jinja;

use std::path::Path;

use minijinja::Environment;
use minijinja::value::Serde;
use serde::{Deserialize, Serialize};

use crate::hint::Hint;
use crate::text::tokenizer::{
    SpecialTexts, TemplateField, TokenizerConfig, TokenizerError, read_if_exists,
};

/// One turn of a conversation, as a template sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user` or `assistant` for OLMo 2.
    pub role: String,
    /// Its text.
    pub content: String,
}

impl Message {
    /// A message of any role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
        }
    }

    /// The system message, which says how the model should behave.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new("system", content)
    }

    /// A message of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }

    /// An answer of the model.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content)
    }
}

/// A compiled chat template, with the special tokens that it may contain.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    special: SpecialTexts,
}

/// The variables of a template: transformers defines `tools` and `documents` as none.
#[derive(Serialize)]
struct Variables<'a> {
    #[serde(flatten)]
    special: &'a SpecialTexts,
    messages: &'a [Message],
    tools: Option<()>,
    documents: Option<()>,
    add_generation_prompt: bool,
}

impl ChatTemplate {
    /// The template of a checkpoint's folder, `None` if it has none.
    ///
    /// # Errors
    /// A file that can't be read, else as [`from_bytes`](Self::from_bytes).
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Option<Self>, ChatError> {
        let folder = folder.as_ref();
        let template = read_if_exists(folder, "chat_template.jinja")?;
        let config = read_if_exists(folder, "tokenizer_config.json")?;
        Self::from_bytes(template.as_deref(), config.as_deref())
    }

    /// The template in the contents of `chat_template.jinja`, which wins, or of
    /// `tokenizer_config.json`, which also names the special tokens. `None` if there is none.
    ///
    /// # Errors
    /// Contents that are malformed, several templates of which none is called `default`, or a
    /// template with a syntax error.
    pub fn from_bytes(
        template: Option<&[u8]>,
        config: Option<&[u8]>,
    ) -> Result<Option<Self>, ChatError> {
        let config = config.map(TokenizerConfig::from_bytes).transpose()?;
        let (special, field) = match config {
            Some(config) => (config.special, config.chat_template),
            None => (SpecialTexts::default(), None),
        };
        let source = match template {
            Some(bytes) => {
                let text = std::str::from_utf8(bytes).map_err(|_| ChatError::NotUtf8)?;
                // Editors of Windows put a byte-order mark in front.
                Some(text.trim_start_matches('\u{feff}').to_owned())
            }
            None => field.map(default_template).transpose()?,
        };
        source.map(|source| Self::new(source, special)).transpose()
    }

    /// Compiles a template.
    ///
    /// # Errors
    /// [`ChatError::Syntax`].
    pub fn new(source: impl Into<String>, special: SpecialTexts) -> Result<Self, ChatError> {
        let source = source.into();
        // As jinja2's lexer: line ends are `\n`, whatever the file has, in literals too.
        let lines = source.replace("\r\n", "\n").replace('\r', "\n");
        let environment = jinja::environment(&lines).map_err(|error| ChatError::Syntax {
            message: error.to_string(),
        })?;
        Ok(Self {
            environment,
            source,
            special,
        })
    }

    /// The template's source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text of a conversation, to be encoded as it is: the template adds a bos if it needs one.
    /// `add_generation_prompt` opens the assistant's next turn at the end.
    ///
    /// # Errors
    /// [`ChatError::Refused`] with the template's message if it calls `raise_exception`;
    /// [`ChatError::Render`] if it fails; [`ChatError::OutOfFuel`] if it does not end or makes far
    /// more text than the conversation has.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, ChatError> {
        let variables = Variables {
            special: &self.special,
            messages,
            tools: None,
            documents: None,
            add_generation_prompt,
        };
        // The budget belongs to the environment; a clone shares everything else.
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(fuel(messages)));
        environment
            .get_template(jinja::NAME)
            .and_then(|template| template.render(Serde(&variables)))
            .map_err(|error| ChatError::from_render(&error))
    }
}

/// Of several templates, the one called `default`.
fn default_template(field: TemplateField) -> Result<String, ChatError> {
    let named = match field {
        TemplateField::One(template) => return Ok(template),
        TemplateField::Named(named) => named,
    };
    let names: Vec<_> = named.iter().map(|named| named.name.clone()).collect();
    named
        .into_iter()
        .find(|named| named.name == "default")
        .map(|named| named.template)
        .ok_or(ChatError::NoDefault { names })
}

/// The budget of a rendering: one unit is an instruction, or 64 bytes made or read. OLMo 2's
/// template takes about 30 a message; the largest in use, with tools, a few hundred. The bytes
/// allow for 16 copies of the conversation.
fn fuel(messages: &[Message]) -> u64 {
    let bytes: usize = messages
        .iter()
        .map(|m| m.role.len() + m.content.len())
        .sum();
    20_000 + 1_000 * messages.len() as u64 + bytes as u64 / 4
}

/// Why a conversation could not be turned into text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// A file that can't be read, or a malformed `tokenizer_config.json`.
    #[error(transparent)]
    Config(#[from] TokenizerError),
    /// A template that is not UTF-8.
    #[error("`chat_template.jinja` is not UTF-8")]
    NotUtf8,
    /// Several templates, none of them called `default`.
    #[error("the chat template must be called `default`, found {}", quoted(names))]
    NoDefault {
        /// The templates' names.
        names: Vec<String>,
    },
    /// A template with a syntax error.
    #[error("the chat template is not valid: {message}")]
    Syntax {
        /// The error and its place.
        message: String,
    },
    /// The template called `raise_exception`.
    #[error("the chat template refuses this conversation: {message}")]
    Refused {
        /// The template's message.
        message: String,
    },
    /// The template failed.
    #[error("the chat template failed: {message}")]
    Render {
        /// The error and its place.
        message: String,
    },
    /// The template used up its budget.
    #[error("the chat template does not end, or makes too much text")]
    OutOfFuel,
}

impl ChatError {
    fn from_render(error: &minijinja::Error) -> Self {
        if let Some(message) = jinja::raised(error) {
            return Self::Refused { message };
        }
        if error.kind() == minijinja::ErrorKind::OutOfFuel {
            return Self::OutOfFuel;
        }
        let message = error.to_string();
        Self::Render { message }
    }
}

impl Hint for ChatError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Config(e) => return e.hint(),
            Self::Refused { .. } => return None,
            Self::NoDefault { .. } => "put the wanted one into `chat_template.jinja`",
            _ => "put a template that works into `chat_template.jinja`",
        };
        Some(hint.to_owned())
    }

    fn inner(&self) -> Option<&(dyn Hint + 'static)> {
        match self {
            Self::Config(e) => Some(e),
            _ => None,
        }
    }
}

fn quoted(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests;
