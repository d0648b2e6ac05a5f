//! A tiny tokenizer, built here, whole and in all ways broken. The real one is tested in
//! `tests/it/tokenizer.rs`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::bytes::BYTE_CHARS;
use super::*;
use crate::hint::Hint;

const PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Ids 0 to 255 are the bytes, then four merges, then `<|end|>` (special), ` gap` and `<|pad|>`.
fn tiny() -> Value {
    let mut vocab = serde_json::Map::new();
    for (id, char) in BYTE_CHARS.iter().enumerate() {
        vocab.insert(char.to_string(), id.into());
    }
    let merges = ["h e", "l l", "Ġ he", "he ll"];
    for (i, merge) in merges.iter().enumerate() {
        vocab.insert(merge.replace(' ', ""), (256 + i).into());
    }
    vocab.insert("<|end|>".to_owned(), 260.into());
    let added = |id: u32, content, special| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": special})
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [added(260, "<|end|>", true), added(261, " gap", false),
            added(262, "<|pad|>", true)],
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Removed", "invert": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                "use_regex": false}]},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
            "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "fuse_unk": false,
            "continuing_subword_prefix": "", "end_of_word_suffix": "", "byte_fallback": false,
            "vocab": vocab, "merges": merges},
    })
}

const CONFIG: &[u8] = br#"{"eos_token": "<|end|>", "pad_token": {"content": "<|pad|>"}}"#;

fn load(json: &Value) -> Result<Tokenizer, TokenizerError> {
    Tokenizer::from_bytes(json.to_string().as_bytes(), Some(CONFIG))
}

pub(crate) fn tokenizer() -> Tokenizer {
    load(&tiny()).expect("the tiny tokenizer is valid")
}

#[test]
fn text_is_merged_and_nothing_is_added() {
    let tokenizer = tokenizer();
    // "he" + "ll" is the last merge, so " hello" is " he" + "ll" + "o".
    assert_eq!(tokenizer.encode("hello").expect("ids"), [259, 111]);
    assert_eq!(tokenizer.encode(" hello").expect("ids"), [258, 257, 111]);
    assert_eq!(tokenizer.encode("").expect("ids"), [] as [u32; 0]);
    assert_eq!(tokenizer.encode("é").expect("ids"), [0xC3, 0xA9]);
}

#[test]
fn added_tokens_are_found_in_text() {
    let ids = tokenizer().encode("he<|end|> gap").expect("ids");
    assert_eq!(ids, [256, 260, 261]);
}

#[test]
fn special_tokens_are_kept_or_skipped() {
    let tokenizer = tokenizer();
    let ids = [259, 260, 261, 262];
    let decode = |special| tokenizer.decode(&ids, special);
    assert_eq!(decode(SpecialTokens::Keep), "hell<|end|> gap<|pad|>");
    assert_eq!(decode(SpecialTokens::Skip), "hell gap");
    assert!(tokenizer.is_special(260) && !tokenizer.is_special(261));
}

#[test]
fn the_special_ids_come_from_the_config() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.bos(), None);
    assert_eq!(tokenizer.eos(), Some(260));
    assert_eq!(tokenizer.pad(), Some(262));
    let json = tiny().to_string();
    let plain = Tokenizer::from_bytes(json.as_bytes(), None).expect("valid");
    assert_eq!((plain.eos(), plain.vocab_size()), (None, 263));
    let error = Tokenizer::from_bytes(json.as_bytes(), Some(br#"{"bos_token": "<s>"}"#));
    assert_eq!(
        error.expect_err("no <s>").to_string(),
        "`bos_token` is `<s>`, which is not in the vocabulary"
    );
}

#[test]
fn ids_and_tokens_name_each_other() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.token_to_id("Ġhe"), Some(258));
    assert_eq!(tokenizer.id_to_token(258).as_deref(), Some("Ġhe"));
    assert_eq!(tokenizer.token_bytes(258).as_deref(), Some(&b" he"[..]));
    assert_eq!(tokenizer.id_to_token(263), None);
    assert_eq!(tokenizer.decode(&[263, u32::MAX], SpecialTokens::Keep), "");
}

