//! Stop strings in streamed text: no part of one is ever printed.

use super::error::TokenizerError;

/// Finds stop strings in text that comes in pieces. Text that may be the beginning of a stop
/// string is held back until the next pieces decide. The result does not depend on how the text
/// is cut: the text ends before the stop string that is complete first, and before the longest of
/// those that are complete at the same character.
///
/// A byte costs O(number of stop strings), amortised (Knuth, Morris, Pratt).
#[derive(Debug, Clone)]
pub struct StopStrings {
    stops: Vec<Stop>,
    /// The end of the text, which may be the beginning of a stop string.
    pending: String,
    stopped_by: Option<usize>,
}

/// The result of one [`StopStrings::push`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StopCheck {
    /// Text that belongs to no stop string.
    pub text: String,
    /// Index of the stop string that was found, if any.
    pub stopped_by: Option<usize>,
}

impl StopStrings {
    /// # Errors
    /// [`TokenizerError::EmptyStopString`].
    pub fn new<S: AsRef<str>>(stops: impl IntoIterator<Item = S>) -> Result<Self, TokenizerError> {
        let stops = stops
            .into_iter()
            .map(|stop| Stop::new(stop.as_ref()))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            stops,
            pending: String::new(),
            stopped_by: None,
        })
    }

    /// Takes the next piece. After a stop string was found, no more text is returned.
    pub fn push(&mut self, piece: &str) -> StopCheck {
        if self.stopped_by.is_none() {
            let start = self.pending.len();
            self.pending.push_str(piece);
            for (i, byte) in piece.bytes().enumerate() {
                if let Some(stop) = self.advance(byte) {
                    self.stopped_by = Some(stop);
                    // A stop string starts with a character's first byte: no character is cut.
                    let end = start + i + 1 - self.stops[stop].text.len();
                    self.pending.truncate(end);
                    return self.check(end);
                }
            }
        }
        let open = self.stops.iter().map(|stop| stop.matched).max();
        let end = self.pending.len().saturating_sub(open.unwrap_or(0));
        self.check(end)
    }

    /// The text that is still held back, once no more pieces come.
    pub fn finish(&mut self) -> String {
        self.stops.iter_mut().for_each(|stop| stop.matched = 0);
        std::mem::take(&mut self.pending)
    }

    /// Index of the stop string that was found.
    pub fn stopped_by(&self) -> Option<usize> {
        self.stopped_by
    }

    /// Releases the text that was held back, up to byte `end`.
    fn check(&mut self, end: usize) -> StopCheck {
        let rest = self.pending.split_off(end);
        StopCheck {
            text: std::mem::replace(&mut self.pending, rest),
            stopped_by: self.stopped_by,
        }
    }

    /// Feeds one byte to all stop strings; the longest one that it completes.
    fn advance(&mut self, byte: u8) -> Option<usize> {
        let mut found: Option<usize> = None;
        for i in 0..self.stops.len() {
            if self.stops[i].advance(byte)
                && found.is_none_or(|j| self.stops[i].text.len() > self.stops[j].text.len())
            {
                found = Some(i);
            }
        }
        found
    }
}

/// One stop string, and how many of its first bytes the text ends with.
#[derive(Debug, Clone)]
struct Stop {
    text: Vec<u8>,
    /// For each prefix of `text`, by its last byte: the length of its longest proper suffix that
    /// is a prefix too.
    borders: Vec<usize>,
    /// How many bytes at the text's end are the first bytes of `text`.
    matched: usize,
}

impl Stop {
    fn new(text: &str) -> Result<Self, TokenizerError> {
        if text.is_empty() {
            return Err(TokenizerError::EmptyStopString);
        }
        let mut stop = Self {
            text: text.as_bytes().to_vec(),
            borders: vec![0],
            matched: 0,
        };
        // The borders of `text` are what its own tail matches: it is run over itself.
        for i in 1..stop.text.len() {
            stop.advance(stop.text[i]);
            stop.borders.push(stop.matched);
        }
        stop.matched = 0;
        Ok(stop)
    }

