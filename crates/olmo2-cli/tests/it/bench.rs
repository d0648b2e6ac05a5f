//! `bench`: the fields of the contract.

use serde_json::Value;

use crate::fixture::golden;
use crate::program::run;

#[test]
fn the_json_object_is_as_the_contract_has_it() {
    let model = golden("gqa-tiny");
    let args = [
        "bench",
        "--model",
        &model,
        "-p",
        "20",
        "-n",
        "4",
        "--depth",
        "10",
        "--batch",
        "3",
        "-r",
        "2",
        "--threads",
        "2",
        "--json",
    ];
    let json = run(&args).ok().json();
    for (field, expected) in [
        ("prompt_tokens", 20),
        ("new_tokens", 4),
        ("depth", 10),
        ("batch", 3),
        ("threads", 2),
        ("repetitions", 2),
    ] {
        assert_eq!(json[field], expected, "{field}");
    }
    for rate in ["prefill_tokens_per_second", "decode_tokens_per_second"] {
        assert!(json[rate].as_f64().expect(rate) > 0.0);
    }
    assert_eq!(json["decode_samples"].as_array().expect("a list").len(), 2);
    // Three sequences, 2 x 4 layers x 2 heads of 16 in f32; 11 to 14 positions.
    let position = 3 * 2 * 4 * 2 * 16 * 4;
    assert_eq!(json["cache_bytes_per_token"], position * 25 / 2);
    share(&json["decode_share_of_peak"]);
}

/// Checks that a part of a limit is one: what is measured in turn is noisy, but not by orders.
#[track_caller]
fn share(value: &Value) {
    let share = value.as_f64().unwrap_or_else(|| panic!("{value}"));
    assert!(share > 0.0 && share < 3.0, "{share}");
}

/// `bench` of a short prompt and a few tokens.
fn bench(args: &[&str]) -> Value {
    let short = ["bench", "-p", "40", "-n", "6", "-r", "3", "--json"];
    run(&[&short[..], args].concat()).ok().json()
}

/// One run of `bench` with so many tokens of a prompt and new ones.
pub(crate) fn bench_once(model: &str, prompt: &str, new: &str, more: &[&str]) -> Value {
    let args = [
        "bench", "--model", model, "-p", prompt, "-n", new, "-r", "1", "--json",
    ];
    run(&[&args[..], more].concat()).ok().json()
}

#[test]
fn figures_stand_beside_the_limits_of_the_machine() {
    // The embedded model, and blocks that it is packed into.
    for args in [&["--backend", "flex"][..], &["--quantize", "q4"]] {
        let json = bench(args);
        for field in [
            "read_gigabytes_per_second",
            "peak_f32_gops",
            "peak_int8_gops",
        ] {
            let limit = json[field].as_f64().expect(field);
            assert!(limit > 0.01 && limit.is_finite(), "{field}: {limit}");
        }
        share(&json["decode_share_of_read"]);
        share(&json["prefill_share_of_peak"]);
        // One sequence is bound by memory.
        assert!(json["decode_share_of_peak"].is_null());
    }
}

#[test]
fn the_peak_is_that_of_the_type_that_products_are_done_in() {
    let model = golden("gqa-tiny");
    let bench = |args: &[&str]| bench(&[&["--model", model.as_str()], args].concat());
    let plain = bench(&[]);
    assert_eq!(plain["product_type"], "f32");
    assert_eq!(bench(&["--quantize", "q8"])["product_type"], "int8");
    // The head alone is not what prefill counts.
    let head = bench(&["--quantize-head", "q8"]);
    assert_eq!(head["product_type"], "f32");
    let bf16 = match plain["peak_bf16_gops"].is_null() {
        true => "f32",
        false => "bf16",
    };
    assert_eq!(bench(&["--dtype", "bf16"])["product_type"], bf16);
}

#[test]
fn without_own_kernels_there_is_nothing_to_hold_figures_against() {
    let model = golden("gqa-tiny");
    let json = bench(&["--model", &model, "--dtype", "f16"]);
    for field in [
        "read_gigabytes_per_second",
        "decode_share_of_read",
        "peak_f32_gops",
        "peak_bf16_gops",
        "peak_int8_gops",
        "product_type",
        "prefill_share_of_peak",
        "decode_share_of_peak",
    ] {
        assert_eq!(json.get(field), Some(&Value::Null), "{field}");
    }
    assert!(json["decode_tokens_per_second"].is_number());
    let args = [
        "bench", "--model", &model, "--dtype", "f16", "-p", "1", "-n", "1", "-r", "1",
    ];
    let ran = run(&args).ok().stdout;
    assert!(
        !ran.contains("multiply-adds") && !ran.contains("memory reads"),
        "{ran}"
    );
}

#[test]
fn weights_are_counted_as_they_are_stored_and_memory_is_sampled() {
    let model = golden("gqa-tiny");
    let json = bench_once(&model, "0", "1", &[]);
    // All but the embedding: per layer q, o 96x96, k, v 32x96, three of 256x96, norms of 96, 32,
    // 96, 96; then the norm and the head of 512x96. The file has bf16; norms are held in f32.
    let norms = 4 * (3 * 96 + 32) + 96;
    let matrices = 4 * (2 * 96 * 96 + 2 * 32 * 96 + 3 * 256 * 96) + 512 * 96;
    assert_eq!(json["weight_bytes_per_token"], 2 * matrices + 4 * norms);
    if cfg!(target_os = "linux") {
        let peak = |field: &str| json[field].as_u64().expect("bytes");
        assert!(peak("peak_anon_bytes") > 1 << 20);
        assert!(peak("peak_rss_bytes") > peak("peak_anon_bytes"));
    }
}

#[test]
fn a_cache_takes_as_much_as_its_dtype() {
    let model = golden("gqa-tiny");
    let bytes = |dtype: &str| {
        let json = bench_once(&model, "8", "1", &["--cache-dtype", dtype]);
        assert_eq!(json["cache_dtype"], dtype);
        json["cache_bytes"].as_u64().expect("bytes")
    };
    // Of 2 heads of 16 in each of 4 layers, for keys and for values: 256 positions.
    let heads = 2 * 4 * 2 * 256;
    assert_eq!(
        ["f32", "bf16", "q8"].map(bytes),
        [64, 32, 18].map(|head| head * heads)
    );
}

#[test]
fn what_is_not_run_is_null_and_what_does_not_fit_is_refused() {
    let model = golden("gqa-tiny");
    let json = bench_once(&model, "0", "2", &["--quantize", "q8"]);
    assert_eq!(json["product_type"], "int8");
    assert!(json["prefill_tokens_per_second"].is_null());
    assert!(json["prefill_share_of_peak"].is_null());
    assert!(json["decode_tokens_per_second"].is_number());
    let ran = run(&["bench", "--model", &model, "--depth", "4090", "-n", "7"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("4097 tokens do not fit 4096 positions"),
        "{ran:?}"
    );
}

#[test]
fn people_get_a_table() {
    let model = golden("mqa-tied");
    let args = [
        "bench", "--model", &model, "-p", "8", "-n", "2", "-r", "1", "--depth", "3",
    ];
    let ran = run(&args).ok();
    let names: Vec<&str> = ran
        .stdout
        .lines()
        .map(|line| line[..19].trim_end())
        .collect();
    let expected = [
        "model",
        "backend",
        "prefill",
        "decode",
        "weights per token",
        "cache per token",
        "memory reads",
        "multiply-adds",
        "peak resident",
        "peak anonymous",
    ];
    assert_eq!(names, expected);
}
