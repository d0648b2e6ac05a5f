//! `generation_config.json`: the checkpoint's defaults for generation, which a user can override.

use std::path::Path;

use serde::Deserialize;

use super::unused;
use crate::config::json::{self, JsonError};
use crate::hint::Hint;
use crate::sampling::SamplingParams;

/// `top_k` of transformers where the file does not set it (`_get_default_generation_params`).
const TOP_K_OF_TRANSFORMERS: usize = 50;

/// The fields that are used, each of them optional; others are ignored.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct GenerationConfig {
    /// The ids that end a text: one or a list in the file.
    #[serde(deserialize_with = "json::ids")]
    pub eos_token_id: Vec<u32>,
    /// The id that pads a batch.
    #[serde(deserialize_with = "json::optional_id")]
    pub pad_token_id: Option<u32>,
    /// The id that starts a text.
    #[serde(deserialize_with = "json::optional_id")]
    pub bos_token_id: Option<u32>,
    /// Whether to sample; greedy if false or not given.
    pub do_sample: Option<bool>,
    /// See [`SamplingParams::temperature`].
    pub temperature: Option<f32>,
    /// See [`SamplingParams::top_k`]; 0 is off, and so is -1 in the file.
    #[serde(deserialize_with = "json::count_or_off")]
    pub top_k: Option<usize>,
    /// See [`SamplingParams::top_p`].
    pub top_p: Option<f32>,
    /// See [`SamplingParams::min_p`].
    pub min_p: Option<f32>,
    /// See [`SamplingParams::repetition_penalty`].
    pub repetition_penalty: Option<f32>,
    /// How many tokens to generate.
    pub max_new_tokens: Option<usize>,
    /// Names of further settings that transformers follows and this library does not.
    #[serde(skip)]
    pub unused: Vec<String>,
}

impl GenerationConfig {
    /// The `generation_config.json` of a checkpoint's folder, `None` if it has none.
    ///
    /// # Errors
    /// A file that can't be read or is malformed.
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Option<Self>, GenerationConfigError> {
        let path = folder.as_ref().join("generation_config.json");
        match std::fs::read(&path) {
            Ok(json) => Self::from_bytes(&json).map(Some),
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(GenerationConfigError::Io { path, source }),
        }
    }

    /// # Errors
    /// [`GenerationConfigError::Json`].
    pub fn from_bytes(json: &[u8]) -> Result<Self, GenerationConfigError> {
        let config: Self = json::parse("generation_config.json", json)?;
        Ok(Self {
            unused: unused::names(json),
            ..config
        })
    }

    /// Writes these defaults into `params`; apply the user's choices after it.
    ///
    /// As in transformers' `generate`: without `do_sample: true` decoding is greedy, whatever
    /// `temperature` says. With it, what the file leaves out is transformers' default:
    /// temperature 1 and top-k 50, which [`SamplingParams::default`] does not have. Fields that
    /// greedy decoding ignores are set too, for a user who then sets a temperature.
    pub fn apply_to(&self, params: &mut SamplingParams) {
        if self.do_sample == Some(true) {
            params.temperature = self.temperature.unwrap_or(1.0);
            params.top_k = Some(self.top_k.unwrap_or(TOP_K_OF_TRANSFORMERS));
        } else {
            params.temperature = 0.0;
            params.top_k = self.top_k.or(params.top_k);
        }
        // 0 and none both mean off: keep one of them.
        params.top_k = params.top_k.filter(|k| *k > 0);
        params.top_p = self.top_p.unwrap_or(params.top_p);
        params.min_p = self.min_p.unwrap_or(params.min_p);
        params.repetition_penalty = self.repetition_penalty.unwrap_or(params.repetition_penalty);
    }
}

/// Why `generation_config.json` could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerationConfigError {
    /// A file that can't be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// A file that is not JSON of the expected form.
    #[error(transparent)]
    Json(#[from] JsonError),
}

impl Hint for GenerationConfigError {
    fn hint(&self) -> Option<String> {
        Some("the file is optional: move it away and pass its settings as flags".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> GenerationConfig {
        GenerationConfig::from_bytes(json.as_bytes()).expect(json)
    }

    fn applied(json: &str) -> SamplingParams {
        let mut params = SamplingParams::default();
        parse(json).apply_to(&mut params);
        params
    }

    #[test]
    fn eos_is_one_id_a_list_or_nothing() {
        assert_eq!(parse(r#"{"eos_token_id": 100257}"#).eos_token_id, [100257]);
        assert_eq!(parse(r#"{"eos_token_id": [1, 2]}"#).eos_token_id, [1, 2]);
        assert!(parse(r#"{"eos_token_id": null}"#).eos_token_id.is_empty());
        assert_eq!(parse("{}"), GenerationConfig::default());
        assert!(GenerationConfig::from_bytes(br#"{"eos_token_id": "</s>"}"#).is_err());
    }

    #[test]
    fn unknown_fields_are_ignored_and_wrong_ones_named() {
        let config = parse(r#"{"transformers_version": "5.23.0", "max_new_tokens": 8}"#);
        assert_eq!(config.max_new_tokens, Some(8));
        let error = GenerationConfig::from_bytes(br#"{"top_k": -2}"#).expect_err("negative");
        assert_eq!(
            error.to_string(),
            "`top_k` in `generation_config.json`: expected a whole number of 0 or more, found \
             integer `-2`"
        );
        assert_eq!(parse(r#"{"top_k": -1}"#).top_k, Some(0));
        assert_eq!(parse(r#"{"min_new_tokens": 4}"#).unused, ["min_new_tokens"]);
    }

    #[test]
    fn without_do_sample_decoding_is_greedy() {
        for json in [
            r#"{"temperature": 0.6, "top_p": 0.9, "repetition_penalty": 1.1}"#,
            r#"{"do_sample": false, "temperature": 0.6, "top_p": 0.9, "repetition_penalty": 1.1}"#,
        ] {
            let expected = SamplingParams {
                top_p: 0.9,
                repetition_penalty: 1.1,
                ..Default::default()
            };
            assert_eq!(applied(json), expected);
        }
    }

    #[test]
    fn with_do_sample_what_is_left_out_is_as_in_transformers() {
        let params = applied(r#"{"do_sample": true}"#);
        assert_eq!((params.temperature, params.top_k), (1.0, Some(50)));
        let params = applied(
            r#"{"do_sample": true, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "min_p": 0.1}"#,
        );
        assert_eq!((params.temperature, params.top_k), (0.7, Some(20)));
        assert_eq!((params.top_p, params.min_p), (0.8, 0.1));
        assert_eq!(applied(r#"{"do_sample": true, "top_k": 0}"#).top_k, None);
    }

    #[test]
    fn a_value_out_of_range_is_found_by_the_sampler() {
        let error = applied(r#"{"do_sample": true, "top_p": 7}"#).validate();
        assert_eq!(
            error.expect_err("7").to_string(),
            "`top_p` must be from 0 to 1, found 7"
        );
    }

    #[test]
    fn a_folder_without_the_file_has_no_defaults() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(
            GenerationConfig::from_folder(folder.path())
                .expect("none")
                .is_none()
        );
        let path = folder.path().join("generation_config.json");
        std::fs::write(path, r#"{"pad_token_id": 3}"#).expect("written");
        let config = GenerationConfig::from_folder(folder.path()).expect("valid");
        assert_eq!(config.and_then(|config| config.pad_token_id), Some(3));
    }
}
