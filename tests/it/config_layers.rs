//! Layer kinds and ropes in `config.json`: Olmo 3 in the spellings that circulate, and settings that
//! contradict each other.

use olmo2::Olmo2Config;
use olmo2::config::{LayerType, RopeConfig, RopeKind};

const YARN: &str = r#""rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64"#;

fn parse(model_type: &str, fields: &str) -> Result<Olmo2Config, String> {
    let text = format!(
        r#"{{"model_type": "{model_type}", "hidden_size": 64, "num_attention_heads": 4,
            "num_hidden_layers": 4, "max_position_embeddings": 128 {fields}}}"#
    );
    Olmo2Config::from_json(&text).map_err(|e| e.to_string())
}

fn olmo3(fields: &str) -> Olmo2Config {
    parse("olmo3", fields).expect("valid")
}

fn olmo2(fields: &str) -> Olmo2Config {
    parse("olmo2", fields).expect("valid")
}

/// The ropes of full and of sliding layers.
fn ropes(fields: &str) -> [RopeConfig; 2] {
    let config = olmo3(fields);
    let sliding = config.sliding.expect("sliding layers");
    [config.rope, sliding.rope]
}

fn plain(theta: f64) -> RopeConfig {
    let kind = RopeKind::Default;
    RopeConfig { theta, kind }
}

#[test]
fn every_fourth_layer_of_olmo3_is_full_unless_listed() {
    use LayerType::{FullAttention as Full, SlidingAttention as Sliding};
    let of = |fields: &str| {
        olmo3(fields)
            .sliding
            .map(|sliding| (sliding.window, sliding.layer_types))
    };
    let default = vec![Sliding, Sliding, Sliding, Full];
    assert_eq!(of(""), Some((4096, default)));
    let listed = r#", "sliding_window": 7, "layer_types": ["full_attention",
        "sliding_attention", "full_attention", "full_attention"]"#;
    assert_eq!(of(listed), Some((7, vec![Full, Sliding, Full, Full])));
    let all_full = format!(
        r#", "layer_types": [{}]"#,
        [r#""full_attention""#; 4].join(", ")
    );
    assert_eq!(of(&all_full), None);
    assert_eq!(olmo2(&all_full).sliding, None);
}