#[test]
fn truncation_padding_and_post_processor_of_the_file_are_not_obeyed() {
    let mut json = tiny();
    json["truncation"] = json!({"direction": "Right", "max_length": 1,
        "strategy": "LongestFirst", "stride": 0});
    json["padding"] = json!({"strategy": {"Fixed": 8}, "direction": "Right",
        "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "!"});
    json["post_processor"] = json!({"type": "TemplateProcessing"});
    let tokenizer = load(&json).expect("these parts are not read");
    assert_eq!(tokenizer.encode("hello").expect("ids"), [259, 111]);
}

#[test]
fn what_is_wrong_with_a_file_is_named() {
    type Change = fn(&mut Value);
    let cases: &[(Change, &str)] = &[
        (
            |t| t["model"]["type"] = "Unigram".into(),
            "`model` in `tokenizer.json` must be BPE, found `Unigram`",
        ),
        (
            |t| t["decoder"] = Value::Null,
            "`decoder` in `tokenizer.json` must be ByteLevel, found ``",
        ),
        (
            |t| t["model"]["continuing_subword_prefix"] = "##".into(),
            "`model.continuing_subword_prefix` in `tokenizer.json` must be none, found `##`",
        ),
        (
            |t| t["model"]["vocab"]["zz"] = 5.into(),
            "id 5 belongs to both `zz` and `ą`",
        ),
        (
            |t| t["model"]["vocab"]["zz"] = u32::MAX.into(),
            "token `zz` has id 4294967295, expected an id below 2^24",
        ),
        (
            |t| t["model"]["vocab"] = json!({"a": 0}),
            "the vocabulary has no token for byte 0x00",
        ),
        (
            |t| t["model"]["merges"][0] = "h llll".into(),
            "the merge of `h` and `llll` names a token that is not in the vocabulary",
        ),
        (
            // Longer than the longest token: the crate's own reader panics.
            |t| t["model"]["merges"][0] = json!(["<|end|>", "<|end|>"]),
            "the merge of `<|end|>` and `<|end|>` names a token that is not in the vocabulary",
        ),
        (
            |t| t["added_tokens"][0]["content"] = "".into(),
            "the added token with id 260 is empty",
        ),
        (
            |t| t["added_tokens"][0]["id"] = 300.into(),
            "the added token `<|end|>` must have id 260, found 300",
        ),
        (
            |t| t["added_tokens"][2]["id"] = 300.into(),
            "the added token `<|pad|>` must have id 262, found 300",
        ),
        (
            |t| t["added_tokens"][2]["content"] = " gap".into(),
            "the added token ` gap` is listed twice",
        ),
    ];
    for (change, message) in cases {
        let mut json = tiny();
        change(&mut json);
        let error = load(&json).expect_err(message);
        assert_eq!(error.to_string(), *message);
        assert!(error.hint().is_some());
    }
}

#[test]
fn added_tokens_that_claim_the_same_spaces_are_an_error() {
    let mut json = tiny();
    json["added_tokens"][0]["rstrip"] = true.into();
    json["added_tokens"][1]["content"] = " ".into();
    json["added_tokens"][1]["lstrip"] = true.into();
    let tokenizer = load(&json).expect("each token is fine");
    // `<|end|>` strips all spaces, then the token for one of them has nothing left to strip.
    let error = tokenizer
        .encode("<|end|>   x")
        .expect_err("the crate panics");
    assert_eq!(
        error.to_string(),
        "the tokenizer failed: AddedVocabulary bad split"
    );
    assert_eq!(tokenizer.encode("hello").expect("ids"), [259, 111]);
}

#[test]
fn a_missing_file_is_named_and_a_missing_config_is_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = Tokenizer::from_folder(folder.path()).expect_err("no file");
    assert!(error.to_string().contains("tokenizer.json`: "), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("token ids")));
    let json = tiny().to_string();
    std::fs::write(folder.path().join("tokenizer.json"), &json).expect("written");
    let tokenizer = Tokenizer::from_folder(folder.path()).expect("valid");
    assert_eq!(tokenizer.eos(), None);
    std::fs::write(folder.path().join("tokenizer_config.json"), CONFIG).expect("written");
    let tokenizer = Tokenizer::from_folder(folder.path()).expect("valid");
    assert_eq!(tokenizer.eos(), Some(260));
}

/// All values in a tree of JSON, by their paths.
fn paths(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                paths(item, &format!("{at}/{i}"), found);
            }
        }
        Value::Object(map) => {
            for (key, item) in map {
                let key = key.replace('~', "~0").replace('/', "~1");
                paths(item, &format!("{at}/{key}"), found);
            }
        }
        _ => {}
    }
}

