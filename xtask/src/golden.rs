//! `cargo xtask golden`: the goldens, written anew or checked, by the scripts that lie beside them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use xshell::{Shell, cmd};

use crate::root::root;

/// Arguments of `cargo xtask golden`.
#[derive(Debug, Args)]
pub(crate) struct GoldenArgs {
    /// Compare with what is there, and write nothing.
    #[arg(long)]
    check: bool,
    /// A Python that has the packages of `tests/golden/requirements.txt`.
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Only these, by the names of their folders.
    names: Vec<String>,
}

/// How far values of a checked answer may part: another processor may add in another order. Those of
/// OLMo 2 agree to 1e-6 on all machines tried, those of Olmo 3, of eight layers, to 1.3e-5.
const TOLERANCE: f32 = 2e-5;

/// Checkpoints by the flags of `make_checkpoint.py`.
const CHECKPOINTS: &[(&str, &str)] = &[
    ("mha-tiny", "--seed 1 --preset mha-tiny --dtype f32"),
    ("gqa-tiny", "--seed 2 --preset gqa-tiny"),
    ("sharded", "--seed 2 --preset gqa-tiny --shard-bytes 200000"),
    (
        "mqa-tied",
        "--seed 3 --preset mqa-tiny --dtype f32 --set tie_word_embeddings=true",
    ),
    (
        "bias-eps",
        "--seed 4 --preset mha-tiny --dtype f32 --set attention_bias=true \
         --set rms_norm_eps=1e-5 --set rope_theta=10000",
    ),
    (
        "rope-linear",
        "--seed 5 --preset gqa-tiny --dtype f32 \
         --set rope_scaling={\"rope_type\":\"linear\",\"factor\":4.0}",
    ),
    (
        "rope-dynamic",
        "--seed 6 --preset mha-tiny --dtype f32 --set max_position_embeddings=16 \
         --set rope_scaling={\"rope_type\":\"dynamic\",\"factor\":10.0}",
    ),
    (
        "rope-yarn",
        "--seed 7 --preset mha-tiny --dtype f32 --set rope_scaling={\"rope_type\":\"yarn\",\
         \"factor\":8.0,\"original_max_position_embeddings\":64}",
    ),
    (
        "rope-llama3",
        "--seed 8 --preset gqa-tiny --dtype f32 --set rope_scaling={\"rope_type\":\"llama3\",\
         \"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,\
         \"original_max_position_embeddings\":64}",
    ),
    ("olmo3-tiny", "--preset olmo3-tiny --dtype f32"),
    (
        "olmo3-nested",
        "--seed 5 --preset olmo3-tiny --dtype f32 --set rope_scaling=\"absent\" \
         --set rope_theta=\"absent\" --set rope_parameters={\"full_attention\":{\
         \"rope_type\":\"yarn\",\"rope_theta\":300000.0,\"factor\":4.0,\
         \"original_max_position_embeddings\":64},\"sliding_attention\":{\
         \"rope_type\":\"default\",\"rope_theta\":20000.0}}",
    ),
    (
        FLAT,
        "--seed 6 --preset olmo3-tiny --dtype f32 --set rope_scaling=\"absent\" \
         --set rope_theta=\"absent\" --set rope_parameters={\"rope_type\":\"yarn\",\
         \"rope_theta\":40000.0,\"factor\":4.0,\"original_max_position_embeddings\":64}",
    ),
];
/// A spelling that transformers 5.0 to 5.12 saved and later releases read without the scaling. Its
/// answers are those of the same settings in [`FLAT_ANSWERS_OF`].
const FLAT: &str = "olmo3-flat";
const FLAT_ANSWERS_OF: &str = "--seed 6 --preset olmo3-tiny --dtype f32 \
    --set rope_scaling=\"absent\" --set rope_theta=\"absent\" --set rope_parameters={\
    \"full_attention\":{\"rope_type\":\"yarn\",\"rope_theta\":40000.0,\"factor\":4.0,\
    \"original_max_position_embeddings\":64},\
    \"sliding_attention\":{\"rope_type\":\"default\",\"rope_theta\":40000.0}}";
