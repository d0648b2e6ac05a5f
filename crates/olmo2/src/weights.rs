//! A checked, complete set of weights, mapped from a record or a Hugging Face folder.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use burn::module::ParamId;
use burn::prelude::Backend;
use burn::tensor::DType;
use burn_store::TensorSnapshot;

use crate::Olmo2Config;
use crate::layout::{TensorSpec, parts};
use crate::load::LoadOptions;
use crate::packed::Packed;
use crate::quantize::{FloatMatrix, Quantize, QuantizeError, pack};
use crate::record::{Receipt, StoredFormat};

pub(crate) mod element;
mod error;
mod stored;

pub use error::WeightsError;
pub use stored::{StoredTensor, StoredWeight};

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
    weight: StoredWeight,
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
            builder.add(file, &name, StoredWeight::Float(tensor))?;
        }
        builder.finish(origin)
    }

    /// Bytes that loading these weights takes on backend `B`: as they are stored, or quantised,
    /// where kernels read that form in place; elsewhere converted to the compute dtype, beside
    /// which what is quantised on the way lies until all is converted.
    pub fn held_bytes<B: Backend>(&self, options: &LoadOptions) -> u64 {
        let precision = options.precision;
        let held = self.iter().map(|(name, weight)| {
            let shape = weight.shape();
            let format = options
                .quantize
                .and_then(|choice| choice.format_of(name, shape));
            let quantized = match (format, shape) {
                (Some(format), &[out, input]) => Some(format.bytes([out, input])),
                _ => None,
            };
            match precision.is_by_kernels::<B>() {
                true => quantized.unwrap_or(weight.byte_len()),
                false => {
                    let elements: u64 = shape.iter().map(|&dim| dim as u64).product();
                    let converted = elements * precision.compute().size() as u64;
                    // Blocks that are stored are widened as they lie.
                    let made = quantized.filter(|_| weight.float().is_some());
                    converted + made.unwrap_or_default()
                }
            }
        });
        held.sum()
    }

    /// The tensor of that name in the checkpoint.
    pub fn get(&self, name: &str) -> Option<&StoredWeight> {
        Some(&self.tensors[*self.by_name.get(name)?].weight)
    }

    /// The tensor of that name, if it is there as floats.
    pub fn float(&self, name: &str) -> Option<&StoredTensor> {
        self.get(name)?.float()
    }

    /// The file that holds the tensor.
    pub fn origin(&self, name: &str) -> Option<&Path> {
        let entry = &self.tensors[*self.by_name.get(name)?];
        Some(&self.files[entry.file])
    }

    /// Name, file and weights of that name.
    pub(crate) fn entry(&self, name: &str) -> Option<(&str, &Path, &StoredWeight)> {
        let entry = &self.tensors[*self.by_name.get(name)?];
        Some((&entry.name, &self.files[entry.file], &entry.weight))
    }

    /// The files that hold the weights.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Names and tensors, in the order of the record's parts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &StoredWeight)> {
        self.tensors
            .iter()
            .map(|entry| (entry.name.as_str(), &entry.weight))
    }

    /// Bytes of all tensors together.
    pub fn total_bytes(&self) -> u64 {
        self.iter().map(|(_, weight)| weight.byte_len()).sum()
    }

    /// The formats that the weights are in and their bytes, those with the most first.
    pub fn formats(&self) -> Vec<(StoredFormat, u64)> {
        let mut formats: Vec<(StoredFormat, u64)> = Vec::new();
        for (_, weight) in self.iter() {
            let format = weight.format();
            match formats.iter_mut().find(|(known, _)| *known == format) {
                Some((_, bytes)) => *bytes += weight.byte_len(),
                None => formats.push((format, weight.byte_len())),
            }
        }
        formats.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        formats
    }

    /// What was left out or had to be worked around, a sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The same weights with some matrices quantised, one after another; what stays as it is
    /// shares its memory.
    ///
    /// # Errors
    /// A matrix that is quantised already, in another format than `quantize` asks for, or that
    /// holds numbers which cannot be.
    pub fn quantized(&self, quantize: &Quantize) -> Result<Self, QuantizeError> {
        let mut quantized = self.clone();
        for entry in &mut quantized.tensors {
            let file = self.files[entry.file].as_path();
            if let Some(packed) = quantized_as(entry, file, quantize)? {
                entry.weight = StoredWeight::Packed(packed);
            }
        }
        Ok(quantized)
    }

    /// Lazy snapshots for burn-store's `ModuleSnapshot::apply`, under the checkpoint's names.
    ///
    /// `held` gives the type that a weight is to be held in: its own, and then nothing is copied,
    /// or another; `None` leaves the weight out. Loading a snapshot cannot fail: all was checked
    /// when the set was made.
    pub(crate) fn snapshots(
        &self,
        held: impl Fn(&StoredWeight) -> Option<DType>,
    ) -> Vec<TensorSnapshot> {
        let snapshot = |(name, weight): (&str, &StoredWeight)| {
            let dtype = held(weight)?;
            let (lazy, shape) = (weight.clone(), weight.shape().to_vec().into());
            let path = name.split('.').map(str::to_owned).collect();
            let data = Rc::new(move || Ok(lazy.to_data(dtype)));
            let id = ParamId::new();
            Some(TensorSnapshot::from_closure(
                data,
                dtype,
                shape,
                path,
                vec![],
                id,
            ))
        };
        self.iter().filter_map(snapshot).collect()
    }
}

/// The blocks that a weight is to be exchanged for; `None` where it stays as it is.
fn quantized_as(
    entry: &Entry,
    file: &Path,
    quantize: &Quantize,
) -> Result<Option<Packed>, QuantizeError> {
    let name = entry.name.as_str();
    let wanted = quantize.format_of(name, entry.weight.shape());
    match (&entry.weight, wanted) {
        (StoredWeight::Float(tensor), Some(format)) => {
            pack(FloatMatrix { name, file, tensor }, format).map(Some)
        }
        (StoredWeight::Packed(packed), wanted) if wanted != Some(packed.format()) => {
            Err(QuantizeError::Already {
                file: file.to_owned(),
                tensor: name.to_owned(),
                expected: wanted.map_or("floats".into(), |format| format!("floats or {format}")),
                found: packed.format(),
            })
        }
        _ => Ok(None),
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
        // Blocks were checked when they were put together.
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
