//! The real dolma2 tokenizer: published ids, ids of a second BPE in Python
//! (`golden/tokenizer/generate.py`), and streamed text.

use std::sync::OnceLock;

use olmo2::Tokenizer;
use olmo2::tokenizer::SpecialTokens;
use olmo2_tests::golden_folder;
use proptest::prelude::*;
use serde_json::Value;

fn dolma2() -> &'static Tokenizer {
    static ONCE: OnceLock<Tokenizer> = OnceLock::new();
    ONCE.get_or_init(|| {
        Tokenizer::from_folder(golden_folder("tokenizer")).expect("the golden one is valid")
    })
}

fn encode(text: &str) -> Vec<u32> {
    dolma2().encode(text).expect("ids")
}

/// transformers, tests/models/olmo2/test_modeling_olmo2.py.
#[test]
fn published_ids_hold() {
    let cases: [(&str, &[u32]); 8] = [
        ("This is a test", &[2028, 374, 264, 1296]),
        (
            "生活的真谛是",
            &[21990, 76706, 9554, 89151, 39013, 249, 21043],
        ),
        ("Hi  Hello", &[13347, 220, 22691]),
        ("Hi   Hello", &[13347, 256, 22691]),
        ("", &[]),
        (" ", &[220]),
        ("  ", &[256]),
        (" Hello", &[22691]),
    ];
    for (text, ids) in cases {
        assert_eq!(encode(text), ids, "{text:?}");
    }
}

#[test]
fn ids_equal_those_of_a_second_bpe_and_come_back() {
    let json = include_str!("../golden/tokenizer/cases.json");
    let cases: Vec<Value> = serde_json::from_str(json).expect("valid");
    assert_eq!(cases.len(), 21);
    for case in cases {
        let text = case["text"].as_str().expect("text");
        let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).expect("ids");
        assert_eq!(encode(text), ids, "{text:?}");
        assert_eq!(dolma2().decode(&ids, SpecialTokens::Keep), text);
    }
}

#[test]
fn the_vocabulary_and_its_special_tokens_are_dolma2s() {
    let tokenizer = dolma2();
    assert_eq!(tokenizer.vocab_size(), 100_278);
    assert_eq!(tokenizer.vocab_size(), olmo2::DOLMA2_TOKENS);
    assert_eq!(tokenizer.bos(), Some(100_257));
    assert_eq!(tokenizer.eos(), Some(100_257));
    assert_eq!(tokenizer.pad(), Some(100_277));
    assert_eq!(
        tokenizer.id_to_token(100_257).as_deref(),
        Some("<|endoftext|>")
    );
    assert_eq!(tokenizer.token_to_id("<|pad|>"), Some(100_277));
    assert_eq!(tokenizer.id_to_token(100_278), None);
    assert!(tokenizer.is_special(100_257) && !tokenizer.is_special(100_256));
}

#[test]
fn chat_markers_are_plain_text() {
    assert_eq!(encode("<|user|>").len(), 5);
    assert_eq!(encode("<|endoftext|>"), [100_257]);
}

#[test]
fn emoji_split_over_tokens_come_out_whole() {
    let text = "👩\u{200d}🔬 e\u{301} 👍🏽 🏳\u{fe0f}\u{200d}🌈";
    let ids = encode(text);
    let mut stream = dolma2().decode_stream(SpecialTokens::Keep);
    let pieces: Vec<Option<String>> = ids.iter().map(|&id| stream.push(id)).collect();
    assert!(pieces.contains(&None), "no character was split: {pieces:?}");
    let joined: String = pieces.into_iter().flatten().collect();
    assert_eq!((joined.as_str(), stream.finish()), (text, None));
}

#[test]
fn a_character_that_is_cut_off_is_replaced_once() {
    // The fifth token is two of the three bytes of 谛.
    let ids = encode("生活的真谛是");
    let mut stream = dolma2().decode_stream(SpecialTokens::Keep);
    let text: String = ids[..5].iter().filter_map(|&id| stream.push(id)).collect();
    assert_eq!(text, "生活的真");
    assert_eq!(stream.finish().as_deref(), Some("\u{FFFD}"));
}

/// An onig panic that `encode` turns into an error: 11 MB of spaces pass its limit of steps.
#[test]
fn a_text_that_the_regex_gives_up_on_is_an_error() {
    let text = " ".repeat(11_000_000) + "a";
    let error = dolma2().encode(&text).expect_err("too many steps");
    assert!(error.to_string().contains("retry-limit"), "{error}");
    assert_eq!(encode("This is a test"), [2028, 374, 264, 1296]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn streamed_text_equals_the_whole_for_random_ids(
        ids in prop::collection::vec(0u32..100_352, 0..60),
        skip in any::<bool>(),
    ) {
        let special = if skip { SpecialTokens::Skip } else { SpecialTokens::Keep };
        let mut stream = dolma2().decode_stream(special);
        let mut text: String = ids.iter().filter_map(|&id| stream.push(id)).collect();
        text.extend(stream.finish());
        prop_assert_eq!(text, dolma2().decode(&ids, special));
    }

    #[test]
    fn any_text_comes_back(text in "\\PC{0,40}|[ \\t\\r\\n'sS0-9é生👩\u{200d}<|endoftext>]{0,40}") {
        prop_assert_eq!(dolma2().decode(&encode(&text), SpecialTokens::Keep), text);
    }
}
