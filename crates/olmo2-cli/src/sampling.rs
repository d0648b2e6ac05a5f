//! The sampling parameters: flags before generation_config.json before greedy.

use olmo2::config::generation::GenerationConfig;
use olmo2::{Hint, Olmo2Config, SamplingParams, Tokenizer};

use crate::messages::{Failure, Result, Verbosity};
use crate::request::SamplingRequest;

/// What can be set by name, as the flags spell it.
const NAMES: &str = "temperature, top_k, top_p, min_p, repetition_penalty, presence_penalty, \
                     frequency_penalty, seed";

/// The parameters of flags and defaults; says what they are and which flags choose nothing.
///
/// # Errors
/// A value out of its range: a matter of usage, or of the model's file.
pub(crate) fn chosen(
    request: &SamplingRequest,
    defaults: &GenerationConfig,
    config: &Olmo2Config,
    tokenizer: Option<&Tokenizer>,
    verbosity: Verbosity,
) -> Result<SamplingParams> {
    let chosen = checked(request, defaults)?;
    verbosity.detail(describe_defaults(defaults));
    verbosity.detail(format_args!("sampling: {}", describe(&chosen)));
    if !defaults.unused.is_empty() {
        verbosity.note(format_args!(
            "`generation_config.json`: `{}` {} no effect here",
            defaults.unused.join("`, `"),
            if defaults.unused.len() == 1 {
                "has"
            } else {
                "have"
            }
        ));
    }
    if let Some(note) = surplus_ids(config, tokenizer) {
        verbosity.note(note);
    }
    if let Some(note) = unused(request, &chosen) {
        verbosity.note(note);
    }
    Ok(chosen)
}

/// The parameters of flags and defaults, checked against their ranges.
fn checked(request: &SamplingRequest, defaults: &GenerationConfig) -> Result<SamplingParams> {
    let chosen = params(request, defaults);
    match chosen.validate() {
        Ok(()) => Ok(chosen),
        Err(error) if params(&SamplingRequest::default(), defaults).validate() == Err(error) => {
            let message = format!("`generation_config.json`: {error}");
            let hint = "correct the file, or set the value by its flag";
            Err(Failure::new(message, hint))
        }
        Err(error) => {
            let hint = error.hint();
            let hint = hint.unwrap_or_else(|| "`--help` has the ranges".into());
            Err(Failure::usage(error.to_string(), hint))
        }
    }
}

fn params(request: &SamplingRequest, defaults: &GenerationConfig) -> SamplingParams {
    let mut params = SamplingParams::default();
    defaults.apply_to(&mut params);
    request.apply_to(&mut params);
    params
}

/// The note on flags that choose among tokens while decoding is greedy.
fn unused(request: &SamplingRequest, params: &SamplingParams) -> Option<&'static str> {
    let chooses = request.top_k.is_some_and(|k| k > 0)
        || request.top_p.is_some_and(|p| p < 1.0)
        || request.min_p.is_some_and(|p| p > 0.0)
        || request.seed.is_some();
    (is_greedy(params) && chooses).then_some(
        "decoding is greedy: `--top-k`, `--top-p`, `--min-p` and `--seed` have no effect without a \
         `--temperature` above 0",
    )
}

/// The fields of generation_config.json that are set, for `--verbose`.
fn describe_defaults(defaults: &GenerationConfig) -> String {
    let mut parts = Vec::new();
    let mut part = |name: &str, value: Option<String>| {
        parts.extend(value.map(|value| format!("{name} {value}")));
    };
    let text = |value: Option<f32>| value.map(|value| value.to_string());
    part("do_sample", defaults.do_sample.map(|on| on.to_string()));
    part("temperature", text(defaults.temperature));
    part("top_k", defaults.top_k.map(|k| k.to_string()));
    part("top_p", text(defaults.top_p));
    part("min_p", text(defaults.min_p));
    part("repetition_penalty", text(defaults.repetition_penalty));
    let tokens = defaults.max_new_tokens.map(|n| n.to_string());
    part("max_new_tokens", tokens);
    let eos = &defaults.eos_token_id;
    part(
        "eos_token_id",
        (!eos.is_empty()).then(|| format!("{eos:?}")),
    );
    match parts.is_empty() {
        true => "generation_config.json: sets nothing".into(),
        false => format!("generation_config.json: {}", parts.join(", ")),
    }
}

/// All parameters on one line, by the names that `/set` takes.
pub(crate) fn describe(params: &SamplingParams) -> String {
    let top_k = params.top_k.map_or("off".into(), |k| k.to_string());
    let seed = match params.seed {
        // Nothing is drawn.
        _ if is_greedy(params) => String::new(),
        None => ", seed drawn".into(),
        Some(seed) => format!(", seed {seed}"),
    };
    format!(
        "temperature {}, top_k {top_k}, top_p {}, min_p {}, repetition_penalty {}, \
         presence_penalty {}, frequency_penalty {}{seed}",
        params.temperature,
        params.top_p,
        params.min_p,
        params.repetition_penalty,
        params.presence_penalty,
        params.frequency_penalty,
    )
}

