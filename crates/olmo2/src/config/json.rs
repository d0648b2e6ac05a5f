//! JSON files of a checkpoint, whose errors name the file and the field.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{
    DeserializeOwned, Deserializer, Error as _, IgnoredAny, SeqAccess, Unexpected, Visitor,
};
use serde_json::Value;
use thiserror::Error;

use crate::foreign;

/// Numbers that Python writes and JSON does not have.
const PYTHON_NUMBERS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];

/// Characters of a value that a message repeats.
const LONGEST: usize = 60;

/// A file that is no JSON, or a field of another type.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}`{file}`: {reason}", field.as_ref().map(|field| format!("`{field}` in ")).unwrap_or_default())]
pub struct JsonError {
    /// The file's name.
    pub file: &'static str,
    /// The field, as `rope_scaling.factor`; none where the file as a whole is no JSON object.
    pub field: Option<String>,
    /// What was expected and what was found, or what is wrong with the syntax.
    pub reason: String,
}

/// Reads an object.
///
/// # Errors
/// Contents that are no JSON, no object, or have a field of another type than `T`'s.
pub(crate) fn parse<T: DeserializeOwned>(file: &'static str, json: &[u8]) -> Result<T, JsonError> {
    let json = &*standard(json);
    // serde also reads a struct from a list of its fields, which no file means.
    let is_object = json.trim_ascii_start().starts_with(b"{");
    match serde_json::from_slice(json) {
        Ok(parsed) if is_object => Ok(parsed),
        // Only a failure pays for the path to a field.
        _ => Err(explain::<T>(file, json, is_object)),
    }
}

/// The text without what other programs put into JSON: the byte-order mark of Windows' editors, and
/// Python's `NaN` and `Infinity`, which become texts, so that a field that needs a number refuses
/// them and any other passes them over.
pub(crate) fn standard(json: &[u8]) -> Cow<'_, [u8]> {
    let json = json.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(json);
    let mut quoted = Vec::new();
    let (mut copied, mut at, mut in_text) = (0, 0, false);
    while at < json.len() {
        match json[at] {
            b'\\' if in_text => at += 1,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            _ => {
                let starts = |name: &&&[u8]| json[at..].starts_with(name);
                if let Some(name) = PYTHON_NUMBERS.iter().find(starts) {
                    quoted.extend_from_slice(&json[copied..at]);
                    quoted.push(b'"');
                    quoted.extend_from_slice(name);
                    quoted.push(b'"');
                    at += name.len();
                    copied = at;
                    continue;
                }
            }
        }
        at += 1;
    }
    if copied == 0 {
        return json.into();
    }
    quoted.extend_from_slice(&json[copied..]);
    quoted.into()
}

fn explain<T: DeserializeOwned>(file: &'static str, json: &[u8], is_object: bool) -> JsonError {
    let whole = |reason: String| JsonError {
        file,
        field: None,
        reason,
    };
    if let Err(error) = serde_json::from_slice::<IgnoredAny>(json) {
        return whole(match foreign::kind(json).filter(|_| !is_object) {
            Some(kind) => format!("expected JSON, found {kind}"),
            None => format!("not valid JSON: {error}"),
        });
    }
    if !is_object {
        return whole("expected an object of fields".into());
    }
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        // Not met: the same bytes were refused just now.
        Ok(_) => whole("not of the expected form".into()),
        Err(error) => {
            let path = error.path().to_string();
            JsonError {
                file,
                field: (path != ".").then_some(path),
                reason: expected_and_found(&error.into_inner()),
            }
        }
    }
}

/// serde's `invalid type: FOUND, expected EXPECTED at line 1 column 2` in this library's words.
fn expected_and_found(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or(&text);
    let rest = ["invalid type: ", "invalid value: ", "unknown variant "];
    let rest = rest.iter().find_map(|start| text.strip_prefix(start));
    let Some((found, expected)) = rest.and_then(|rest| rest.rsplit_once(", expected ")) else {
        return shortened(text);
    };
    let expected = match expected {
        "usize" | "u32" | "u64" => "a whole number of 0 or more",
        "f32" | "f64" => "a number",
        other => other,
    };
    format!("expected {expected}, found {}", shortened(found))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text.into(),
    }
}

/// An id, or none: -1 means none, as some trainers write it.
///
/// # Errors
/// A value of another type or range.
pub(crate) fn optional_id<'de, D: Deserializer<'de>>(field: D) -> Result<Option<u32>, D::Error> {
    whole_or(field, None)
}

/// A count that 0, or -1 as in other engines, turns off.
///
/// # Errors
/// A value of another type or range.
pub(crate) fn count_or_off<'de, D: Deserializer<'de>>(field: D) -> Result<Option<usize>, D::Error> {
    whole_or(field, Some(0))
}

