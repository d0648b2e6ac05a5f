//! Collects the tensors of files and checks each against the config.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::layout::{TensorSpec, parts};
use super::{Entry, StoredWeight, Weights, WeightsError};
use crate::config::Olmo2Config;
use crate::storage::element;

/// Collects the tensors of files and checks each against the config.
pub(crate) struct WeightsBuilder {
    expected: Vec<TensorSpec>,
    by_name: HashMap<String, usize>,
    found: Vec<Option<Entry>>,
    files: Vec<PathBuf>,
    notes: Vec<String>,
    tied: bool,
}

impl WeightsBuilder {
    pub(crate) fn new(config: &Olmo2Config) -> Self {
        let expected: Vec<TensorSpec> = parts(config)
            .into_iter()
            .flat_map(|part| part.tensors)
            .collect();
        let by_name = expected.iter().enumerate();
        Self {
            by_name: by_name.map(|(i, spec)| (spec.name.clone(), i)).collect(),
            found: vec![None; expected.len()],
            expected,
            files: Vec::new(),
            notes: Vec::new(),
            tied: config.tie_word_embeddings,
        }
    }

    /// Registers a file; [`add`](Self::add) takes the index.
    pub(crate) fn file(&mut self, path: &Path) -> usize {
        self.files.push(path.to_owned());
        self.files.len() - 1
    }

    /// Whether the model has a tensor of that name.
    pub(crate) fn expects(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// Adds a tensor of a registered file.
    pub(crate) fn add(
        &mut self,
        file: usize,
        name: &str,
        weight: StoredWeight,
    ) -> Result<(), WeightsError> {
        let path = self.files[file].clone();
        let Some(&index) = self.by_name.get(name) else {
            return self.leave_out(&path, name, weight.shape());
        };
        self.check(&path, index, &weight)?;
        if let Some(first) = &self.found[index] {
            let first = self.files[first.file].display();
            let expected = format!("only `{first}` to hold it");
            return Err(WeightsError::mismatch(
                &path, "file", name, expected, "it again",
            ));
        }
        if weight.float().is_some_and(|tensor| !tensor.is_aligned()) {
            self.notes.push(format!(
                "`{}`: tensor `{name}` is not aligned and is copied when it is loaded",
                path.display()
            ));
        }
        self.found[index] = Some(Entry {
            name: name.to_owned(),
            weight,
            file,
        });
        Ok(())
    }

    fn check(&self, file: &Path, index: usize, weight: &StoredWeight) -> Result<(), WeightsError> {
        let spec = &self.expected[index];
        let fail = |what, expected: String, found: String| {
            Err(WeightsError::mismatch(
                file, what, &spec.name, expected, found,
            ))
        };
        if weight.shape() != spec.shape {
            let (expected, found) = (&spec.shape, weight.shape());
            return fail("shape", format!("{expected:?}"), format!("{found:?}"));
        }
        // `Packed::new` has checked the blocks.
        let Some(tensor) = weight.float() else {
            return Ok(());
        };
        if !element::is_supported(tensor.dtype) {
            let found = format!("{:?}", tensor.dtype);
            return fail("dtype", "F32, BF16 or F16".into(), found);
        }
        let len = tensor.bytes.len();
        let bytes = |elements: usize| elements.checked_mul(tensor.dtype.size());
        if spec.elements().and_then(bytes) != Some(len) {
            let expected = format!("{:?} elements of {:?}", spec.shape, tensor.dtype);
            return fail("size", expected, format!("{len} bytes"));
        }
        Ok(())
    }

    /// Leaves out a tensor that the model does not have, with a note; refuses it if it is not a
    /// known leftover.
    pub(crate) fn leave_out(
        &mut self,
        file: &Path,
        tensor: &str,
        shape: &[usize],
    ) -> Result<(), WeightsError> {
        refuse_pre_norm(file, tensor)?;
        let reason = match tensor {
            "lm_head.weight" if self.tied => "`tie_word_embeddings` makes the embedding the head",
            _ if tensor.ends_with("rotary_emb.inv_freq") => "the config gives the frequencies",
            _ => {
                return Err(WeightsError::Surplus {
                    file: file.to_owned(),
                    tensor: tensor.to_owned(),
                    shape: shape.to_vec(),
                });
            }
        };
        let file = file.display();
        let note = format!("`{file}`: tensor `{tensor}` is left out: {reason}");
        self.notes.push(note);
        Ok(())
    }

    /// Checks that no tensor is missing; an error names `searched`, a file or folder.
    pub(crate) fn finish(self, searched: &Path) -> Result<Weights, WeightsError> {
        let mut tensors = Vec::with_capacity(self.found.len());
        for (entry, spec) in self.found.into_iter().zip(self.expected) {
            tensors.push(entry.ok_or_else(|| WeightsError::Missing {
                file: searched.to_owned(),
                tensor: spec.name,
                shape: spec.shape,
            })?);
        }
        Ok(Weights {
            tensors,
            by_name: self.by_name,
            files: self.files,
            notes: self.notes,
        })
    }
}

/// Refuses a norm before attention, which OLMo 2 does not have: the checkpoint is of another model,
/// whatever its `config.json` says.
pub(crate) fn refuse_pre_norm(file: &Path, tensor: &str) -> Result<(), WeightsError> {
    if tensor.ends_with(".input_layernorm.weight") {
        let (file, tensor) = (file.to_owned(), tensor.to_owned());
        return Err(WeightsError::NotOlmo2 { file, tensor });
    }
    Ok(())
}
