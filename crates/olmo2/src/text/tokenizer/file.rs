//! `tokenizer.json`, read and checked before it is passed to the `tokenizers` crate.
//!
//! The crate's own reader (0.23.2) panics on some malformed files (a merge longer than the longest
//! token), drops a byte that the vocabulary lacks from every text, and gives an added token
//! another id than the file's with no more than a log line.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use serde_json::Value;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::{
    AddedToken, DecoderWrapper, NormalizerWrapper, PreTokenizerWrapper, Tokenizer as Engine,
};

use super::bytes::BYTE_CHARS;
use super::error::TokenizerError;
use crate::config::json;

/// Ids at and beyond this are refused: no vocabulary is near it, and the crate counts on from the
/// largest id without a look at overflow.
const ID_LIMIT: u32 = 1 << 24;

/// The pre-tokenizers and normalizers that byte-level vocabularies come with, and that were read
/// for panics.
const PRE_TOKENIZERS: &[&str] = &["ByteLevel", "Split", "Digits", "Sequence"];
const NORMALIZERS: &[&str] = &["NFC", "NFD", "NFKC", "NFKD", "Sequence"];

/// The parts of `tokenizer.json` in use. Truncation and padding would change what `encode`
/// returns, and the post-processor would add tokens that OLMo 2 is trained without: all three are
/// left out.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<AddedEntry>,
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    decoder: Option<Value>,
    model: Model,
}

#[derive(Deserialize)]
struct AddedEntry {
    id: u32,
    #[serde(flatten)]
    token: AddedToken,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type")]
    kind: String,
    vocab: HashMap<String, u32>,
    merges: Vec<Merge>,
    #[serde(default)]
    ignore_merges: bool,
    dropout: Option<f32>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
}

/// A merge in either of the two spellings.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a merge of two tokens")]
enum Merge {
    Pair(String, String),
    Line(String),
}

/// Builds the engine; also returns one more than its largest id.
///
/// # Errors
/// [`TokenizerError`] for JSON that is not a byte-level BPE tokenizer, or contradicts itself.
pub(super) fn parse(bytes: &[u8]) -> Result<(Engine, usize), TokenizerError> {
    let file: File = json::parse("tokenizer.json", bytes)?;
    check_parts(&file)?;
    let mut largest = check_vocab(&file.model.vocab)?;
    for added in &file.added_tokens {
        check_added(added, &file.model.vocab)?;
        largest = largest.max(added.id);
    }
    let model = build_model(file.model)?;
    let mut engine = Engine::new(model);
    let normalizer: Option<NormalizerWrapper> = part("normalizer", file.normalizer)?;
    engine
        .with_normalizer(normalizer)
        .map_err(|error| TokenizerError::engine(&error))?;
    let pre_tokenizer: Option<PreTokenizerWrapper> = part("pre_tokenizer", file.pre_tokenizer)?;
    engine.with_pre_tokenizer(pre_tokenizer);
    let decoder: Option<DecoderWrapper> = part("decoder", file.decoder)?;
    engine.with_decoder(decoder);
    add_tokens(&mut engine, file.added_tokens)?;
    Ok((engine, largest as usize + 1))
}

/// Refuses all but byte-level BPE, and parts whose code was not checked for panics.
fn check_parts(file: &File) -> Result<(), TokenizerError> {
    let model = &file.model;
    let unsupported = |part: &'static str, expected: &'static str, found: &str| {
        Err(TokenizerError::Unsupported {
            part,
            expected,
            found: found.to_owned(),
        })
    };
    if model.kind != "BPE" {
        return unsupported("model", "BPE", &model.kind);
    }
    if let Some(dropout) = model.dropout.filter(|dropout| *dropout != 0.0) {
        return unsupported("model.dropout", "none", &dropout.to_string());
    }
    for (part, affix) in [
        (
            "model.continuing_subword_prefix",
            &model.continuing_subword_prefix,
        ),
        ("model.end_of_word_suffix", &model.end_of_word_suffix),
    ] {
        if let Some(affix) = affix.as_ref().filter(|affix| !affix.is_empty()) {
            return unsupported(part, "none", affix);
        }
    }
    let decoder = kinds(file.decoder.as_ref());
    if decoder != ["ByteLevel"] {
        return unsupported("decoder", "ByteLevel", &decoder.join(", "));
    }
    let pre = kinds(file.pre_tokenizer.as_ref());
    if !pre.contains(&"ByteLevel") || !pre.iter().all(|kind| PRE_TOKENIZERS.contains(kind)) {
        let expected = "ByteLevel, with Split and Digits before it";
        return unsupported("pre_tokenizer", expected, &pre.join(", "));
    }
    let normalizer = kinds(file.normalizer.as_ref());
    if !normalizer.iter().all(|kind| NORMALIZERS.contains(kind)) {
        return unsupported(
            "normalizer",
            "none or a Unicode form",
            &normalizer.join(", "),
        );
    }
    Ok(())
}