/// The same weights as `gqa-tiny`: it has no answers of its own.
const UNANSWERED: &str = "sharded";
/// Folders whose `generate.py` writes `cases.json`.
const CASES: &[&str] = &["chat", "sampling", "tokenizer"];

/// What transformers answered.
const ANSWERS: &str = "golden.safetensors";

pub(crate) fn run(args: &GoldenArgs) -> Result<()> {
    let all = CHECKPOINTS.iter().map(|(name, _)| *name);
    let all: Vec<&str> = all.chain(CASES.iter().copied()).collect();
    if let Some(other) = args.names.iter().find(|name| !all.contains(&name.as_str())) {
        bail!(
            "there is no golden `{other}`: expected one of {}",
            all.join(", ")
        );
    }
    let sh = Shell::new()?;
    sh.change_dir(root());
    // torch adds in another order with AVX-512, which moves values of 9 by 4e-6.
    let _level = sh.push_env("ATEN_CPU_CAPABILITY", "avx2");
    let wanted = |name: &&str| args.names.is_empty() || args.names.iter().any(|n| n == name);
    let mut faults = Vec::new();
    for name in all.into_iter().filter(wanted) {
        // Made apart in any case, so that a script that fails leaves what is there.
        let made = root().join("target/golden").join(name);
        let kept = root().join("tests/golden").join(name);
        let files = make(&sh, &args.python, name, &kept, &made)
            .with_context(|| format!("golden `{name}`"))?;
        for file in &files {
            let (made, kept) = (made.join(file), kept.join(file));
            match args.check {
                true => faults.extend(differences(&format!("{name}/{file}"), &made, &kept)?),
                false => drop(fs::copy(made, kept)?),
            }
        }
        let what = if args.check { "checked" } else { "written" };
        println!("{name}: {what}: {}", files.join(", "));
    }
    ensure!(
        faults.is_empty(),
        "goldens differ:\n  {}",
        faults.join("\n  ")
    );
    Ok(())
}

/// Runs the scripts of one golden; returns the names of the files that they wrote.
fn make(sh: &Shell, python: &Path, name: &str, kept: &Path, made: &Path) -> Result<Vec<String>> {
    let _ = fs::remove_dir_all(made);
    fs::create_dir_all(made)?;
    let Some((_, flags)) = CHECKPOINTS.iter().find(|(other, _)| *other == name) else {
        for entry in fs::read_dir(kept)? {
            let entry = entry?;
            fs::copy(entry.path(), made.join(entry.file_name()))?;
        }
        let script = made.join("generate.py");
        cmd!(sh, "{python} {script}").run()?;
        return Ok(vec!["cases.json".into()]);
    };
    let write = |folder: &Path, flags: &str| {
        let flags = flags.split_whitespace();
        let script = "tests/golden/make_checkpoint.py";
        cmd!(sh, "{python} {script} {folder} {flags...}").run()
    };
    write(made, flags)?;
    let answers = made.join(ANSWERS);
    let answer = |folder: &Path| {
        let script = "tests/golden/make_golden.py";
        let greedy = if name.starts_with("olmo3") {
            "24"
        } else {
            "32"
        };
        cmd!(sh, "{python} {script} {folder} {answers} --greedy {greedy}").run()
    };
    match name {
        UNANSWERED => {}
        FLAT => {
            let other = made.with_extension("answers");
            write(&other, FLAT_ANSWERS_OF)?;
            answer(&other)?;
        }
        _ => answer(made)?,
    }
    let mut names = fs::read_dir(made)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<String>>>()?;
    names.sort();
    Ok(names)
}

