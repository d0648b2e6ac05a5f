//! `tokenizer_config.json`: which tokens are special, and the chat template.

use serde::{Deserialize, Serialize};

use super::error::TokenizerError;
use crate::config::json;

const FILE: &str = "tokenizer_config.json";

/// The texts of the special tokens that `tokenizer_config.json` names. Serialized, they are the
/// variables that transformers gives to a chat template.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SpecialTexts {
    /// Starts a sequence. OLMo 2's plain encoding does not add it, its chat template does.
    #[serde(
        deserialize_with = "json::token",
        skip_serializing_if = "Option::is_none"
    )]
    pub bos_token: Option<String>,
    /// Ends a sequence.
    #[serde(
        deserialize_with = "json::token",
        skip_serializing_if = "Option::is_none"
    )]
    pub eos_token: Option<String>,
    /// Fills up a batch.
    #[serde(
        deserialize_with = "json::token",
        skip_serializing_if = "Option::is_none"
    )]
    pub pad_token: Option<String>,
    /// Stands for what the vocabulary can't spell; byte-level vocabularies never use it.
    #[serde(
        deserialize_with = "json::token",
        skip_serializing_if = "Option::is_none"
    )]
    pub unk_token: Option<String>,
}

/// The fields of `tokenizer_config.json` in use.
#[derive(Debug)]
pub(crate) struct TokenizerConfig {
    pub(crate) special: SpecialTexts,
    pub(crate) chat_template: Option<TemplateField>,
}

/// `chat_template` in its two forms.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a text, or a list of named templates")]
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
        #[derive(Deserialize)]
        struct Template {
            chat_template: Option<TemplateField>,
        }
        // Twice over a small file: flattened, the fields of errors would be lost.
        let special = json::parse(FILE, json)?;
        let Template { chat_template } = json::parse(FILE, json)?;
        Ok(Self {
            special,
            chat_template,
        })
    }
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
        let expected = "`eos_token` in `tokenizer_config.json`: expected a text, or an object with \
                        the text as `content`, found `3`";
        assert_eq!(error.to_string(), expected);
        let json = br#"{"chat_template": [{"name": "default"}]}"#;
        let error = TokenizerConfig::from_bytes(json).expect_err("no template");
        let expected = "`chat_template` in `tokenizer_config.json`: expected a text, or a list of \
                        named templates";
        assert_eq!(error.to_string(), expected);
        assert!(TokenizerConfig::from_bytes(b"[]").is_err());
    }
}
