//! `compare`: a conversion is trusted, and each kind of difference is found.

use std::fs;
use std::path::Path;

use olmo2::convert::{ConvertOptions, convert};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize_to_file};
use serde_json::{Value, json};

use crate::fixture::{Model, golden};
use crate::program::run;

/// A golden with its tensors as `change` makes them, in a folder of its own.
fn changed(
    name: &str,
    change: impl Fn(&str, &mut Vec<f32>) -> Option<String>,
) -> tempfile::TempDir {
    let (source, folder) = (golden(name), tempfile::tempdir().expect("a folder"));
    let bytes = fs::read(Path::new(&source).join("model.safetensors")).expect("weights");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = file
        .tensors()
        .into_iter()
        .filter_map(|(name, view)| {
            assert_eq!(view.dtype(), Dtype::F32);
            let (chunks, _) = view.data().as_chunks::<4>();
            let mut values = chunks.iter().map(|x| f32::from_le_bytes(*x)).collect();
            let name = change(&name, &mut values)?;
            let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            Some((name, view.shape().to_vec(), bytes))
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).expect("a view");
        (name, view)
    });
    let path = folder.path().join("model.safetensors");
    serialize_to_file(views, None, &path).expect("written");
    let config = Path::new(&source).join("config.json");
    fs::copy(config, folder.path().join("config.json")).expect("copied");
    folder
}

/// The exit status and the JSON object.
fn compare(a: &str, b: &Path) -> (i32, Value) {
    let b = b.to_str().expect("UTF-8");
    let ran = run(&["compare", a, b, "--json"]);
    assert_eq!(ran.stderr, "");
    (ran.code, serde_json::from_str(&ran.stdout).expect("JSON"))
}

#[test]
fn a_conversion_is_equal() {
    for name in ["gqa-tiny", "olmo3-tiny"] {
        let (source, out) = (golden(name), tempfile::tempdir().expect("a folder"));
        convert(&ConvertOptions::new(&source, out.path()), &mut ()).expect("a conversion");
        let (code, report) = compare(&source, out.path());
        assert_eq!(code, 0, "{report}");
        assert_eq!(report["tensors"]["different"], json!([]));
        assert_eq!(report["logits"]["max"], json!(0.0));
        assert_eq!(report["config"], json!([]));
    }
}

#[test]
fn a_changed_tensor_is_named() {
    let norm = "model.layers.1.self_attn.q_norm.weight";
    let folder = changed("mha-tiny", |name, values| {
        if name == norm {
            values.iter_mut().for_each(|x| *x *= 1.001);
        }
        Some(name.into())
    });
    let (code, report) = compare(&golden("mha-tiny"), folder.path());
    assert_eq!(code, 1);
    let different = report["tensors"]["different"].as_array().expect("a list");
    assert_eq!(different.len(), 1);
    assert_eq!(different[0]["name"], norm);
    let relative = different[0]["relative"].as_f64().expect("a number");
    assert!((relative - 1e-3).abs() < 1e-6, "{relative}");
}

#[test]
fn two_swapped_layers_and_a_lost_head_are_found() {
    let swapped = changed("mha-tiny", |name, _| {
        let other = name.replace("layers.0.", "layers.9.");
        let other = other.replace("layers.1.", "layers.0.");
        Some(other.replace("layers.9.", "layers.1."))
    });
    let (code, report) = compare(&golden("mha-tiny"), swapped.path());
    let different = report["tensors"]["different"].as_array().expect("a list");
    assert_eq!((code, different.len()), (1, 22));

    let headless = changed("mha-tiny", |name, _| {
        (name != "lm_head.weight").then(|| name.into())
    });
    let path = headless.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
    config["tie_word_embeddings"] = json!(true);
    fs::write(&path, config.to_string()).expect("written");
    let (code, report) = compare(&golden("mha-tiny"), headless.path());
    assert_eq!(code, 1);
    assert_eq!(report["tensors"]["missing"], json!(["lm_head.weight"]));
    assert_eq!(
        report["config"],
        json!(["`tie_word_embeddings`: false | true"])
    );
}

#[test]
fn a_rope_factor_is_found_in_config_and_logits() {
    let folder = changed("rope-linear", |name, _| Some(name.into()));
    let path = folder.path().join("config.json");
    let text = fs::read_to_string(&path).expect("read");
    let text = text.replace("\"factor\": 4.0", "\"factor\": 4.5");
    fs::write(&path, text).expect("written");
    let (code, report) = compare(&golden("rope-linear"), folder.path());
    assert_eq!(code, 1);
    assert_eq!(report["tensors"]["different"], json!([]));
    let config = report["config"][0].as_str().expect("a line");
    assert!(config.starts_with("`rope_scaling`"), "{config}");
    assert!(report["logits"]["max"].as_f64().expect("a number") > 1e-3);
}

#[test]
fn a_line_end_of_the_template_and_a_token_are_found() {
    let unix = Model::new().with("chat_template.jinja", "{{ 'a' }}\n{{ 'b' }}\n");
    let dos = Model::new().with("chat_template.jinja", "{{ 'a' }}\r\n{{ 'b' }}\n");
    let (code, report) = compare(unix.path(), Path::new(dos.path()));
    assert_eq!(code, 1);
    let template = report["template"].as_str().expect("a line");
    assert!(
        template.starts_with("line 1: ") && template.contains(r"\r\n"),
        "{template}"
    );
    assert_eq!(report["logits"]["max"], json!(0.0));
    let none = golden("gqa-tiny");
    let (code, report) = compare(unix.path(), Path::new(&none));
    assert_eq!((code, &report["tokenizer"]), (1, &json!("A alone has one")));
}

#[test]
fn one_model_is_compared_under_two_settings() {
    let model = golden("gqa-tiny");
    let args = ["compare", &model, "--against"];
    let ran = run(&[&args[..], &["quantize=q4"]].concat());
    assert_eq!((ran.code, ran.stderr.as_str()), (1, ""));
    let first = ran.stdout.lines().nth(2).expect("a line");
    assert_eq!(first, "tensors: 17 equal, 30 different");
    let generous = ["quantize=q8", "--tolerance", "1", "--ids", "1,2,3"];
    let ran = run(&[&args[..], &generous].concat()).ok();
    assert!(ran.stdout.contains("logits of 3 tokens: max "), "{ran:?}");
    let ran = run(&[&args[..], &["dtype=bf16", "--tolerance", "1"]].concat()).ok();
    assert!(
        ran.stdout.contains("tensors: 47 equal, 0 different"),
        "{ran:?}"
    );
    for wrong in ["quantize=q5", "dtype=f8", "speed=1", "revision="] {
        let ran = run(&[&args[..], &[wrong]].concat());
        assert_eq!(ran.code, 2);
        assert!(ran.stderr.contains("expected `"), "{ran:?}");
    }
}
