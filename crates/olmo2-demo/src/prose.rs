//! English as it is written: pieces joined to text, articles, plurals, capitals.

use crate::piece::Piece;

/// Sentences with a space between them, paragraphs with an empty line.
pub(crate) fn join(pieces: &[Piece]) -> String {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Sentences(sentences) => {
                if !text.is_empty() && !text.ends_with('\n') && !sentences.starts_with('\n') {
                    text.push(' ');
                }
                text.push_str(sentences);
            }
            Piece::Paragraph if text.is_empty() => {}
            Piece::Paragraph => {
                text.truncate(text.trim_end().len());
                text.push_str("\n\n");
            }
            Piece::Turn(_) => {}
        }
    }
    text.truncate(text.trim_end().len());
    text
}

pub(crate) fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

pub(crate) fn uncapitalize(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(chars).collect()
    })
}

/// `an` before a vowel's sound.
pub(crate) fn article(text: &str) -> &'static str {
    let silent = text.starts_with("hour") || text.starts_with("honest");
    let voiced = text.starts_with("uni") || text.starts_with("use") || text.starts_with("one");
    let vowel = text.starts_with(['a', 'e', 'i', 'o', 'u', 'A', 'E', 'I', 'O', 'U']);
    if silent || (vowel && !voiced) {
        "an"
    } else {
        "a"
    }
}

/// English plural of a noun, by its ending; the irregular ones that the lists hold by name.
pub(crate) fn plural(noun: &str) -> String {
    let irregular = [
        ("mouse", "mice"),
        ("goose", "geese"),
        ("sheep", "sheep"),
        ("fish", "fish"),
        ("deer", "deer"),
        ("wolf", "wolves"),
        ("leaf", "leaves"),
        ("loaf", "loaves"),
        ("knife", "knives"),
        ("child", "children"),
        ("man", "men"),
        ("woman", "women"),
        ("foot", "feet"),
        ("scarf", "scarves"),
        ("potato", "potatoes"),
        ("tomato", "tomatoes"),
        ("calf", "calves"),
        ("shelf", "shelves"),
    ];
    for (one, many) in irregular {
        if let Some(stem) = noun.strip_suffix(one) {
            return format!("{stem}{many}");
        }
    }
    if ["s", "x", "ch", "sh"]
        .iter()
        .any(|ending| noun.ends_with(ending))
    {
        return format!("{noun}es");
    }
    match noun.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
        _ => format!("{noun}s"),
    }
}

/// What holds for all sentences: `I said`, never `said I`; capitals; `''` is a quotation mark that
/// names a word instead of opening a speech.
pub(crate) fn finish(text: &str) -> String {
    let mut text = text.trim_matches(' ').to_owned();
    for verb in ["said", "asked", "cried", "called out", "called", "shouted"] {
        for end in [".", ",", " "] {
            text = text.replace(&format!("\" {verb} I{end}"), &format!("\" I {verb}{end}"));
        }
    }
    // An alternative may bring its own mark.
    for (marks, mark) in [
        ("?,", "?"),
        ("?.", "?"),
        ("?!", "?"),
        ("!,", "!"),
        (".?", "."),
    ] {
        text = text.replace(marks, mark);
    }
    sentence_case(&text).replace("  ", " ").replace("''", "\"")
}

/// Capitals at the start, after a sentence's end, and at the start of what is quoted. After
/// `!"` and `?"` the sentence may go on (`"Help!" she cried`), so there the template decides.
fn sentence_case(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut before_last, mut last, mut spaced, mut quoted) = (' ', '.', true, false);
    for character in text.chars() {
        if character.is_whitespace() {
            out.push(character);
            spaced = true;
            continue;
        }
        let ended =
            matches!(last, '.' | '!' | '?') || (last == '"' && !quoted && before_last == '.');
        let opened = last == '"' && quoted && !spaced;
        if character.is_alphabetic() && ((ended && spaced) || opened) {
            out.extend(character.to_uppercase());
        } else {
            out.push(character);
        }
        quoted ^= character == '"';
        (before_last, last, spaced) = (last, character, false);
    }
    out
}