/// A whole number, or `otherwise` in place of -1.
fn whole_or<'de, T: TryFrom<i64>, D: Deserializer<'de>>(
    field: D,
    otherwise: Option<T>,
) -> Result<Option<T>, D::Error> {
    match Option::<i64>::deserialize(field)? {
        None => Ok(None),
        Some(-1) => Ok(otherwise),
        Some(found) => T::try_from(found).map(Some).map_err(|_| {
            let expected = "a whole number of 0 or more";
            D::Error::invalid_value(Unexpected::Signed(found), &expected)
        }),
    }
}

/// A field that is given, be it `null`; with `serde(default)` an absent one is `None`.
///
/// # Errors
/// A value of another type.
pub(crate) fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    field: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(field).map(Some)
}

/// Nothing, one id or a list of ids: all three spellings are in use.
pub(crate) fn ids<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u32>, D::Error> {
    deserializer.deserialize_any(Ids)
}

struct Ids;

impl<'de> Visitor<'de> for Ids {
    type Value = Vec<u32>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a token id or a list of them")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_u64<E: serde::de::Error>(self, id: u64) -> Result<Self::Value, E> {
        let found = Unexpected::Unsigned(id);
        let id = u32::try_from(id).map_err(|_| E::invalid_value(found, &self))?;
        Ok(vec![id])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut ids = Vec::new();
        while let Some(id) = items.next_element::<u32>()? {
            ids.push(id);
        }
        Ok(ids)
    }
}

/// Nothing, a text, or an object with the text as `content`: how special tokens are written.
pub(crate) fn token<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let found = match Value::deserialize(deserializer)? {
        Value::Null => return Ok(None),
        Value::String(text) => return Ok(Some(text)),
        Value::Object(mut object) => match object.remove("content") {
            Some(Value::String(text)) => return Ok(Some(text)),
            Some(other) => format!("`content` {other}"),
            None => "no `content`".into(),
        },
        other => format!("`{other}`"),
    };
    let expected = "a text, or an object with the text as `content`";
    Err(D::Error::invalid_type(Unexpected::Other(&found), &expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only read by serde")]
    struct File {
        size: Option<usize>,
        rate: Option<f64>,
        inner: Option<Inner>,
        #[serde(default, deserialize_with = "ids")]
        ids: Vec<u32>,
        #[serde(default, deserialize_with = "token")]
        token: Option<String>,
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only read by serde")]
    struct Inner {
        factor: f64,
    }

    #[test]
    fn pythons_numbers_are_refused_only_where_a_number_is_needed() {
        let read =
            r#"{"other": NaN, "more": [-Infinity, Infinity], "token": "NaN \"NaN", "size": 1}"#;
        let file = parse::<File>("a.json", read.as_bytes()).expect("valid");
        assert_eq!(file.token.as_deref(), Some("NaN \"NaN"));
        let expected = "`rate` in `a.json`: expected a number, found string \"-Infinity\"";
        assert_eq!(message_of(r#"{"rate": -Infinity}"#), expected);
        assert_eq!(&*standard(b"{}"), b"{}");
    }

    #[track_caller]
    fn message_of(json: &str) -> String {
        let error = parse::<File>("a.json", json.as_bytes()).expect_err("an error");
        error.to_string()
    }

    #[test]
    fn an_error_names_file_and_field_what_was_expected_and_what_was_found() {
        for (json, expected) in [
            (
                r#"{"size": "big"}"#,
                "`size` in `a.json`: expected a whole number of 0 or more, found string \"big\"",
            ),
            (
                r#"{"size": -1}"#,
                "`size` in `a.json`: expected a whole number of 0 or more, found integer `-1`",
            ),
            (
                r#"{"rate": []}"#,
                "`rate` in `a.json`: expected a number, found sequence",
            ),
            (
                r#"{"inner": {"factor": null}}"#,
                "`inner.factor` in `a.json`: expected a number, found null",
            ),
            (
                r#"{"inner": {}}"#,
                "`inner` in `a.json`: missing field `factor`",
            ),
            (
                r#"{"ids": "x"}"#,
                "`ids` in `a.json`: expected a token id or a list of them, found string \"x\"",
            ),
            (
                r#"{"ids": 4294967296}"#,
                "`ids` in `a.json`: expected a token id or a list of them, found integer \
                 `4294967296`",
            ),
            (
                r#"{"ids": [1, -1]}"#,
                "`ids[1]` in `a.json`: expected a whole number of 0 or more, found integer `-1`",
            ),
            (
                r#"{"token": 3}"#,
                "`token` in `a.json`: expected a text, or an object with the text as `content`, \
                 found `3`",
            ),
            (
                r#"{"token": {}}"#,
                "`token` in `a.json`: expected a text, or an object with the text as `content`, \
                 found no `content`",
            ),
            ("[1]", "`a.json`: expected an object of fields"),
        ] {
            assert_eq!(message_of(json), expected, "{json}");
        }
        assert!(message_of("{\"size\": 1").starts_with("`a.json`: not valid JSON: EOF"));
    }

    #[test]
    fn a_long_value_is_cut() {
        let json = format!(r#"{{"size": "{}"}}"#, "é".repeat(5000));
        assert!(message_of(&json).len() < 300);
    }
}
