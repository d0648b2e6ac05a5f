//! Text from tokens as they come, never half a character.

use super::{SpecialTokens, Tokenizer};

/// Turns one token after another into text. The bytes of a character that is split over tokens
/// wait until it is whole; bytes that can't become one are U+FFFD. All pieces together equal the
/// result of [`Tokenizer::decode`] for all tokens. A push costs the length of its own token.
#[derive(Debug, Clone)]
pub struct DecodeStream {
    tokenizer: Tokenizer,
    special: SpecialTokens,
    /// The beginning of a character: at most 3 bytes between two pushes.
    pending: Vec<u8>,
}

impl DecodeStream {
    pub(super) fn new(tokenizer: Tokenizer, special: SpecialTokens) -> Self {
        Self {
            tokenizer,
            special,
            pending: Vec::new(),
        }
    }

    /// The text that this token completes, if any. An id that is not in the vocabulary is left out.
    pub fn push(&mut self, id: u32) -> Option<String> {
        self.tokenizer
            .append_bytes(id, self.special, &mut self.pending);
        let text = take_characters(&mut self.pending);
        (!text.is_empty()).then_some(text)
    }

    /// The rest at the end: U+FFFD for a character that was not completed. The stream can then be
    /// used again.
    pub fn finish(&mut self) -> Option<String> {
        let pending = std::mem::take(&mut self.pending);
        (!pending.is_empty()).then(|| String::from_utf8_lossy(&pending).into_owned())
    }
}

/// Takes all of `bytes` but the beginning of a character at the end, with U+FFFD for each longest
/// part of a character that is not followed by the rest of it (as `String::from_utf8_lossy`).
fn take_characters(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut rest = bytes.as_slice();
    while let Err(error) = std::str::from_utf8(rest) {
        let (valid, after) = rest.split_at(error.valid_up_to());
        text.push_str(&String::from_utf8_lossy(valid));
        rest = after;
        match error.error_len() {
            // `rest` is the beginning of a character.
            None => break,
            Some(len) => {
                text.push(char::REPLACEMENT_CHARACTER);
                rest = &rest[len..];
            }
        }
    }
    let waiting = match std::str::from_utf8(rest) {
        Ok(valid) => {
            text.push_str(valid);
            0
        }
        Err(_) => rest.len(),
    };
    bytes.drain(..bytes.len() - waiting);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream(pieces: &[Vec<u8>]) -> String {
        let mut pending = Vec::new();
        let mut text = String::new();
        for piece in pieces {
            pending.extend_from_slice(piece);
            text.push_str(&take_characters(&mut pending));
            assert!(pending.len() < 4);
        }
        text + &String::from_utf8_lossy(&pending)
    }

    #[test]
    fn a_character_comes_out_with_its_last_byte() {
        let mut pending = Vec::new();
        let mut steps = Vec::new();
        for byte in "aé生👩".bytes() {
            pending.push(byte);
            steps.push(take_characters(&mut pending));
        }
        assert_eq!(steps, ["a", "", "é", "", "", "生", "", "", "", "👩"]);
    }

    #[test]
    fn a_broken_character_is_replaced_as_soon_as_it_is_known_to_be_broken() {
        let mut pending = vec![0xF0, 0x9F];
        assert_eq!(take_characters(&mut pending), "");
        pending.push(b'x');
        assert_eq!(take_characters(&mut pending), "\u{FFFD}x");
        assert!(pending.is_empty());
    }

    /// Bytes that often make up characters, whole or broken.
    fn byte() -> impl Strategy<Value = u8> {
        prop_oneof![
            any::<u8>(),
            0x80..0xC0u8,
            Just(0xF0),
            Just(0xE2),
            Just(0xC3),
            Just(b'a')
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn pieces_of_any_bytes_equal_the_whole(
            pieces in prop::collection::vec(prop::collection::vec(byte(), 0..5), 0..20)
        ) {
            let whole = pieces.concat();
            prop_assert_eq!(stream(&pieces), String::from_utf8_lossy(&whole));
        }
    }
}
