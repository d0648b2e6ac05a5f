//! GPT-2's spelling of bytes in byte-level vocabularies: each byte is one printable character,
//! `Ġ` for a space (`bytes_to_unicode` in openai/gpt-2, src/encoder.py).

/// The character of each byte.
pub(super) const BYTE_CHARS: [char; 256] = byte_chars();

/// The byte of each character below U+0144, the largest in use.
const CHAR_BYTES: [Option<u8>; 0x144] = char_bytes();

/// Printable Latin-1 stands for itself; the others take the characters from U+0100 on, in turn.
const fn byte_chars() -> [char; 256] {
    let mut table = ['\0'; 256];
    let mut byte = 0u8;
    let mut next = 0x100;
    loop {
        table[byte as usize] = match byte {
            b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => byte as char,
            _ => {
                next += 1;
                match char::from_u32(next - 1) {
                    Some(char) => char,
                    None => '\0',
                }
            }
        };
        if byte == u8::MAX {
            return table;
        }
        byte += 1;
    }
}

const fn char_bytes() -> [Option<u8>; 0x144] {
    let mut table = [None; 0x144];
    let mut byte = 0;
    while byte < 256 {
        table[BYTE_CHARS[byte] as usize] = Some(byte as u8);
        byte += 1;
    }
    table
}

/// Appends the bytes that a token of the vocabulary stands for. A token with a character that
/// spells no byte is an added one, and stands for its own UTF-8 (so does the `tokenizers` crate).
pub(super) fn append_bytes(token: &str, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    for char in token.chars() {
        match CHAR_BYTES.get(char as usize) {
            Some(&Some(byte)) => bytes.push(byte),
            _ => {
                bytes.truncate(start);
                bytes.extend_from_slice(token.as_bytes());
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_spelled_as_by_gpt2() {
        // Known spellings: space Ġ, newline Ċ, NUL Ā, DEL ġ, soft hyphen the last one.
        for (byte, char) in [
            (b' ', 'Ġ'),
            (b'\n', 'Ċ'),
            (0, 'Ā'),
            (0x7F, 'ġ'),
            (0xAD, 'Ń'),
        ] {
            assert_eq!(BYTE_CHARS[byte as usize], char);
        }
        assert_eq!((BYTE_CHARS[65], BYTE_CHARS[0xFF]), ('A', 'ÿ'));
    }

    #[test]
    fn every_byte_comes_back() {
        for byte in 0..=255u8 {
            let mut bytes = Vec::new();
            append_bytes(&BYTE_CHARS[byte as usize].to_string(), &mut bytes);
            assert_eq!(bytes, [byte]);
        }
    }

    #[test]
    fn an_added_token_with_other_characters_is_its_own_text() {
        let mut bytes = b"x".to_vec();
        append_bytes("Ġa b", &mut bytes);
        append_bytes("生", &mut bytes);
        append_bytes("Ġa", &mut bytes);
        assert_eq!(bytes, "xĠa b生 a".as_bytes());
    }
}