    /// Takes the text's next byte; true if it completes the stop string.
    fn advance(&mut self, byte: u8) -> bool {
        while self.matched > 0 && self.text.get(self.matched) != Some(&byte) {
            self.matched = self.borders[self.matched - 1];
        }
        if self.text[self.matched] == byte {
            self.matched += 1;
        }
        self.matched == self.text.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is printed of `pieces`, and which stop string ends it.
    fn run(stops: &[&str], pieces: &[&str]) -> (String, Option<usize>) {
        let mut matcher = StopStrings::new(stops).expect("no empty stop string");
        let mut text = String::new();
        for piece in pieces {
            text.push_str(&matcher.push(piece).text);
        }
        text.push_str(&matcher.finish());
        (text, matcher.stopped_by())
    }

    #[test]
    fn text_that_may_begin_a_stop_string_is_held_back() {
        let mut matcher = StopStrings::new(["\n\nUser:"]).expect("valid");
        let text = |matcher: &mut StopStrings, piece| matcher.push(piece).text;
        assert_eq!(text(&mut matcher, "Hello\n"), "Hello");
        assert_eq!(text(&mut matcher, "\nUs"), "");
        assert_eq!(text(&mut matcher, "ual"), "\n\nUsual");
        assert_eq!(text(&mut matcher, "\n\n\n"), "\n");
        let stopped = matcher.push("User: more");
        assert_eq!((stopped.text.as_str(), stopped.stopped_by), ("", Some(0)));
        assert_eq!(matcher.push("more"), stopped);
        assert_eq!(matcher.finish(), "");
    }

    #[test]
    fn held_text_comes_out_at_the_end() {
        assert_eq!(run(&["abc"], &["xa", "b"]), ("xab".to_owned(), None));
    }

    #[test]
    fn the_stop_string_that_is_complete_first_wins() {
        assert_eq!(run(&["abcd", "bc"], &["xabcd"]), ("xa".to_owned(), Some(1)));
        // Both are complete at "c": the longer one hides more.
        assert_eq!(run(&["c", "abc"], &["xab", "c"]), ("x".to_owned(), Some(1)));
    }

    #[test]
    fn a_stop_string_may_repeat_itself() {
        assert_eq!(
            run(&["aab"], &["aa", "aab", "z"]),
            ("aa".to_owned(), Some(0))
        );
        assert_eq!(run(&["abab"], &["abaabab"]), ("aba".to_owned(), Some(0)));
    }

    #[test]
    fn characters_that_share_bytes_are_not_cut() {
        // é is C3 A9, è is C3 A8; the emoji share three bytes.
        assert_eq!(run(&["é"], &["xè", "é"]), ("xè".to_owned(), Some(0)));
        assert_eq!(run(&["👩"], &["👨", "x"]), ("👨x".to_owned(), None));
    }

    #[test]
    fn no_stop_strings_hold_nothing_back_and_an_empty_one_is_an_error() {
        let mut none = StopStrings::new([] as [&str; 0]).expect("valid");
        assert_eq!(none.push("abc").text, "abc");
        let error = StopStrings::new(["a", ""]).expect_err("empty");
        assert_eq!(error.to_string(), "a stop string must not be empty");
    }

    /// The definition: over all ends, the first at which a stop string ends, cut before the
    /// longest one that ends there.
    fn reference<'t>(stops: &[String], text: &'t str) -> (&'t str, bool) {
        for end in 0..=text.len() {
            let longest = stops
                .iter()
                .filter(|stop| text.as_bytes()[..end].ends_with(stop.as_bytes()))
                .map(String::len)
                .max();
            if let Some(len) = longest {
                return (&text[..end - len], true);
            }
        }
        (text, false)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn cut_text_equals_the_definition_and_nothing_of_a_stop_string_is_printed(
            stops in prop::collection::vec("[abé]{1,4}", 0..4),
            pieces in prop::collection::vec("[abéc]{0,5}", 0..8),
        ) {
            let whole = pieces.concat();
            let (expected, found) = reference(&stops, &whole);
            let mut matcher = StopStrings::new(&stops).expect("no empty stop string");
            let mut printed = String::new();
            for piece in &pieces {
                printed.push_str(&matcher.push(piece).text);
                prop_assert!(expected.starts_with(&printed));
            }
            printed.push_str(&matcher.finish());
            prop_assert_eq!(&printed, expected);
            prop_assert_eq!(matcher.stopped_by().is_some(), found);
        }
    }
}
