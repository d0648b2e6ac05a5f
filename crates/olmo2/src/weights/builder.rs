//! Collects the tensors of files and checks each against the config.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::layout::{self, TensorSpec, parts};
use super::{Entry, StoredTensor, StoredWeight, Weights, WeightsError};
use crate::config::Olmo2Config;
use crate::storage::element;

/// Collects the tensors of files and checks each against the config.
pub(crate) struct WeightsBuilder {
    expected: Vec<TensorSpec>,
    by_name: HashMap<String, usize>,
    found: Vec<Option<Entry>>,
    files: Vec<PathBuf>,
    notes: Vec<String>,
    warnings: Vec<String>,
    tied: bool,
    /// The head of a file whose config ties it to the embedding, and its file.
    tied_head: Option<(PathBuf, StoredTensor)>,
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
            warnings: Vec::new(),
            tied_head: None,
            tied: config.tie_word_embeddings,
        }
    }

    /// Registers a file; [`add`](Self::add) takes the index.
    pub(crate) fn file(&mut self, path: &Path) -> usize {
        self.files.push(path.to_owned());
        self.files.len() - 1
    }

    /// The model's own name of a tensor: without the prefixes of wrappers, and with `model.` where
    /// the body alone was saved.
    pub(crate) fn known_name(&self, name: &str) -> Option<String> {
        let name = layout::without_prefixes(name);
        let names = [name.to_owned(), format!("model.{name}")];
        names
            .into_iter()
            .find(|name| self.by_name.contains_key(name))
    }

    /// Keeps a head that the config ties to the embedding, to be compared with it; false where
    /// `name` is another tensor.
    pub(crate) fn keep_tied_head(&mut self, file: &Path, name: &str, tensor: StoredTensor) -> bool {
        let is_head = self.tied && layout::without_prefixes(name) == layout::HEAD;
        if is_head {
            self.notes.push(format!(
                "`{}`: tensor `{name}` is left out: it is the embedding, which \
                 `tie_word_embeddings` makes the head",
                file.display()
            ));
            self.tied_head = Some((file.to_owned(), tensor));
        }
        is_head
    }

    /// Something that a user should know of.
    pub(crate) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
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
            return match weight.float() {
                Some(head) if self.keep_tied_head(&path, name, head.clone()) => Ok(()),
                _ => self.leave_out(&path, name, weight.shape()),
            };
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
        if tensor.starts_with("v_head.") {
            let file = file.display();
            self.warn(format!(
                "`{file}`: tensor `{tensor}` is left out: it is the value head of a reward model"
            ));
            return Ok(());
        }
        if !tensor.ends_with("rotary_emb.inv_freq") {
            return Err(WeightsError::Surplus {
                file: file.to_owned(),
                tensor: tensor.to_owned(),
                shape: shape.to_vec(),
            });
        }
        self.notes.push(format!(
            "`{}`: tensor `{tensor}` is left out: the config gives the frequencies",
            file.display()
        ));
        Ok(())
    }

    /// Checks that no tensor is missing; an error names `searched`, a file or folder.
    pub(crate) fn finish(self, searched: &Path) -> Result<Weights, WeightsError> {
        self.check_tied_head()?;
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
            warnings: self.warnings,
        })
    }

    /// A head that has values of its own must not be thrown away.
    fn check_tied_head(&self) -> Result<(), WeightsError> {
        let embedding = self.by_name.get(layout::EMBEDDING);
        let embedding = embedding.and_then(|&index| self.found[index].as_ref());
        let embedding = embedding.and_then(|entry| entry.weight.float());
        match (&self.tied_head, embedding) {
            (Some((file, head)), Some(embedding)) if !head.equals(embedding) => {
                let file = file.clone();
                Err(WeightsError::UntiedHead { file })
            }
            _ => Ok(()),
        }
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
