//! The files of a repository that a model needs, and those that a snapshot lacks.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::HubError;
use super::names::is_file_name;

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// Optional small files.
const OPTIONAL: &[&str] = &[
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
];
/// Extensions of weights in other formats.
const FOREIGN: &[&str] = &[".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack"];

/// The files to download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// Config, tokenizer, chat template, generation defaults and weights.
    Model,
    /// All of these except the weights.
    NoWeights,
}

/// The files to download first, in order: weights are last, so that a snapshot with all its weights
/// is complete.
pub(super) fn small_files(
    id: &str,
    siblings: &[String],
    files: Files,
) -> Result<Vec<String>, HubError> {
    let has = |name: &str| siblings.iter().any(|sibling| sibling == name);
    if !has(CONFIG) {
        return Err(HubError::MissingFile {
            id: id.into(),
            file: CONFIG.into(),
        });
    }
    let mut names = vec![CONFIG];
    names.extend(OPTIONAL.iter().copied().filter(|name| has(name)));
    if files == Files::Model {
        if !has(WEIGHTS) && !has(INDEX) {
            return Err(no_weights(id, siblings));
        }
        names.push(if has(WEIGHTS) { WEIGHTS } else { INDEX });
    }
    Ok(names.into_iter().map(Into::into).collect())
}

fn no_weights(id: &str, siblings: &[String]) -> HubError {
    let is_foreign = |name: &&String| FOREIGN.iter().any(|end| name.ends_with(end));
    let found: Vec<String> = siblings.iter().filter(is_foreign).cloned().collect();
    let id = id.to_owned();
    match found.is_empty() {
        true => HubError::NoWeights { id },
        false => HubError::NoSafetensors { id, found },
    }
}

/// The part of an index that maps tensors to shards.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The shards that an index on disk names, sorted, each once.
///
/// # Errors
/// [`HubError::BadIndex`] for a file that is not an index, or names a shard outside its folder.
pub(super) fn shards(index: &Path) -> Result<Vec<String>, HubError> {
    let bad = |reason: String| HubError::BadIndex {
        file: INDEX.into(),
        reason,
    };
    let text = std::fs::read(index).map_err(super::error::io_error("read", index))?;
    let index: Index = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
    let mut names: Vec<String> = index.weight_map.into_values().collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return Err(bad("it names no tensor".into()));
    }
    let is_shard = |name: &String| is_file_name(name) && name.ends_with(".safetensors");
    match names.iter().find(|name| !is_shard(name)) {
        Some(name) => Err(bad(format!("`{name}` is not the name of a shard"))),
        None => Ok(names),
    }
}

/// The required files that the snapshot in `folder` lacks. Optional files do not count: the
/// repository may have none.
pub(super) fn missing(folder: &Path, files: Files) -> Vec<String> {
    let has = |name: &str| folder.join(name).is_file();
    let mut missing = Vec::new();
    if !has(CONFIG) {
        missing.push(CONFIG.into());
    }
    if files == Files::Model && !has(WEIGHTS) {
        match shards(&folder.join(INDEX)) {
            Ok(shards) => missing.extend(shards.into_iter().filter(|name| !has(name))),
            Err(_) => missing.push(WEIGHTS.into()),
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).into()).collect()
    }

    #[test]
    fn weights_come_last_and_one_file_beats_an_index() {
        let siblings = names(&[
            "README.md",
            INDEX,
            WEIGHTS,
            "tokenizer.json",
            "config.json",
            "pytorch_model.bin",
        ]);
        let wanted = small_files("a/b", &siblings, Files::Model).unwrap();
        assert_eq!(wanted, names(&["config.json", "tokenizer.json", WEIGHTS]));
        let wanted = small_files("a/b", &siblings, Files::NoWeights).unwrap();
        assert_eq!(wanted, names(&["config.json", "tokenizer.json"]));
    }

    #[test]
    fn a_repository_without_safetensors_says_what_it_has() {
        let only_bin = names(&[
            "config.json",
            "pytorch_model-00001-of-00002.bin",
            "README.md",
        ]);
        let error = small_files("a/b", &only_bin, Files::Model).unwrap_err();
        assert!(
            matches!(&error, HubError::NoSafetensors { found, .. } if found == &only_bin[1..2])
        );
        assert!(small_files("a/b", &only_bin, Files::NoWeights).is_ok());
        let error = small_files("a/b", &only_bin[..1], Files::Model).unwrap_err();
        assert!(matches!(error, HubError::NoWeights { .. }));
        let error = small_files("a/b", &only_bin[1..], Files::Model).unwrap_err();
        assert!(matches!(error, HubError::MissingFile { .. }));
    }

    #[test]
    fn an_index_cannot_name_a_file_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let index = dir.path().join(INDEX);
        let read = |text: &str| {
            std::fs::write(&index, text).unwrap();
            shards(&index)
        };
        let good = read(
            r#"{"metadata":{},"weight_map":{"a":"m-2.safetensors","b":"m-1.safetensors","c":"m-2.safetensors"}}"#,
        );
        assert_eq!(
            good.unwrap(),
            names(&["m-1.safetensors", "m-2.safetensors"])
        );
        for bad in [
            "../x.safetensors",
            "/etc/x.safetensors",
            "a/x.safetensors",
            ".safetensors",
            "x.bin",
            "",
        ] {
            let text = format!(r#"{{"weight_map":{{"a":"{bad}"}}}}"#);
            assert!(
                matches!(read(&text), Err(HubError::BadIndex { .. })),
                "{bad}"
            );
        }
        assert!(read(r#"{"weight_map":{}}"#).is_err() && read("<html>").is_err());
    }
}
