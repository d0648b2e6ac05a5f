//! A checked, complete set of weights, mapped from a record or a Hugging Face folder.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use burn::module::ParamId;
use burn::prelude::Backend;
use burn::tensor::{AllocationProperty, Bytes, DType, TensorData};
use burn_store::TensorSnapshot;

use crate::Olmo2Config;
use crate::layout::{TensorSpec, parts};
use crate::precision::Precision;
use crate::record::Receipt;

pub(crate) mod element;
mod error;

pub use error::WeightsError;

/// The weights of one tensor, as a file holds them.
#[derive(Debug, Clone)]
pub struct StoredTensor {
    /// `F32`, `BF16` or `F16`.
    pub dtype: DType,
    /// Dimensions; a projection is `[out, in]`.
    pub shape: Vec<usize>,
    /// Little-endian elements, row by row: usually a slice of a mapped file.
    pub bytes: bytes::Bytes,
}

impl StoredTensor {
    /// Whether the bytes lie in memory as a slice of their elements may.
    pub fn is_aligned(&self) -> bool {
        self.bytes.as_ptr().addr().is_multiple_of(self.dtype.size())
    }

    /// Elements as burn takes them: the same memory where the type stays, converted otherwise.
    ///
    /// Bytes that are not aligned are copied, since burn would panic on them.
    fn to_data(&self, dtype: DType) -> TensorData {
        let bytes = if dtype == self.dtype && self.is_aligned() {
            Bytes::from_shared(self.bytes.clone(), AllocationProperty::File)
        } else {
            element::cast_to_bytes(&self.bytes, self.dtype, dtype)
        };
        TensorData::from_bytes(bytes, self.shape.clone(), dtype)
    }
}

/// All tensors of a model, checked against its config: names, shapes, types and sizes.
#[derive(Debug, Clone)]
pub struct Weights {
    /// In the order of the [layout](parts).
    tensors: Vec<Entry>,
    by_name: HashMap<String, usize>,
    files: Vec<PathBuf>,
    notes: Vec<String>,
}

#[derive(Debug, Clone)]
struct Entry {
    name: String,
    tensor: StoredTensor,
    /// Index of the file of origin.
    file: usize,
}

impl Weights {
    /// Maps the weights of a folder: a record if it holds one, otherwise safetensors files.
    ///
    /// Nothing is read but the headers.
    ///
    /// # Errors
    /// Any file, tensor or field that is not what `config` asks for; see [`WeightsError`].
    pub fn open(folder: &Path, config: &Olmo2Config) -> Result<Self, WeightsError> {
        match Receipt::read(folder)? {
            Some(receipt) => crate::record::open(folder, config, &receipt),
            None => crate::safetensors::open(folder, config),
        }
    }

