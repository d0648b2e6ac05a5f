//! minijinja set up as transformers sets up Jinja2 (`_cached_compile_jinja_template`).

use std::error::Error as _;
use std::fmt;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State};
use serde::Serialize;
use serde_json::Value as Json;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// The name under which the template is compiled and errors speak of it.
pub(super) const NAME: &str = "chat_template";

/// How deep a value may be nested for `tojson`.
const MAX_DEPTH: usize = 64;

/// An environment with the template in it.
///
/// # Errors
/// A syntax error in the template.
pub(super) fn environment(source: &str) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()?;
    environment.set_syntax(syntax);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", tojson);
    environment.add_template_owned(NAME, without_generation_tags(source))?;
    Ok(environment)
}

/// The message of `raise_exception`, if that is the cause of an error.
pub(super) fn raised(error: &Error) -> Option<String> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(Raised(message)) = error.downcast_ref() {
            return Some(message.clone());
        }
        source = error.source();
    }
    None
}

#[derive(Debug)]
struct Raised(String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

fn raise_exception(message: String) -> Result<Value, Error> {
    let error = Error::new(ErrorKind::InvalidOperation, "raise_exception was called");
    Err(error.with_source(Raised(message)))
}

/// The time by a `strftime` format. UTC, where transformers has the local time.
fn strftime_now(state: &State<'_, '_>, format: &str) -> Result<String, Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    strftime(state, now.map_or(0.0, |time| time.as_secs_f64()), format)
}

fn strftime(state: &State<'_, '_>, seconds: f64, format: &str) -> Result<String, Error> {
    let kwargs = Kwargs::from_iter([("format", Value::from(format))]);
    minijinja_contrib::filters::datetimeformat(state, Value::from(seconds), kwargs)
}

/// Python's `json.dumps` without escapes for HTML or beyond ASCII, with the arguments that
/// transformers gives to the filter.
#[expect(
    clippy::needless_pass_by_value,
    reason = "minijinja passes arguments by value"
)]
fn tojson(state: &State<'_, '_>, value: &Value, kwargs: Kwargs) -> Result<String, Error> {
    let ascii: Option<bool> = kwargs.get("ensure_ascii")?;
    let indent: Option<usize> = kwargs.get("indent")?;
    let separators: Option<(String, String)> = kwargs
        .get::<Option<Value>>("separators")?
        .map(|pair| separators(&pair))
        .transpose()?;
    let sort_keys: Option<bool> = kwargs.get("sort_keys")?;
    kwargs.assert_all_used()?;
    if ascii == Some(true) {
        let message = "`tojson` has no `ensure_ascii=true`";
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    let failed = |error: serde_json::Error| {
        Error::new(ErrorKind::BadSerialization, "`tojson` failed").with_source(error)
    };
    let mut tree = json_tree(state, value, 0)?;
    if sort_keys == Some(true) {
        tree.sort_all_objects();
    }
    let mut json = Vec::new();
    match (indent, separators) {
        (Some(indent), None) => {
            let indent = " ".repeat(indent.min(16));
            let pretty = PrettyFormatter::with_indent(indent.as_bytes());
            tree.serialize(&mut Serializer::with_formatter(&mut json, pretty))
        }
        (_, separators) => {
            let (item, key) = separators.unwrap_or_else(|| (", ".to_owned(), ": ".to_owned()));
            let spaced = Separated { item, key };
            tree.serialize(&mut Serializer::with_formatter(&mut json, spaced))
        }
    }
    .map_err(failed)?;
    String::from_utf8(json).map_err(|error| {
        Error::new(ErrorKind::BadSerialization, "`tojson` failed").with_source(error)
    })
}

/// The value as JSON, paid for item by item: minijinja's `+` of lists is lazy, so that a value
/// may have more items than anyone could count. An indented line is charged as one too.
fn json_tree(state: &State<'_, '_>, value: &Value, depth: usize) -> Result<Json, Error> {
    if depth > MAX_DEPTH {
        let message = "`tojson` of a value that is nested too deep";
        return Err(Error::new(ErrorKind::BadSerialization, message));
    }
    state.consume_fuel(1 + value.as_str().map_or(0, str::len) as u64 / 16)?;
    Ok(match value.kind() {
        ValueKind::Map => {
            let mut object = serde_json::Map::new();
            for key in value.try_iter()? {
                let item = json_tree(state, &value.get_item(&key)?, depth + 1)?;
                object.insert(key.to_string(), item);
            }
            Json::Object(object)
        }
        ValueKind::Seq | ValueKind::Iterable => Json::Array(
            value
                .try_iter()?
                .map(|item| json_tree(state, &item, depth + 1))
                .collect::<Result<_, _>>()?,
        ),
        _ => serde_json::to_value(value).map_err(|error| {
            Error::new(ErrorKind::BadSerialization, "`tojson` failed").with_source(error)
        })?,
    })
}

fn separators(pair: &Value) -> Result<(String, String), Error> {
    let parts: Vec<String> = pair
        .try_iter()?
        .map(|part| part.as_str().map(str::to_owned))
        .collect::<Option<_>>()
        .unwrap_or_default();
    <[String; 2]>::try_from(parts)
        .map(|[item, key]| (item, key))
        .map_err(|_| {
            Error::new(
                ErrorKind::InvalidOperation,
                "`separators` must be two strings",
            )
        })
}

/// JSON on one line, with Python's separators: `, ` and `: ` by default.
struct Separated {
    item: String,
    key: String,
}

impl Separated {
    fn between<W: ?Sized + io::Write>(&self, writer: &mut W, first: bool) -> io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(self.item.as_bytes())
        }
    }
}

impl Formatter for Separated {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.between(w, first)
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.between(w, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        w.write_all(self.key.as_bytes())
    }
}

/// transformers adds a tag, `{% generation %} ... {% endgeneration %}`, which marks the
/// assistant's words for training and prints what it encloses. It becomes a condition that holds.
fn without_generation_tags(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start + 2);
        text.push_str(before);
        rest = tag;
        let Some(end) = tag.find("%}") else { break };
        let name = tag[..end].trim_matches(['-', '+']).trim();
        let condition = match name {
            "generation" => "if true",
            "endgeneration" => "endif",
            _ => continue,
        };
        text.push_str(&tag[..end].replace(name, condition));
        rest = &tag[end..];
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_tags_become_conditions() {
        let source = "{% for m in ms %}{%- generation -%}{{ m }}{% endgeneration %}{% endfor %} {%";
        let expected = "{% for m in ms %}{%- if true -%}{{ m }}{% endif %}{% endfor %} {%";
        assert_eq!(without_generation_tags(source), expected);
    }

    #[test]
    fn strftime_takes_python_directives() {
        let environment = environment("").expect("valid");
        let template = environment.get_template(NAME).expect("there");
        let state = template.new_state();
        // 2024-07-09 01:02:03 UTC, a Tuesday.
        let format = |format| strftime(&state, 1_720_486_923.0, format).expect("valid");
        assert_eq!(format("%d %b %Y"), "09 Jul 2024");
        assert_eq!(
            format("%A, %B %d, %Y %H:%M:%S"),
            "Tuesday, July 09, 2024 01:02:03"
        );
    }
}
