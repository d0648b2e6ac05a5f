//! `tokenizer_config.json`: which tokens are special, and the chat template.

use serde::{Deserialize, Serialize};

use super::error::TokenizerError;

/// The texts of the special tokens that `tokenizer_config.json` names. Serialized, they are the
/// variables that transformers gives to a chat template.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecialTexts {
    /// Starts a sequence. OLMo 2's plain encoding does not add it, its chat template does.
    #[serde(
        default,
        deserialize_with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    pub bos_token: Option<String>,
    /// Ends a sequence.
    #[serde(
        default,
        deserialize_with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    pub eos_token: Option<String>,
    /// Fills up a batch.
    #[serde(
        default,
        deserialize_with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    pub pad_token: Option<String>,
    /// Stands for what the vocabulary can't spell; byte-level vocabularies never use it.
    #[serde(
        default,
        deserialize_with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    pub unk_token: Option<String>,
}

/// The fields of `tokenizer_config.json` in use.
#[derive(Debug, Deserialize)]
pub(crate) struct TokenizerConfig {
    #[serde(flatten)]
    pub(crate) special: SpecialTexts,
    pub(crate) chat_template: Option<TemplateField>,
}

/// `chat_template` in its two forms.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum TemplateField {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Debug, Deserialize)]
pub(crate) struct NamedTemplate {
    pub(crate) name: String,
    pub(crate) template: String,
}

impl TokenizerConfig {
    /// # Errors
    /// [`TokenizerError::Json`].
    pub(crate) fn from_bytes(json: &[u8]) -> Result<Self, TokenizerError> {
        serde_json::from_slice(json).map_err(|source| TokenizerError::Json {
            file: "tokenizer_config.json",
            source,
        })
    }
}

/// A token is a string, or an object with the string as `content`.
fn text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Token {
        Text(String),
        Object { content: String },
    }
    Ok(
        Option::<Token>::deserialize(deserializer)?.map(|token| match token {
            Token::Text(text) | Token::Object { content: text } => text,
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_may_be_text_an_object_or_null() {
        let json = br#"{"bos_token": null, "eos_token": {"__type": "AddedToken", "content": "<e>",
            "lstrip": false}, "pad_token": "<p>", "model_max_length": 1e30}"#;
        let config = TokenizerConfig::from_bytes(json).expect("valid");
        let expected = SpecialTexts {
            eos_token: Some("<e>".to_owned()),
            pad_token: Some("<p>".to_owned()),
            ..Default::default()
        };
        assert_eq!(config.special, expected);
        assert!(config.chat_template.is_none());
    }

    #[test]
    fn a_token_of_another_form_is_an_error() {
        let error = TokenizerConfig::from_bytes(br#"{"eos_token": 3}"#).expect_err("a number");
        assert!(
            error
                .to_string()
                .starts_with("`tokenizer_config.json` is not valid: ")
        );
        assert!(TokenizerConfig::from_bytes(b"[]").is_err());
    }
}
