//! The conversation so far: messages with a template, or one growing text without.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use olmo2::Tokenizer;
use olmo2::chat::{ChatTemplate, Message};
use serde_json::json;

use crate::messages::{Context, Failure, Result, plain};

/// A conversation with a model.
#[derive(Debug)]
pub(super) struct Conversation {
    template: Option<ChatTemplate>,
    system: Option<String>,
    messages: Vec<Message>,
    /// Without a template: the ids of the text so far, and the text.
    ids: Vec<u32>,
    text: String,
}

impl Conversation {
    pub(super) fn new(template: Option<ChatTemplate>) -> Self {
        Self {
            template,
            system: None,
            messages: Vec::new(),
            ids: Vec::new(),
            text: String::new(),
        }
    }

    pub(super) fn has_template(&self) -> bool {
        self.template.is_some()
    }

    /// # Errors
    /// There is none.
    pub(super) fn need_template(&self) -> Result<()> {
        match self.has_template() {
            true => Ok(()),
            false => {
                let hint = "type text for the model to continue";
                Err(Failure::new(
                    "this model has no chat template, so no system message",
                    hint,
                ))
            }
        }
    }

    pub(super) fn set_system(&mut self, text: Option<String>) {
        self.system = text;
    }

    /// Forgets what was said; the system message stays.
    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.ids.clear();
        self.text.clear();
    }

    /// Answers so far.
    pub(super) fn turns(&self) -> usize {
        self.messages.len() / 2
    }

    /// The ids that the answer to `text` continues.
    ///
    /// # Errors
    /// A template that refuses, or a text that cannot be encoded.
    pub(super) fn prompt(&self, text: &str, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        let Some(template) = &self.template else {
            // What was generated stays as it is: encoding it again could give other ids.
            let mut ids = self.ids.clone();
            ids.extend(tokenizer.encode(&self.next_line(text))?);
            return Ok(ids);
        };
        let mut messages = self.all();
        messages.push(Message::user(text));
        Ok(tokenizer.encode(&template.render(&messages, true)?)?)
    }

    /// Notes a turn: what was said, as text and as a prompt, and what was answered.
    pub(super) fn add(&mut self, text: &str, prompt: &[u32], answer: &[u32], said: String) {
        if self.template.is_none() {
            self.ids = [prompt, answer].concat();
            self.text = format!("{}{}{said}", self.text, self.next_line(text));
        }
        self.messages.push(Message::user(text));
        self.messages.push(Message::assistant(said));
    }

    /// Without a template: each line that is typed is a line of the text.
    fn next_line(&self, text: &str) -> String {
        match self.text.is_empty() {
            true => text.into(),
            false => format!("\n{text}"),
        }
    }

    /// The system message and all turns.
    fn all(&self) -> Vec<Message> {
        let system = self.system.iter().map(Message::system);
        system.chain(self.messages.iter().cloned()).collect()
    }

    /// Writes the messages as JSON, or the text where there is no template.
    ///
    /// # Errors
    /// The file cannot be written, or exists and must not be replaced.
    pub(super) fn save(&self, path: &Path, replace: bool) -> Result<()> {
        let content = match self.has_template() {
            true => {
                let messages = json!({ "messages": self.all() });
                format!(
                    "{}\n",
                    serde_json::to_string_pretty(&messages).map_err(plain)?
                )
            }
            false => self.text.clone(),
        };
        let mut options = File::options();
        match replace {
            true => options.write(true).create(true).truncate(true),
            false => options.write(true).create_new(true),
        };
        let shown = path.display();
        let mut file = match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let hint = format!("`/save! {shown}` replaces it");
                return Err(Failure::new(format!("`{shown}` already exists"), hint));
            }
            file => file.with_context(|| format!("cannot write `{shown}`"))?,
        };
        file.write_all(content.as_bytes())
            .with_context(|| format!("cannot write `{shown}`"))
    }
}
