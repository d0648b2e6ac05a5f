//! `bench`: the fields of the contract.

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
}

#[test]
fn weights_are_counted_as_they_are_stored_and_memory_is_sampled() {
    let model = golden("gqa-tiny");
    let args = [
        "bench", "--model", &model, "-p", "0", "-n", "1", "-r", "1", "--json",
    ];
    let json = run(&args).ok().json();
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
        let args = [
            "bench", "--model", &model, "-p", "8", "-n", "1", "-r", "1", "--json",
        ];
        let json = run(&[&args[..], &["--cache-dtype", dtype]].concat())
            .ok()
            .json();
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
    let args = [
        "bench", "--model", &model, "-p", "0", "-n", "2", "-r", "1", "--json",
    ];
    let json = run(&args).ok().json();
    assert!(json["prefill_tokens_per_second"].is_null());
    assert!(json["decode_tokens_per_second"].is_number());
    let told = run(&["bench", "--model", &model, "--depth", "4090", "-n", "7"]);
    assert_eq!(told.code, 1);
    assert!(
        told.stderr
            .contains("4097 tokens do not fit 4096 positions"),
        "{told:?}"
    );
}

#[test]
fn people_get_a_table() {
    let model = golden("mqa-tied");
    let told = run(&["bench", "--model", &model, "-p", "8", "-n", "2", "-r", "1"]).ok();
    let names: Vec<&str> = told
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
        "peak resident",
        "peak anonymous",
    ];
    assert_eq!(names, expected);
}