/// The `type` of a part, and of all parts inside it if it is a sequence.
fn kinds(part: Option<&Value>) -> Vec<&str> {
    let Some(part) = part else { return Vec::new() };
    let kind = part.get("type").and_then(Value::as_str).unwrap_or("?");
    let inner = ["pretokenizers", "normalizers"]
        .iter()
        .filter_map(|key| part.get(key).and_then(Value::as_array))
        .flatten();
    let mut all = vec![kind];
    all.extend(inner.flat_map(|part| kinds(Some(part))));
    all
}

/// Checks that ids are distinct and below the limit and that each byte has a token. Returns the
/// largest id.
fn check_vocab(vocab: &HashMap<String, u32>) -> Result<u32, TokenizerError> {
    let mut owners: HashMap<u32, &str> = HashMap::with_capacity(vocab.len());
    for (token, &id) in vocab {
        if id >= ID_LIMIT {
            let token = token.clone();
            return Err(TokenizerError::IdTooLarge { token, id });
        }
        if let Some(other) = owners.insert(id, token) {
            let mut tokens = [token.clone(), other.to_owned()];
            tokens.sort();
            return Err(TokenizerError::SharedId { id, tokens });
        }
    }
    for (byte, char) in (0..=255u8).zip(BYTE_CHARS) {
        if !vocab.contains_key(char.encode_utf8(&mut [0; 4]) as &str) {
            return Err(TokenizerError::MissingByte { byte });
        }
    }
    // All 256 bytes have an id, so a largest one exists.
    Ok(owners.into_keys().max().unwrap_or(0))
}

fn check_added(added: &AddedEntry, vocab: &HashMap<String, u32>) -> Result<(), TokenizerError> {
    let AddedEntry { id, token } = added;
    let token = token.content.clone();
    if token.is_empty() {
        return Err(TokenizerError::EmptyAddedToken { id: *id });
    }
    if *id >= ID_LIMIT {
        return Err(TokenizerError::IdTooLarge { token, id: *id });
    }
    match vocab.get(&token) {
        Some(expected) if expected != id => Err(TokenizerError::AddedTokenId {
            token,
            expected: *expected,
            found: *id,
        }),
        _ => Ok(()),
    }
}

fn build_model(model: Model) -> Result<BPE, TokenizerError> {
    let vocab = &model.vocab;
    let merges = model
        .merges
        .into_iter()
        .filter(|merge| !matches!(merge, Merge::Line(line) if line.starts_with("#version")))
        .map(|merge| {
            let (a, b) = match merge {
                Merge::Pair(a, b) => (a, b),
                Merge::Line(line) => match line.split_once(' ') {
                    Some((a, b)) => (a.to_owned(), b.to_owned()),
                    None => (line, String::new()),
                },
            };
            let known = |token: &str| vocab.contains_key(token);
            if known(&a) && known(&b) && known(&format!("{a}{b}")) {
                Ok((a, b))
            } else {
                Err(TokenizerError::UnknownMerge { left: a, right: b })
            }
        })
        .collect::<Result<Vec<_>, _>>()?;
    let vocab: Vocab = model.vocab.into_iter().collect();
    BPE::builder()
        .vocab_and_merges(vocab, merges)
        .ignore_merges(model.ignore_merges)
        .build()
        .map_err(|error| TokenizerError::engine(&error))
}

/// Parses an optional part into the crate's type.
fn part<T: serde::de::DeserializeOwned>(
    part: &'static str,
    value: Option<Value>,
) -> Result<Option<T>, TokenizerError> {
    value
        .map(serde_json::from_value)
        .transpose()
        .map_err(|source| TokenizerError::Part { part, source })
}

/// Adds the tokens and checks that the crate, which numbers new tokens itself, gave them the ids of
/// the file.
fn add_tokens(engine: &mut Engine, mut added: Vec<AddedEntry>) -> Result<(), TokenizerError> {
    added.sort_by_key(|entry| entry.id);
    let mut contents = HashSet::new();
    for entry in &added {
        if !contents.insert(entry.token.content.as_str()) {
            let token = entry.token.content.clone();
            return Err(TokenizerError::AddedTwice { token });
        }
    }
    let ids: Vec<_> = added
        .iter()
        .map(|entry| (entry.id, entry.token.content.clone()))
        .collect();
    engine
        .add_tokens(added.into_iter().map(|entry| entry.token))
        .map_err(|error| TokenizerError::engine(&error))?;
    for (found, token) in ids {
        match engine.token_to_id(&token) {
            Some(id) if id == found => {}
            id => {
                return Err(TokenizerError::AddedTokenId {
                    token,
                    expected: id.unwrap_or_default(),
                    found,
                });
            }
        }
    }
    Ok(())
}