/// Where a file differs from the one that is kept: answers by tensor, all else by byte.
fn differences(name: &str, made: &Path, kept: &Path) -> Result<Vec<String>> {
    let made = fs::read(made)?;
    let kept = match fs::read(kept) {
        Ok(kept) => kept,
        Err(error) => return Ok(vec![format!("{name}: {error}")]),
    };
    if !name.ends_with(ANSWERS) {
        let same = made == kept;
        return Ok(Vec::from_iter(
            (!same).then(|| format!("{name}: other bytes")),
        ));
    }
    let (made, kept) = (
        SafeTensors::deserialize(&made)?,
        SafeTensors::deserialize(&kept)?,
    );
    let mut faults = Vec::new();
    for tensor in made.names().into_iter().chain(kept.names()) {
        let fault = match (made.tensor(tensor), kept.tensor(tensor)) {
            (Ok(made), Ok(kept)) => difference(&made, &kept),
            _ => Some("in one of the files alone".into()),
        };
        faults.extend(fault.map(|fault| format!("{name}: {tensor}: {fault}")));
    }
    faults.sort();
    faults.dedup();
    Ok(faults)
}

fn difference(made: &TensorView<'_>, kept: &TensorView<'_>) -> Option<String> {
    if (made.dtype(), made.shape()) != (kept.dtype(), kept.shape()) {
        return Some(format!(
            "{:?} {:?}, kept is {:?} {:?}",
            made.dtype(),
            made.shape(),
            kept.dtype(),
            kept.shape()
        ));
    }
    if made.dtype() != Dtype::F32 {
        return (made.data() != kept.data()).then(|| "other values".into());
    }
    let values = |view: &TensorView<'_>| {
        let bytes = view.data().as_chunks::<4>().0.iter();
        bytes
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect::<Vec<_>>()
    };
    let (made, kept) = (values(made), values(kept));
    let parts = |(a, b): (&f32, &f32)| (a - b).abs();
    let gaps = made.iter().zip(&kept).map(parts).enumerate();
    let (at, gap) = gaps.max_by(|a, b| a.1.total_cmp(&b.1))?;
    // Not a number is no agreement.
    let close = gap <= TOLERANCE;
    (!close).then(|| format!("differs by {gap:.1e} at {at}, expected at most {TOLERANCE:.0e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of answers with one tensor.
    fn answers(folder: &Path, file: &str, tensor: &str, values: [f32; 2]) -> PathBuf {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let view = TensorView::new(Dtype::F32, vec![2], &bytes).expect("a tensor");
        let path = folder.join(file);
        safetensors::serialize_to_file([(tensor, view)], None, &path).expect("written");
        path
    }

    #[test]
    fn answers_may_part_by_the_tolerance_and_no_more() {
        let folder = temp_folder();
        let kept = answers(folder.path(), "kept", "logits.0", [1.0, 2.0]);
        let faults = |tensor, values| {
            let made = answers(folder.path(), "made", tensor, values);
            differences("x/golden.safetensors", &made, &kept).expect("read")
        };
        assert!(faults("logits.0", [1.0, 2.0 + 5e-7]).is_empty());
        let expected =
            "x/golden.safetensors: logits.0: differs by 1.0e-3 at 0, expected at most 2e-5";
        assert_eq!(faults("logits.0", [1.001, 2.0]), [expected]);
        assert_eq!(faults("logits.0", [1.0, f32::NAN]).len(), 1);
        assert_eq!(faults("logits.1", [1.0, 2.0]).len(), 2);
        let made = answers(folder.path(), "made", "logits.0", [1.0, 2.0 + 5e-7]);
        let bytes = differences("x/model.safetensors", &made, &kept).expect("read");
        assert_eq!(bytes, ["x/model.safetensors: other bytes"]);
    }

    #[test]
    fn every_folder_of_goldens_has_its_commands() {
        let folders = fs::read_dir(root().join("tests/golden")).expect("the goldens");
        for entry in folders.map(|entry| entry.expect("an entry")) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let known = CHECKPOINTS.iter().any(|(other, _)| *other == name)
                || CASES.contains(&name.as_str());
            assert!(!entry.path().is_dir() || known, "{name}");
        }
    }

    fn temp_folder() -> xshell::TempDir {
        let sh = Shell::new().expect("a shell");
        sh.create_temp_dir().expect("a folder")
    }
}
