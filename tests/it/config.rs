//! `config.json` in both spellings, and what is refused.

use olmo2::config::RopeKind;
use olmo2::{ConfigError, Hint, Olmo2Config, RotaryEmbedding};
use olmo2_tests::golden_folder;

/// A config with these further fields.
fn parse(fields: &str) -> Result<Olmo2Config, String> {
    let text = format!(
        r#"{{"model_type": "olmo2", "hidden_size": 64, "num_attention_heads": 4 {fields}}}"#
    );
    Olmo2Config::from_json(&text).map_err(|e| e.to_string())
}

#[test]
fn absent_fields_take_the_defaults_of_transformers() {
    let config = Olmo2Config::from_json(r#"{"model_type": "olmo2"}"#).expect("valid");
    assert_eq!(
        (
            config.vocab_size,
            config.hidden_size,
            config.intermediate_size
        ),
        (50304, 4096, 11008)
    );
    assert_eq!(
        (config.num_hidden_layers, config.num_attention_heads),
        (32, 32)
    );
    assert_eq!((config.num_key_value_heads, config.head_dim), (32, 128));
    assert_eq!(
        (config.max_position_embeddings, config.rms_norm_eps),
        (2048, 1e-5)
    );
    assert_eq!(
        (config.rope.theta, &config.rope.kind),
        (10000.0, &RopeKind::Default)
    );
    assert_eq!(
        (config.eos_token_id, config.pad_token_id),
        (vec![50279], Some(1))
    );
    assert!(!config.tie_word_embeddings && !config.attention_bias);
}

#[test]
fn eos_may_be_one_id_several_or_none() {
    let eos = |fields: &str| parse(fields).expect("valid").eos_token_id;
    assert_eq!(eos(r#", "eos_token_id": 7"#), [7]);
    assert_eq!(eos(r#", "eos_token_id": [7, 8]"#), [7, 8]);
    assert_eq!(eos(r#", "eos_token_id": null"#), [0u32; 0]);
}

/// Engines that knew the first spelling alone read the second as unscaled rope.
#[test]
fn both_spellings_of_rope_mean_the_same() {
    for kind in [
        r#""rope_type": "linear", "factor": 4.0"#,
        r#""rope_type": "dynamic", "factor": 10.0"#,
        r#""rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64"#,
        r#""rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
           "original_max_position_embeddings": 64"#,
    ] {
        let old = parse(&format!(
            r#", "rope_theta": 5e5, "rope_scaling": {{{kind}}}"#
        ));
        let new = parse(&format!(
            r#", "rope_parameters": {{"rope_theta": 5e5, {kind}}}"#
        ));
        assert_eq!(old, new, "{kind}");
        assert_ne!(old.expect("valid").rope.kind, RopeKind::Default);
    }
    let legacy = parse(r#", "rope_scaling": {"type": "linear", "factor": 4.0}"#);
    assert_eq!(
        legacy.expect("valid").rope.kind,
        RopeKind::Linear { factor: 4.0 }
    );
}

#[test]
fn what_is_not_olmo2_is_refused_by_name() {
    let refuse = |text: &str| {
        Olmo2Config::from_json(text)
            .expect_err("refused")
            .to_string()
    };
    assert_eq!(
        refuse(r#"{"model_type": "olmo"}"#),
        "`model_type` in `config.json`: expected `olmo2` or `olmo3`, found `olmo`"
    );
    assert_eq!(
        refuse("{}"),
        "`model_type` in `config.json`: expected `olmo2` or `olmo3`, found none"
    );
    assert_eq!(
        refuse(r#"{"model": {"d_model": 96}, "dataset": {}}"#),
        "`config.json` is a trainer's: the checkpoint has not been converted"
    );
    for (fields, field) in [
        (r#", "hidden_act": "gelu""#, "hidden_act"),
        (
            r#", "rope_scaling": {"rope_type": "longrope", "factor": 2.0}"#,
            "rope_type",
        ),
        (r#", "rope_scaling": {"rope_type": "linear"}"#, "factor"),
        (
            r#", "rope_scaling": {"rope_type": "linear", "factor": 0.5}"#,
            "factor",
        ),
        (
            r#", "rope_parameters": {"partial_rotary_factor": 0.5}"#,
            "partial_rotary_factor",
        ),
        (r#", "rope_theta": 0"#, "rope_theta"),
        (r#", "num_key_value_heads": 3"#, "num_key_value_heads"),
        (r#", "head_dim": 15"#, "head_dim"),
        (r#", "num_hidden_layers": 99999999"#, "num_hidden_layers"),
        (r#", "vocab_size": 0"#, "vocab_size"),
        (r#", "rms_norm_eps": -1"#, "rms_norm_eps"),
    ] {
        let error = parse(fields).expect_err(fields);
        assert!(error.contains(&format!("`{field}`")), "{fields}: {error}");
    }
    assert!(
        parse(r#", "vocab_size": "many""#)
            .expect_err("a string")
            .contains("`vocab_size` in `config.json`")
    );
}

/// A short sequence under dynamic rope is rotated as without it; a longer one by a grown base;
/// and a sequence that starts anew falls back.
#[test]
fn dynamic_rope_grows_with_the_longest_length_and_falls_back() {
    let config = Olmo2Config::from_folder(&golden_folder("rope-dynamic")).expect("valid");
    let dynamic = RotaryEmbedding::new(config.rope.clone(), config.head_dim);
    let plain = dynamic.inv_freq(0).into_owned();
    let longest = dynamic.rope_len(0, 10);
    assert_eq!(longest, config.max_position_embeddings);
    assert_eq!(dynamic.inv_freq(longest), plain);
    let grown = dynamic.rope_len(longest, 33);
    assert_eq!(grown, 33);
    // Frequencies but the first fall; transformers' formula by hand for the last of head_dim 16:
    // base 5e5 * (10 * 33 / 16 - 9)^(16 / 14), to the power of -14 / 16.
    let by_hand = (5e5f64 * (330.0f64 / 16.0 - 9.0).powf(16.0 / 14.0)).powf(-14.0 / 16.0);
    let last = f64::from(dynamic.inv_freq(grown)[7]);
    assert!(
        (last / by_hand - 1.0).abs() < 1e-5,
        "{last} against {by_hand}"
    );
    assert_eq!(dynamic.rope_len(grown, 20), 33);
    assert_eq!(dynamic.rope_len(grown, 5), config.max_position_embeddings);
}

#[test]
fn near_relatives_are_known_by_name() {
    let before_release = parse_type("olmo_1124").expect("OLMo 2 by its first name");
    assert_eq!(before_release, parse_type("olmo2").expect("valid"));
    let hint = |model_type| parse_type(model_type).expect_err("refused").hint();
    let retrofit = hint("olmo2-retrofit").expect("a hint");
    assert!(retrofit.contains("Olmo 3"), "{retrofit}");
    let trainer = Olmo2Config::from_json(r#"{"model": {}}"#).expect_err("refused");
    let trainer = trainer.hint().expect("a hint");
    assert!(
        trainer.contains("convert_olmo2_weights_to_hf.py"),
        "{trainer}"
    );
}

fn parse_type(model_type: &str) -> Result<Olmo2Config, ConfigError> {
    Olmo2Config::from_json(&format!(r#"{{"model_type": "{model_type}"}}"#))
}