#[test]
fn the_ropes_of_olmo3_are_read_in_every_spelling() {
    let full = olmo2(&format!(
        r#", "rope_theta": 5e5, "rope_scaling": {{{YARN}}}"#
    ))
    .rope;
    for (fields, sliding) in [
        (
            format!(r#", "rope_theta": 5e5, "rope_scaling": {{{YARN}}}"#),
            5e5,
        ),
        (
            format!(r#", "rope_parameters": {{"rope_theta": 5e5, {YARN}}}"#),
            5e5,
        ),
        (
            format!(
                r#", "rope_parameters": {{"full_attention": {{"rope_theta": 5e5, {YARN}}},
                    "sliding_attention": {{"rope_type": "default", "rope_theta": 2e4}}}}"#
            ),
            2e4,
        ),
        (
            format!(r#", "rope_theta": 5e5, "rope_parameters": {{"full_attention": {{{YARN}}}}}"#),
            5e5,
        ),
    ] {
        assert_eq!(ropes(&fields), [full.clone(), plain(sliding)], "{fields}");
    }
    assert_eq!(ropes(r#", "rope_theta": 3e4"#), [plain(3e4), plain(3e4)]);
}

/// transformers: a `rope_scaling` that is not empty takes the place of `rope_parameters` as a whole.
#[test]
fn rope_scaling_goes_before_rope_parameters() {
    let scaling = r#", "rope_theta": 5e5, "rope_scaling": {"rope_type": "linear", "factor": 4.0}"#;
    let expected = olmo2(scaling).rope;
    for other in [
        r#"{"rope_type": "default", "rope_theta": 5e5}"#,
        r#"{"rope_type": "linear", "factor": 8.0, "rope_theta": 5e5}"#,
        r#"{"rope_type": "default", "rope_theta": 1e4}"#,
    ] {
        let both = format!(r#"{scaling}, "rope_parameters": {other}"#);
        assert_eq!(olmo2(&both).rope, expected, "{other}");
    }
    let empty = r#", "rope_scaling": {}, "rope_parameters": {"rope_type": "linear", "factor": 4.0,
        "rope_theta": 5e5}"#;
    assert_eq!(olmo2(empty).rope, expected);
}

#[test]
fn the_original_length_may_stand_outside_of_the_rope() {
    for kind in [
        r#""rope_type": "yarn", "factor": 8.0"#,
        r#""rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0"#,
    ] {
        let original = r#""original_max_position_embeddings": 64"#;
        let outside = olmo2(&format!(r#", {original}, "rope_scaling": {{{kind}}}"#));
        let inside = olmo2(&format!(r#", "rope_scaling": {{{kind}, {original}}}"#));
        assert_eq!(outside, inside);
        let nested =
            format!(r#", {original}, "rope_parameters": {{"full_attention": {{{kind}}}}}"#);
        assert_eq!(olmo3(&nested).rope, inside.rope);
    }
}

/// Python's `or`.
#[test]
fn a_bound_of_zero_counts_as_absent() {
    let without = olmo2(&format!(r#", "rope_scaling": {{{YARN}}}"#));
    for bound in ["beta_fast", "beta_slow"] {
        let with = olmo2(&format!(r#", "rope_scaling": {{{YARN}, "{bound}": 0}}"#));
        assert_eq!(with, without);
    }
}

/// A file that transformers reads as plain rope, with a warning.
#[test]
fn the_rope_of_full_layers_is_that_of_olmo2() {
    let nested = r#", "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 4.0,
        "rope_theta": 5e5}}"#;
    let flat = r#", "rope_theta": 5e5, "rope_scaling": {"rope_type": "linear", "factor": 4.0}"#;
    assert_eq!(olmo2(nested).rope, olmo2(flat).rope);
}

#[test]
fn a_rope_that_stretches_has_more_positions() {
    let of = |rope: &str| olmo2(&format!(r#", "rope_scaling": {{{rope}}}"#)).max_positions();
    assert_eq!(olmo2("").max_positions(), Some(128));
    assert_eq!(of(YARN), Some(512));
    assert_eq!(of(r#""rope_type": "linear", "factor": 4.0"#), Some(512));
    let short = r#""rope_type": "yarn", "factor": 1.5, "original_max_position_embeddings": 64"#;
    assert_eq!(of(short), Some(128));
    assert_eq!(of(r#""rope_type": "dynamic", "factor": 4.0"#), None);
}

#[test]
fn contradictions_are_refused_by_name() {
    let sliding = format!(
        r#", "layer_types": [{}]"#,
        [r#""sliding_attention""#; 4].join(", ")
    );
    let nested = format!(r#", "rope_parameters": {{"full_attention": {{{YARN}}}}}"#);
    for (model_type, fields, expected) in [
        (
            "olmo2",
            sliding.as_str(),
            "`layer_types` in `config.json`: expected `full_attention` alone in a model of type \
             `olmo2`, found `sliding_attention`",
        ),
        (
            "olmo3",
            r#", "layer_types": ["full_attention"]"#,
            "`layer_types` in `config.json`: expected 4 layers, as `num_hidden_layers`, found 1",
        ),
        (
            "olmo3",
            r#", "sliding_window": null"#,
            "`sliding_window` in `config.json`: expected a number above 0, since `layer_types` has \
             `sliding_attention`, found none",
        ),
        (
            "olmo3",
            &format!(r#"{nested}, "rope_scaling": {{"rope_type": "default"}}"#),
            "`rope_parameters` in `config.json`: expected `full_attention` and \
             `sliding_attention` alone, found `rope_scaling` beside it",
        ),
        (
            "olmo3",
            r#", "rope_parameters": {"sliding_attention": {"rope_type": "default"}}"#,
            "`rope_parameters` in `config.json`: expected `full_attention`, found \
             `sliding_attention` alone",
        ),
        (
            "olmo3",
            r#", "layer_types": ["chunked_attention"]"#,
            "`layer_types[0]` in `config.json`: expected `full_attention` or `sliding_attention`, \
             found `chunked_attention`",
        ),
    ] {
        assert_eq!(parse(model_type, fields).expect_err(fields), expected);
    }
}
