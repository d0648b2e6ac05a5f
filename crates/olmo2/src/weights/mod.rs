//! A checked, complete set of weights, mapped from a record or a Hugging Face folder.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use burn::module::ParamId;
use burn::tensor::DType;
use burn_store::TensorSnapshot;

use crate::config::Olmo2Config;
use crate::storage::StoredFormat;

mod builder;
mod error;
pub mod layout;
mod read_small;
mod stored;

pub(crate) use builder::{WeightsBuilder, refuse_pre_norm};
pub use error::WeightsError;
pub(crate) use read_small::read_small;
pub use stored::{StoredTensor, StoredWeight};

/// All tensors of a model, checked against its config: names, shapes, types and sizes.
#[derive(Debug, Clone)]
pub struct Weights {
    /// In the order of the [layout](layout::parts).
    tensors: Vec<Entry>,
    by_name: HashMap<String, usize>,
    files: Vec<PathBuf>,
    notes: Vec<String>,
    warnings: Vec<String>,
}

#[derive(Debug, Clone)]
struct Entry {
    name: String,
    weight: StoredWeight,
    /// Index of the file of origin.
    file: usize,
}

impl Weights {
    /// A set of tensors in memory, such as the weights of a trained model.
    ///
    /// Errors and notes name `origin` as the file.
    ///
    /// # Errors
    /// A tensor that is missing, surplus, or has another shape or size than `config` gives it.
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

    /// The weights of a tensor, by its name in the checkpoint.
    pub fn get(&self, name: &str) -> Option<&StoredWeight> {
        Some(&self.tensors[*self.by_name.get(name)?].weight)
    }

    /// The floats of a tensor; `None` if it is quantized or does not exist.
    pub fn float(&self, name: &str) -> Option<&StoredTensor> {
        self.get(name)?.float()
    }

    /// The file that holds the tensor.
    pub fn origin(&self, name: &str) -> Option<&Path> {
        let entry = &self.tensors[*self.by_name.get(name)?];
        Some(&self.files[entry.file])
    }

    /// Name, file and weights of a tensor.
    pub(crate) fn entry(&self, name: &str) -> Option<(&str, &Path, &StoredWeight)> {
        let entry = &self.tensors[*self.by_name.get(name)?];
        Some((&entry.name, &self.files[entry.file], &entry.weight))
    }

    /// The files that hold the weights.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Names and weights, in the order of the [layout](layout::parts).
    pub fn iter(&self) -> impl Iterator<Item = (&str, &StoredWeight)> {
        self.tensors
            .iter()
            .map(|entry| (entry.name.as_str(), &entry.weight))
    }

    /// Bytes of all tensors together.
    pub fn total_bytes(&self) -> u64 {
        self.iter().map(|(_, weight)| weight.byte_len()).sum()
    }

    /// The formats of the weights and the bytes in each, largest first.
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

    /// Whether any matrix lies in quantized blocks.
    pub fn is_quantized(&self) -> bool {
        self.iter().any(|(_, weight)| weight.packed().is_some())
    }

    /// Tensors that were left out or must be copied at load, one sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What a user should know of, one sentence each: files or tensors that belong to something else
    /// than the model.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// A copy of the set with the weights that `replace` returns; `None` keeps a weight. `replace`
    /// gets name, file and weight.
    pub(crate) fn try_replace<E>(
        &self,
        replace: impl Fn(&str, &Path, &StoredWeight) -> Result<Option<StoredWeight>, E>,
    ) -> Result<Self, E> {
        let mut replaced = self.clone();
        for entry in &mut replaced.tensors {
            let file = self.files[entry.file].as_path();
            if let Some(weight) = replace(&entry.name, file, &entry.weight)? {
                entry.weight = weight;
            }
        }
        Ok(replaced)
    }

    /// Lazy snapshots for burn-store's `ModuleSnapshot::apply`, under the checkpoint's names.
    ///
    /// `dtype_of` gives the dtype to load a weight in, and `None` leaves the weight out. Floats that
    /// keep their dtype are not copied. Loading a snapshot cannot fail: the builder checked every
    /// tensor.
    pub(crate) fn snapshots(
        &self,
        dtype_of: impl Fn(&StoredWeight) -> Option<DType>,
    ) -> Vec<TensorSnapshot> {
        let snapshot = |(name, weight): (&str, &StoredWeight)| {
            let dtype = dtype_of(weight)?;
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