    /// Weights of a `model.safetensors` that is in memory, such as an embedded one; nothing is
    /// copied where its elements are aligned.
    ///
    /// `origin` stands for the file in messages.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_safetensors(
        config: &Olmo2Config,
        origin: &Path,
        bytes: &bytes::Bytes,
    ) -> Result<Self, WeightsError> {
        crate::safetensors::read(config, origin, bytes)
    }

    /// A set made in memory: the weights of a trained model, or of a test.
    ///
    /// `origin` stands for the file in messages.
    ///
    /// # Errors
    /// A tensor that is missing, surplus, or not of the shape and size that `config` asks for.
    pub fn from_tensors(
        config: &Olmo2Config,
        origin: &Path,
        tensors: impl IntoIterator<Item = (String, StoredTensor)>,
    ) -> Result<Self, WeightsError> {
        let mut builder = WeightsBuilder::new(config);
        let file = builder.file(origin);
        for (name, tensor) in tensors {
            builder.add(file, &name, tensor)?;
        }
        builder.finish(origin)
    }

    /// Bytes that a model of these weights takes on backend `B`: as they are stored where kernels
    /// read that form in place, converted to the compute dtype elsewhere.
    pub fn held_bytes<B: Backend>(&self, precision: Precision) -> u64 {
        let held = self.tensors.iter().map(|entry| {
            let stored = entry.tensor.dtype;
            let elements = entry.tensor.bytes.len() / stored.size();
            (elements * precision.held::<B>(stored).size()) as u64
        });
        held.sum()
    }

    /// The tensor of that name in the checkpoint.
    pub fn get(&self, name: &str) -> Option<&StoredTensor> {
        Some(&self.tensors[*self.by_name.get(name)?].tensor)
    }

    /// The file that holds the tensor.
    pub fn origin(&self, name: &str) -> Option<&Path> {
        let entry = &self.tensors[*self.by_name.get(name)?];
        Some(&self.files[entry.file])
    }

    /// The files that hold the weights.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Names and tensors, in the order of the record's parts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &StoredTensor)> {
        self.tensors
            .iter()
            .map(|entry| (entry.name.as_str(), &entry.tensor))
    }

    /// Bytes of all tensors together.
    pub fn total_bytes(&self) -> u64 {
        let len = |entry: &Entry| entry.tensor.bytes.len() as u64;
        self.tensors.iter().map(len).sum()
    }

    /// What was left out or had to be worked around, a sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Lazy snapshots for burn-store's `ModuleSnapshot::apply`, under the checkpoint's names.
    ///
    /// `convert` gives the type that a tensor is converted to; `None` keeps it, and then nothing
    /// is copied. Loading a snapshot cannot fail: all was checked when the set was made.
    pub(crate) fn snapshots(
        &self,
        convert: impl Fn(&str, &StoredTensor) -> Option<DType>,
    ) -> Vec<TensorSnapshot> {
        self.iter()
            .map(|(name, tensor)| {
                let dtype = convert(name, tensor).unwrap_or(tensor.dtype);
                let (lazy, shape) = (tensor.clone(), tensor.shape.clone().into());
                let path = name.split('.').map(str::to_owned).collect();
                let data = Rc::new(move || Ok(lazy.to_data(dtype)));
                TensorSnapshot::from_closure(data, dtype, shape, path, vec![], ParamId::new())
            })
            .collect()
    }
}

/// Gathers tensors of any file and checks each against the config.
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

    /// Registers a file of origin.
    pub(crate) fn file(&mut self, path: &Path) -> usize {
        self.files.push(path.to_owned());
        self.files.len() - 1
    }

    /// Whether the model has a tensor of that name.
    pub(crate) fn expects(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// Takes a tensor in.
    pub(crate) fn add(
        &mut self,
        file: usize,
        name: &str,
        tensor: StoredTensor,
    ) -> Result<(), WeightsError> {
        let path = self.files[file].clone();
        let Some(&index) = self.by_name.get(name) else {
            return self.leave_out(&path, name, &tensor.shape);
        };
        self.check(&path, index, &tensor)?;
        if let Some(first) = &self.found[index] {
            let first = self.files[first.file].display();
            let expected = format!("only `{first}` to hold it");
            return Err(WeightsError::mismatch(
                &path, "file", name, expected, "it again",
            ));
        }
        if !tensor.is_aligned() {
            self.notes.push(format!(
                "`{}`: tensor `{name}` is not aligned and is copied when it is loaded",
                path.display()
            ));
        }
        self.found[index] = Some(Entry {
            name: name.to_owned(),
            tensor,
            file,
        });
        Ok(())
    }

    fn check(&self, file: &Path, index: usize, tensor: &StoredTensor) -> Result<(), WeightsError> {
        let spec = &self.expected[index];
        let fail = |what, expected: String, found: String| {
            Err(WeightsError::mismatch(
                file, what, &spec.name, expected, found,
            ))
        };
        if tensor.shape != spec.shape {
            let (expected, found) = (&spec.shape, &tensor.shape);
            return fail("shape", format!("{expected:?}"), format!("{found:?}"));
        }
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

    /// A tensor that the model has no use for: known leftovers are noted, others refused.
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

    /// Checks that nothing is missing; `searched` is the file or folder to name.
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

/// OLMo 2 has no norm before attention; a checkpoint with one is another model, whatever its
/// `config.json` says.
pub(crate) fn refuse_pre_norm(file: &Path, tensor: &str) -> Result<(), WeightsError> {
    if tensor.ends_with(".input_layernorm.weight") {
        let (file, tensor) = (file.to_owned(), tensor.to_owned());
        return Err(WeightsError::NotOlmo2 { file, tensor });
    }
    Ok(())
}
