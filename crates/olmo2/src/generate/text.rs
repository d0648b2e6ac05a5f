//! Text while it is generated: whole characters, and nothing of a stop string.

use crate::text::tokenizer::{DecodeStream, SpecialTokens, StopStrings, Tokenizer, TokenizerError};

/// Turns ids into text piece by piece.
///
/// A piece ends with a whole character. Text that may be the beginning of a stop string is held back
/// until the ids after it decide.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tokenizer::tests::tokenizer;

    /// The special token of the tiny tokenizer, whose other ids here are bytes.
    const END: u32 = 260;

    fn stream(stop: &[&str]) -> TextStream {
        let stop: Vec<String> = stop.iter().map(|&text| text.into()).collect();
        TextStream::new(&tokenizer(), &stop).expect("no empty stop string")
    }

    /// The text that each byte completes.
    fn pieces(stream: &mut TextStream, bytes: &[u8]) -> Vec<String> {
        let push = |&byte: &u8| stream.push(byte.into()).to_owned();
        bytes.iter().map(push).collect()
    }

    #[test]
    fn a_stop_string_ends_the_text_and_is_never_shown() {
        let mut stream = stream(&["\nUser:"]);
        let shown = pieces(&mut stream, b"Hi\nUs\nUser: no").concat();
        assert_eq!(shown, "Hi\nUs");
        assert!(stream.is_stopped());
        assert_eq!(stream.finish(), "");
        assert_eq!(stream.into_text(), "Hi\nUs");
    }

    #[test]
    fn text_that_was_held_back_comes_out_at_the_end() {
        let mut stream = stream(&["\nUser:"]);
        assert_eq!(pieces(&mut stream, b"a\nUs"), ["a", "", "", ""]);
        assert_eq!(stream.finish(), "\nUs");
        assert!(!stream.is_stopped());
        assert_eq!(stream.text(), "a\nUs");
    }

    #[test]
    fn characters_are_whole_and_special_tokens_are_left_out() {
        let mut stream = stream(&[]);
        assert_eq!(pieces(&mut stream, "aé".as_bytes()), ["a", "", "é"]);
        assert_eq!(stream.push(END), "");
        assert_eq!(pieces(&mut stream, &[0xC3]), [""]);
        assert_eq!(stream.finish(), "\u{FFFD}");
        assert_eq!(stream.into_text(), "aé\u{FFFD}");
    }

    #[test]
    fn half_a_character_may_complete_a_stop_string() {
        let mut stream = stream(&["\u{FFFD}"]);
        assert_eq!(pieces(&mut stream, &[b'a', 0xC3]), ["a", ""]);
        assert_eq!(stream.finish(), "");
        assert!(stream.is_stopped());
    }

    #[test]
    fn an_empty_stop_string_is_refused() {
        let error = TextStream::new(&tokenizer(), &[String::new()]).expect_err("empty");
        assert!(matches!(error, TokenizerError::EmptyStopString));
    }
}
