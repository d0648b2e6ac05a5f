//! Text while it is generated: whole characters, and nothing of a stop string.

use crate::text::tokenizer::{DecodeStream, SpecialTokens, StopStrings, Tokenizer, TokenizerError};

/// Turns ids into text piece by piece.
///
/// A piece ends with a whole character, and what may be the beginning of a stop string is held back
/// until it is known not to be one.
#[derive(Debug)]
pub struct TextStream {
    decode: DecodeStream,
    stop: StopStrings,
    text: String,
}

impl TextStream {
    /// A stream that ends before any of the strings `stop`. Special tokens are left out.
    ///
    /// # Errors
    /// An empty stop string.
    pub fn new(tokenizer: &Tokenizer, stop: &[String]) -> Result<Self, TokenizerError> {
        Ok(Self {
            decode: tokenizer.decode_stream(SpecialTokens::Skip),
            stop: StopStrings::new(stop)?,
            text: String::new(),
        })
    }

    /// The text that an id completes; may be empty.
    pub fn push(&mut self, id: u32) -> &str {
        let piece = self.decode.push(id).unwrap_or_default();
        let piece = self.stop.push(&piece).text;
        self.add(&piece)
    }

    /// The text that was held back, once no more ids come.
    pub fn finish(&mut self) -> &str {
        let tail = self.decode.finish().unwrap_or_default();
        let mut piece = self.stop.push(&tail).text;
        if !self.is_stopped() {
            piece += &self.stop.finish();
        }
        self.add(&piece)
    }

    /// Whether a stop string ended the text.
    pub fn is_stopped(&self) -> bool {
        self.stop.stopped_by().is_some()
    }

    /// All of the text so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// All of the text.
    pub fn into_text(self) -> String {
        self.text
    }

    fn add(&mut self, piece: &str) -> &str {
        let start = self.text.len();
        self.text.push_str(piece);
        &self.text[start..]
    }
}
