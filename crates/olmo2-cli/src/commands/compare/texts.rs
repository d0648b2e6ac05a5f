//! Differences of what stands around the weights: config, tokenizer, chat template, stop tokens.

use std::collections::BTreeSet;

use olmo2::{Checkpoint, Tokenizer};
use serde_json::{Map, Value};

use crate::messages::Result;

/// A text that meets most rules of a pre-tokenizer.
const PROBE: &str = "Don't  panic: 1234567 été\r\n\tfn main() {}\n\n  «ok» 生活";
/// Characters of a difference that are printed.
const SHOWN: usize = 40;

/// Fields of `config.json` that differ, each with both values.
pub(super) fn config(a: &Checkpoint, b: &Checkpoint) -> Vec<String> {
    let (a, b) = (fields(a), fields(b));
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let shown =
        |value: Option<&Value>| value.map_or("none".into(), |value| cut(&value.to_string()));
    names
        .into_iter()
        .filter(|name| a.get(*name) != b.get(*name))
        .map(|name| format!("`{name}`: {} | {}", shown(a.get(name)), shown(b.get(name))))
        .collect()
}

/// The fields of a folder's `config.json`, which was read and checked before.
fn fields(checkpoint: &Checkpoint) -> Map<String, Value> {
    let text = checkpoint
        .folder()
        .and_then(|folder| std::fs::read_to_string(folder.join("config.json")).ok());
    let fields = text.and_then(|text| serde_json::from_str(&text).ok());
    fields.unwrap_or_default()
}

/// The first difference of the tokenizers; `None` where they are alike.
///
/// # Errors
/// A tokenizer that cannot be read.
pub(super) fn tokenizer(a: &Checkpoint, b: &Checkpoint) -> Result<Option<String>> {
    Ok(match (a.tokenizer()?, b.tokenizer()?) {
        (Some(a), Some(b)) => difference(&a, &b)?,
        (None, None) => None,
        (Some(_), None) => Some("A alone has one".into()),
        (None, Some(_)) => Some("B alone has one".into()),
    })
}

fn difference(a: &Tokenizer, b: &Tokenizer) -> Result<Option<String>> {
    let (size, other) = (a.vocab_size(), b.vocab_size());
    if size != other {
        return Ok(Some(format!("{size} | {other} tokens")));
    }
    for id in 0..size as u32 {
        let [token, other] = [a, b].map(|tokenizer| {
            let special = if tokenizer.is_special(id) {
                " (special)"
            } else {
                ""
            };
            let token = tokenizer.id_to_token(id).unwrap_or_default();
            format!("{token:?}{special}")
        });
        if token != other {
            return Ok(Some(format!(
                "token {id}: {} | {}",
                cut(&token),
                cut(&other)
            )));
        }
    }
    let (ids, other) = (a.encode(PROBE)?, b.encode(PROBE)?);
    let shown = |ids: &[u32]| cut(&format!("{ids:?}"));
    Ok((ids != other).then(|| format!("{PROBE:?} is {} | {}", shown(&ids), shown(&other))))
}

/// The first difference of the chat templates; `None` where they are alike.
///
/// # Errors
/// A template that cannot be read.
pub(super) fn template(a: &Checkpoint, b: &Checkpoint) -> Result<Option<String>> {
    let (a, b) = (a.chat_template()?, b.chat_template()?);
    Ok(match (&a, &b) {
        (Some(a), Some(b)) => first_line(a.source(), b.source()),
        (None, None) => None,
        (Some(_), None) => Some("A alone has one".into()),
        (None, Some(_)) => Some("B alone has one".into()),
    })
}

/// The first line that differs, line ends included.
fn first_line(a: &str, b: &str) -> Option<String> {
    let mut lines = [a.split_inclusive('\n'), b.split_inclusive('\n')];
    for number in 1.. {
        let [line, other] = lines.each_mut().map(Iterator::next);
        if line.is_none() && other.is_none() {
            return None;
        }
        if line != other {
            // The ends of long lines are alike more seldom than their beginnings.
            let (x, y) = (line.unwrap_or_default(), other.unwrap_or_default());
            let same = x.chars().zip(y.chars()).take_while(|(x, y)| x == y).count();
            let from = same.saturating_sub(SHOWN / 2);
            let shown = |line: &str| {
                let part: String = line.chars().skip(from).collect();
                cut(&format!("{part:?}"))
            };
            return Some(format!("line {number}: {} | {}", shown(x), shown(y)));
        }
    }
    None
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_differs_is_shown_with_its_end() {
        assert_eq!(first_line("a\nb\n", "a\nb\n"), None);
        let found = first_line("a\nb\n", "a\nb\r\n");
        assert_eq!(found.as_deref(), Some(r#"line 2: "b\n" | "b\r\n""#));
        let found = first_line("a", "a\nb");
        assert_eq!(found.as_deref(), Some(r#"line 1: "a" | "a\n""#));
    }
}