/// Whether the most likely token is taken each time.
pub(crate) fn is_greedy(params: &SamplingParams) -> bool {
    params.temperature == 0.0
}

/// The note on ids of the tokenizer for which the model has no row.
fn surplus_ids(config: &Olmo2Config, tokenizer: Option<&Tokenizer>) -> Option<String> {
    let (rows, ids) = (config.vocab_size, tokenizer?.vocab_size());
    (ids > rows).then(|| {
        format!(
            "the tokenizer has {ids} ids and the model {rows} (`vocab_size`): those from {rows} on \
             cannot be used"
        )
    })
}

/// Sets one parameter by its name.
///
/// # Errors
/// No such name, no number, or one out of range; nothing is set then.
pub(crate) fn set(params: &mut SamplingParams, name: &str, value: &str) -> Result<()> {
    let mut changed = params.clone();
    let number = || parse::<f32>(name, value);
    match name.replace('-', "_").as_str() {
        "temperature" => changed.temperature = number()?,
        "top_k" => changed.top_k = Some(parse(name, value)?).filter(|k| *k > 0),
        "top_p" => changed.top_p = number()?,
        "min_p" => changed.min_p = number()?,
        "repetition_penalty" => changed.repetition_penalty = number()?,
        "presence_penalty" => changed.presence_penalty = number()?,
        "frequency_penalty" => changed.frequency_penalty = number()?,
        "seed" => changed.seed = Some(parse(name, value)?),
        _ => {
            let message = format!("there is no parameter `{name}`");
            let hint = format!("parameters are {NAMES}, max_new_tokens");
            return Err(Failure::new(message, hint));
        }
    }
    changed.validate()?;
    *params = changed;
    Ok(())
}

/// A number for a parameter.
///
/// # Errors
/// It is none.
pub(crate) fn parse<T: std::str::FromStr>(name: &str, value: &str) -> Result<T> {
    value.parse().map_err(|_| {
        let message = format!("`{name}`: expected a number, found `{value}`");
        Failure::new(message, "for example `/set temperature 0.7`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_defaults_of_the_model() {
        let json = br#"{"do_sample": true, "temperature": 0.6, "top_p": 0.9, "top_k": 40}"#;
        let defaults = GenerationConfig::from_bytes(json).expect("valid");
        let mut args = SamplingRequest::default();
        let all = params(&args, &defaults);
        assert_eq!(
            (all.temperature, all.top_p, all.top_k),
            (0.6, 0.9, Some(40))
        );
        args.temperature = Some(0.0);
        args.top_k = Some(0);
        args.seed = Some(3);
        let all = params(&args, &defaults);
        assert_eq!((all.temperature, all.top_p, all.top_k), (0.0, 0.9, None));
        assert_eq!(all.seed, Some(3));
    }

    #[test]
    fn a_bad_value_is_blamed_on_whoever_set_it() {
        let json = br#"{"do_sample": true, "temperature": -3}"#;
        let defaults = GenerationConfig::from_bytes(json).expect("valid");
        let mut args = SamplingRequest::default();
        let error = checked(&args, &defaults).expect_err("of the file");
        assert!(
            error
                .to_string()
                .starts_with("`generation_config.json`: `temperature`")
        );
        args.temperature = Some(-1.0);
        let error = checked(&args, &defaults).expect_err("of the flag");
        assert!(
            error.to_string().starts_with("`temperature` must"),
            "{error}"
        );
        args.temperature = Some(1.0);
        checked(&args, &defaults).expect("the flag wins");
    }

    #[test]
    fn a_choice_that_is_not_made_is_told() {
        let defaults = GenerationConfig::default();
        for (top_k, seed, temperature, is_reported) in [
            (None, None, None, false),
            (Some(0), None, None, false),
            (Some(5), None, None, true),
            (None, Some(1), Some(0.0), true),
            (Some(5), Some(1), Some(0.7), false),
        ] {
            let args = SamplingRequest {
                top_k,
                seed,
                temperature,
                ..SamplingRequest::default()
            };
            assert_eq!(
                unused(&args, &params(&args, &defaults)).is_some(),
                is_reported
            );
        }
    }

    #[test]
    fn a_parameter_out_of_range_leaves_all_as_it_was() {
        let mut params = SamplingParams::default();
        set(&mut params, "top-p", "0.5").expect("in range");
        for (name, value) in [("top_p", "2"), ("top_p", "x"), ("top_q", "1")] {
            set(&mut params, name, value).expect_err(name);
        }
        assert_eq!(params.top_p, 0.5);
    }
}