/// Values that do damage somewhere.
fn replacement() -> impl Strategy<Value = Value> {
    let values = [
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(260),
        json!(4294967295u32),
        json!(1e300),
        json!(""),
        json!(" "),
        json!("<|end|>"),
        json!("Ġ"),
        json!("生"),
        json!("(a*)*b"),
        json!("("),
        json!(""),
        json!([]),
        json!({}),
        json!([[]]),
        json!("ByteLevel"),
        json!("Split"),
        json!("Digits"),
        json!("NFKC"),
        json!("Removed"),
        json!("MergedWithPrevious"),
        json!({"type": "NFC"}),
        json!({"type": "Metaspace"}),
        json!({"type": "FixedLength", "length": 0}),
        json!({"String": ""}),
        json!({"Regex": ""}),
        json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        json!(["h", "e"]),
        json!({"type": "Digits", "individual_digits": true}),
    ];
    prop::sample::select(values.to_vec())
}

/// Texts of added tokens that overlap in what is encoded below.
fn added_text() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        " gap", "  ", "gap ", "<|pad|>", "\t", "ap  g", "生", "\u{200d}", "\r\n 生", "234", "llo <",
    ])
}

/// Loads and, if that succeeds, uses it.
fn survives(json: &[u8]) -> bool {
    catch_unwind(AssertUnwindSafe(|| {
        let Ok(tokenizer) = Tokenizer::from_bytes(json, None) else {
            return;
        };
        for text in [
            "",
            " hello <|end|> gap  gap <|pad|> 1234\r\n 生👩\u{200d}🔬",
            "   \t ",
        ] {
            let ids = tokenizer.encode(text).unwrap_or_default();
            tokenizer.decode(&ids, SpecialTokens::Skip);
        }
        let top = tokenizer.vocab_size() as u32;
        tokenizer.decode(&[0, top - 1, top, u32::MAX], SpecialTokens::Keep);
    }))
    .is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn no_changed_value_makes_it_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), replacement()), 1..3),
        outside_vocab in any::<bool>(),
    ) {
        let mut json = tiny();
        for (index, value) in changes {
            let mut all = Vec::new();
            paths(&json, "", &mut all);
            // The vocabulary has most of the values: half of the cases leave it alone.
            all.retain(|path| !(outside_vocab && path.starts_with("/model/vocab/")));
            if let Some(target) = json.pointer_mut(&all[index.index(all.len())]) {
                *target = value;
            }
        }
        prop_assert!(survives(json.to_string().as_bytes()));
    }

    #[test]
    fn no_added_tokens_make_encoding_panic(
        tokens in prop::collection::vec((added_text(), any::<[bool; 5]>()), 0..6),
        normalizer in prop::sample::select(vec!["NFC", "NFD", "NFKC", "NFKD", ""]),
    ) {
        let mut json = tiny();
        json["added_tokens"] = tokens
            .iter()
            .zip(261..)
            .map(|((content, flags), id)| json!({"id": id, "content": content,
                "single_word": flags[0], "lstrip": flags[1], "rstrip": flags[2],
                "normalized": flags[3], "special": flags[4]}))
            .collect();
        if !normalizer.is_empty() {
            json["normalizer"] = json!({"type": normalizer});
        }
        prop_assert!(survives(json.to_string().as_bytes()));
    }

    #[test]
    fn no_changed_byte_makes_it_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut json = tiny().to_string().into_bytes();
        for (index, byte) in edits {
            let at = index.index(json.len());
            json[at] = byte;
        }
        if let Some(cut) = cut {
            json.truncate(cut.index(json.len()));
        }
        prop_assert!(survives(&json));
    }

    #[test]
    fn streamed_text_equals_the_whole_and_the_crate(
        ids in prop::collection::vec(0u32..270, 0..40),
        skip in any::<bool>(),
    ) {
        let tokenizer = tokenizer_once();
        let special = if skip { SpecialTokens::Skip } else { SpecialTokens::Keep };
        let mut stream = tokenizer.decode_stream(special);
        let mut text: String = ids.iter().filter_map(|&id| stream.push(id)).collect();
        text.extend(stream.finish());
        prop_assert_eq!(&text, &tokenizer.decode(&ids, special));
        let crates = tokenizer.inner.engine.decode(&ids, skip).expect("text");
        prop_assert_eq!(text, crates);
    }

    #[test]
    fn any_text_comes_back(text in "\\PC{0,20}|[ \\t\\r\\nhel<|end>gap'0-9é生👩\u{200d}]{0,40}") {
        let tokenizer = tokenizer_once();
        let ids = tokenizer.encode(&text).expect("ids");
        prop_assert_eq!(tokenizer.decode(&ids, SpecialTokens::Keep), text);
    }
}

/// The tiny tokenizer, built once for all cases.
fn tokenizer_once() -> &'static Tokenizer {
    static ONCE: std::sync::OnceLock<Tokenizer> = std::sync::OnceLock::new();
    ONCE.get_or_init(tokenizer)
}
