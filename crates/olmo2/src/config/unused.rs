//! Settings of `generation_config.json` that transformers follows and this engine does not.

use serde_json::{Map, Value};

/// Each with the number at which it changes nothing, if there is one.
const UNUSED: [(&str, Option<f64>); 22] = [
    ("bad_words_ids", None),
    ("begin_suppress_tokens", None),
    ("encoder_repetition_penalty", Some(1.0)),
    ("epsilon_cutoff", Some(0.0)),
    ("eta_cutoff", Some(0.0)),
    ("exponential_decay_length_penalty", None),
    ("forced_bos_token_id", None),
    ("forced_eos_token_id", None),
    ("guidance_scale", Some(1.0)),
    ("max_length", None),
    ("max_time", None),
    ("min_length", Some(0.0)),
    ("min_new_tokens", Some(0.0)),
    ("no_repeat_ngram_size", Some(0.0)),
    ("num_beams", Some(1.0)),
    ("num_return_sequences", Some(1.0)),
    ("penalty_alpha", Some(0.0)),
    ("sequence_bias", None),
    ("stop_strings", None),
    ("suppress_tokens", None),
    ("top_h", None),
    ("typical_p", Some(1.0)),
];

/// Names of settings in a file that would change what transformers generates.
pub(super) fn names(json: &[u8]) -> Vec<String> {
    let fields: Map<String, Value> = serde_json::from_slice(json).unwrap_or_default();
    let changes = |name: &str, neutral: Option<f64>| match fields.get(name) {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(items)) => !items.is_empty(),
        Some(Value::Number(number)) => number.as_f64() != neutral,
        Some(_) => true,
    };
    UNUSED
        .iter()
        .filter(|(name, neutral)| changes(name, *neutral))
        .map(|(name, _)| (*name).to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_change_something_are_named() {
        let json =
            br#"{"suppress_tokens": [1], "num_beams": 1, "typical_p": 1.0, "stop_strings": "a",
            "bad_words_ids": [], "max_length": 5, "min_length": 0, "guidance_scale": null}"#;
        assert_eq!(
            names(json),
            ["max_length", "stop_strings", "suppress_tokens"]
        );
        assert!(names(b"{}").is_empty() && names(b"[").is_empty());
    }
}
