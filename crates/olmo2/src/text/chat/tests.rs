//! Where a template is found, what it may do, and how it fails. That it renders as in
//! transformers is tested in `tests/it/chat.rs`.

use super::*;

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source, SpecialTexts::default()).expect("the template is valid")
}

fn render(source: &str) -> Result<String, ChatError> {
    template(source).render(&[Message::user("hi")], true)
}

fn find(jinja: Option<&str>, config: Option<&str>) -> Result<Option<String>, ChatError> {
    ChatTemplate::from_bytes(jinja.map(str::as_bytes), config.map(str::as_bytes))
        .map(|found| found.map(|template| template.source().to_owned()))
}

#[test]
fn the_jinja_file_wins_over_the_config() {
    let config = r#"{"chat_template": "config"}"#;
    assert_eq!(
        find(Some("file"), Some(config)).expect("valid").as_deref(),
        Some("file")
    );
    assert_eq!(
        find(None, Some(config)).expect("valid").as_deref(),
        Some("config")
    );
    assert_eq!(
        find(Some("file"), None).expect("valid").as_deref(),
        Some("file")
    );
}

#[test]
fn no_template_is_none() {
    for config in [None, Some("{}"), Some(r#"{"chat_template": null}"#)] {
        assert_eq!(find(None, config).expect("valid"), None);
    }
}

#[test]
fn of_several_templates_the_default_is_taken() {
    let config = r#"{"chat_template": [{"name": "tool_use", "template": "t"},
        {"name": "default", "template": "d"}]}"#;
    assert_eq!(
        find(None, Some(config)).expect("valid").as_deref(),
        Some("d")
    );
    let config = r#"{"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "rag",
        "template": "r"}]}"#;
    let error = find(None, Some(config)).expect_err("no default");
    assert_eq!(
        error.to_string(),
        "the chat template must be called `default`, found `tool_use`, `rag`"
    );
}

#[test]
fn files_of_a_folder_are_found() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(
        ChatTemplate::from_folder(folder.path())
            .expect("valid")
            .is_none()
    );
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("written");
    };
    write(
        "tokenizer_config.json",
        r#"{"bos_token": {"content": "<b>"}, "eos_token": "<e>"}"#,
    );
    write(
        "chat_template.jinja",
        "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}\n",
    );
    let template = ChatTemplate::from_folder(folder.path())
        .expect("valid")
        .expect("one");
    let text = template
        .render(&[Message::user("hi")], false)
        .expect("text");
    assert_eq!(text, "<b>hi<e>");
}

#[test]
fn raise_exception_is_reported_in_the_templates_words() {
    let error = render("\n{{ raise_exception('roles must alternate') }}").expect_err("raised");
    assert!(matches!(&error, ChatError::Refused { message } if message == "roles must alternate"));
    assert_eq!(
        error.to_string(),
        "the chat template refuses this conversation: roles must alternate"
    );
    // Also from inside a macro and a call block.
    let nested = "{% macro m() %}{{ raise_exception('deep') }}{% endmacro %}{{ m() | upper }}";
    assert!(matches!(render(nested), Err(ChatError::Refused { message }) if message == "deep"));
}

#[test]
fn errors_say_where() {
    let syntax = ChatTemplate::new("a\n{% if %}", SpecialTexts::default()).expect_err("syntax");
    assert!(
        syntax.to_string().contains("(in chat_template:2)"),
        "{syntax}"
    );
    let render = render("a\n\n{{ messages[0].nothing.at_all }}").expect_err("undefined");
    assert!(
        render.to_string().contains("(in chat_template:3)"),
        "{render}"
    );
    let not_text = ChatTemplate::from_bytes(Some(b"\xFF"), None).expect_err("not UTF-8");
    assert_eq!(not_text.to_string(), "`chat_template.jinja` is not UTF-8");
}

#[test]
fn tools_and_documents_are_none_and_a_missing_token_is_undefined() {
    let source = "{{ tools is none }} {{ documents is none }} {{ bos_token is defined }}";
    assert_eq!(render(source).expect("text"), "True True False");
}

#[test]
fn a_template_reads_no_files() {
    for source in [
        "{% include '/etc/hostname' %}",
        "{% import 'x' as y %}",
        "{% extends 'x' %}",
    ] {
        let result = ChatTemplate::new(source, SpecialTexts::default())
            .and_then(|template| template.render(&[], false));
        assert!(result.is_err(), "{source}");
    }
}

#[test]
fn a_hostile_template_runs_out_of_fuel() {
    let hostile = [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{{ 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' }}{% endfor %}",
        "{{ 'a' * 99999999 }}",
        "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}\
         {% endfor %}{{ ns.x }}",
        // 2^31 items that minijinja adds without making them: the filter must count.
        "{% set ns = namespace(x=['a']) %}{% for i in range(31) %}{% set ns.x = ns.x + ns.x %}\
         {% endfor %}{{ ns.x | tojson }}",
        "{{ (range(99999) | list) | tojson(indent=16) }}",
        "{{ 'a'.replace('', 'b' * 999999).replace('', 'c' * 999999) }}",
    ];
    for source in hostile {
        let result = render(source);
        assert!(
            matches!(result, Err(ChatError::OutOfFuel)),
            "{source}: {:?}",
            result.err()
        );
    }
}

#[test]
fn a_hostile_template_cannot_exhaust_the_stack() {
    let nested = "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}\
         {% set ns.x = [ns.x] %}{% if i % 100 == 0 %}{{ loop.index }}{% endif %}{% endfor %}";
    assert!(render(nested).is_err());
    let recursive = "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}";
    assert!(render(recursive).is_err());
    let parens = format!("{{{{ {}1{} }}}}", "(".repeat(50_000), ")".repeat(50_000));
    assert!(ChatTemplate::new(parens, SpecialTexts::default()).is_err());
}

#[test]
fn a_long_conversation_has_fuel_enough() {
    let source = "{% for m in messages %}{{ m.role | upper ~ ': ' ~ m.content.strip() ~ '\n' }}\
         {% if loop.last and add_generation_prompt %}{{ 'A:' }}{% endif %}{% endfor %}";
    let content = "word ".repeat(10_000);
    let messages = vec![Message::user(content.clone()); 400];
    let text = template(source).render(&messages, true).expect("text");
    assert_eq!(text.len(), 400 * ("USER: \n".len() + content.len() - 1) + 2);
}

/// jinja2's lexer turns all line ends into `\n`, those inside of literals too.
#[test]
fn line_ends_of_windows_and_a_byte_order_mark_are_those_of_unix() {
    let unix = "{{ 'a\n' }}\nb\n{{ messages[0].content }}";
    let template = |text: &str| {
        let template = ChatTemplate::from_bytes(Some(text.as_bytes()), None).expect("valid");
        template.expect("a template")
    };
    let render = |text: &str| {
        let messages = [Message::user("x\r\ny")];
        template(text).render(&messages, false).expect("rendered")
    };
    let right = render(unix);
    assert!(
        right.ends_with("x\r\ny"),
        "a message keeps its own line ends"
    );
    for text in [
        unix.replace('\n', "\r\n"),
        unix.replace('\n', "\r"),
        format!("\u{feff}{unix}"),
    ] {
        assert_eq!(render(&text), right);
    }
    let dos = unix.replace('\n', "\r\n");
    assert_eq!(template(&dos).source(), dos);
}
