//! Chat templates against transformers (`golden/chat/generate.py`), and OLMo 2's down to its ids.

use olmo2::Tokenizer;
use olmo2::chat::{ChatError, ChatTemplate, Message};
use olmo2::tokenizer::SpecialTexts;
use olmo2_tests::golden_folder;
use serde_json::Value;

const OLMO2: &str = include_str!("../golden/chat/olmo2.jinja");

fn special() -> SpecialTexts {
    SpecialTexts {
        bos_token: Some("<|endoftext|>".to_owned()),
        eos_token: Some("<|endoftext|>".to_owned()),
        pad_token: Some("<|pad|>".to_owned()),
        unk_token: None,
    }
}

fn render(messages: &[Message], prompt: bool) -> String {
    let template = ChatTemplate::new(OLMO2, special()).expect("valid");
    template.render(messages, prompt).expect("text")
}

/// The model card of OLMo-2-1124-13B-Instruct.
#[test]
fn the_model_cards_conversation_is_rendered() {
    let messages = [
        Message::user("How are you doing?"),
        Message::assistant("I'm just a computer program?"),
    ];
    assert_eq!(
        render(&messages, false),
        "<|endoftext|><|user|>\nHow are you doing?\n\
         <|assistant|>\nI'm just a computer program?<|endoftext|>"
    );
}

#[test]
fn templates_render_as_in_transformers() {
    let golden: Value =
        serde_json::from_str(include_str!("../golden/chat/cases.json")).expect("valid");
    let special: SpecialTexts = serde_json::from_value(golden["special"].clone()).expect("texts");
    let cases = golden["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 20);
    for case in cases {
        let source = case["template"].as_str().expect("a template");
        let messages: Vec<Message> =
            serde_json::from_value(case["messages"].clone()).expect("messages");
        let prompt = case["prompt"].as_bool().expect("a flag");
        let template = ChatTemplate::new(source, special.clone()).expect("valid");
        let (key, result) = match template.render(&messages, prompt) {
            Ok(text) => ("text", text),
            Err(ChatError::Refused { message }) => ("refusal", message),
            Err(error) => panic!("{}: {error}", case["name"]),
        };
        assert_eq!(
            case[key].as_str(),
            Some(result.as_str()),
            "{}",
            case["name"]
        );
    }
}

#[test]
fn a_chat_prompt_starts_with_bos_and_stops_at_an_open_turn() {
    let folder = golden_folder("tokenizer");
    let tokenizer = Tokenizer::from_folder(&folder).expect("valid");
    let text = render(&[Message::user("This is a test")], true);
    let ids = tokenizer.encode(&text).expect("ids");
    assert_eq!(ids[0], 100_257);
    assert_eq!(ids.iter().filter(|id| **id == 100_257).count(), 1);
    assert!(text.ends_with("<|assistant|>\n"));
}

#[test]
fn a_base_models_folder_has_no_template() {
    let folder = golden_folder("tokenizer");
    assert!(ChatTemplate::from_folder(&folder).expect("valid").is_none());
}
