//! Reads a record: each part is mapped, and its header checked against the layout.

use std::path::Path;

use burn::tensor::DType;

use crate::config::Olmo2Config;
use crate::storage::blocks::ArraySpec;
use crate::storage::name::one_of;
use crate::storage::{Packed, QuantFormat};
use crate::weights::layout::{Part, RECEIPT, TensorSpec, parts};
use crate::weights::{StoredTensor, StoredWeight, Weights, WeightsBuilder, WeightsError};

use super::burnpack::{Descriptor, align, decode};
use super::receipt::Receipt;

/// Maps the parts of a record. Only headers are read: [`check`](super::check) reads the rest.
pub(crate) fn open(
    folder: &Path,
    config: &Olmo2Config,
    receipt: &Receipt,
) -> Result<Weights, WeightsError> {
    let path = folder.join(RECEIPT);
    let layout = parts(config);
    // Before any file is opened, so that a long list costs nothing.
    if receipt.parts.len() > layout.len() {
        let (expected, found) = (layout.len(), receipt.parts.len());
        return Err(WeightsError::mismatch(
            &path, "length", "parts", expected, found,
        ));
    }
    let mut builder = WeightsBuilder::new(config);
    for part in &layout {
        let file = part.file_name();
        let Some(entry) = receipt.part(&file) else {
            return Err(WeightsError::Incomplete {
                folder: folder.to_owned(),
                part: file,
                done: receipt.parts.len(),
                expected: layout.len(),
            });
        };
        let path = folder.join(&file);
        let map = olmo2_kernels::map_file(&path).map_err(WeightsError::io(&path))?;
        if map.len() as u64 != entry.size {
            let reason = format!("expected {} bytes, found {}", entry.size, map.len());
            return Err(WeightsError::damaged(&path, reason));
        }
        add_part(&mut builder, &path, part, &bytes::Bytes::from_owner(map))?;
    }
    builder.finish(folder)
}

/// Adds the tensors of one part, which must have the layout that this version writes.
fn add_part(
    builder: &mut WeightsBuilder,
    path: &Path,
    part: &Part,
    bytes: &bytes::Bytes,
) -> Result<(), WeightsError> {
    let damaged = |reason: String| WeightsError::damaged(path, reason);
    let (found, start) = decode(bytes).map_err(damaged)?;
    let formats = part
        .tensors
        .iter()
        .map(|spec| format_in(path, &found, spec))
        .collect::<Result<Vec<_>, _>>()?;
    let specs = part.tensors.iter().zip(formats);
    let tensors: Vec<ExpectedTensor<'_>> = specs
        .map(|(spec, format)| ExpectedTensor::new(spec, format))
        .collect();
    refuse_surplus(path, &tensors, &found)?;
    let file = builder.file(path);
    let mut reader = PartReader {
        path,
        bytes,
        found: &found,
        start,
        at: 0,
    };
    for tensor in &tensors {
        builder.add(file, &tensor.spec.name, reader.weight(tensor)?)?;
    }
    let arrays: usize = tensors.iter().map(|tensor| tensor.arrays.len()).sum();
    if found.len() != arrays {
        let twice = found.len() - arrays;
        return Err(damaged(format!("{twice} of its tensors appear twice")));
    }
    let expected = start.saturating_add(reader.at);
    if expected != bytes.len() as u64 {
        let found = bytes.len();
        return Err(damaged(format!("expected {expected} bytes, found {found}")));
    }
    Ok(())
}

/// The format of the blocks in which a part holds a matrix, by the name and dtype of the
/// first array. `None` for floats, and for a tensor that is missing.
fn format_in(
    path: &Path,
    found: &[Descriptor],
    spec: &TensorSpec,
) -> Result<Option<QuantFormat>, WeightsError> {
    let find = |name: &str| found.iter().find(|tensor| tensor.name == name);
    if spec.shape.len() != 2 || find(&spec.name).is_some() {
        return Ok(None);
    }
    let mut other = None;
    let mut dtypes = Vec::new();
    for format in QuantFormat::ALL {
        let first = format.first_array();
        match find(&format!("{}.{}", spec.name, first.name)) {
            Some(tensor) if tensor.dtype == first.dtype => return Ok(Some(format)),
            Some(tensor) => {
                other = Some(tensor);
                dtypes.push(format!("{:?}", first.dtype));
            }
            None => {}
        }
    }
    let Some(Descriptor { name, dtype, .. }) = other else {
        return Ok(None);
    };
    let found = format!("{dtype:?}");
    Err(WeightsError::mismatch(
        path,
        "dtype",
        name,
        one_of(&dtypes),
        found,
    ))
}

/// A tensor of the layout, and the arrays that should hold it.
struct ExpectedTensor<'a> {
    spec: &'a TensorSpec,
    format: Option<QuantFormat>,
    arrays: Vec<ExpectedArray>,
}

/// An array of a part; `dtype` is `None` for floats, which may have any.
struct ExpectedArray {
    name: String,
    shape: Vec<usize>,
    dtype: Option<DType>,
}

impl<'a> ExpectedTensor<'a> {
    fn new(spec: &'a TensorSpec, format: Option<QuantFormat>) -> Self {
        let arrays = match format {
            None => vec![ExpectedArray {
                name: spec.name.clone(),
                shape: spec.shape.clone(),
                dtype: None,
            }],
            Some(format) => {
                let arrays = format.arrays([spec.shape[0], spec.shape[1]]).into_iter();
                let array = |array: ArraySpec| ExpectedArray {
                    name: format!("{}.{}", spec.name, array.name),
                    shape: array.shape,
                    dtype: Some(array.dtype),
                };
                arrays.map(array).collect()
            }
        };
        Self {
            spec,
            format,
            arrays,
        }
    }
}

fn refuse_surplus(
    path: &Path,
    expected: &[ExpectedTensor<'_>],
    found: &[Descriptor],
) -> Result<(), WeightsError> {
    let arrays = || expected.iter().flat_map(|expected| &expected.arrays);
    let is_surplus = |tensor: &&Descriptor| !arrays().any(|array| array.name == tensor.name);
    match found.iter().find(is_surplus) {
        None => Ok(()),
        Some(tensor) => Err(WeightsError::Surplus {
            file: path.to_owned(),
            tensor: tensor.name.clone(),
            shape: tensor.shape.clone(),
        }),
    }
}

/// Reads the arrays of a part in order.
struct PartReader<'a> {
    path: &'a Path,
    bytes: &'a bytes::Bytes,
    found: &'a [Descriptor],
    /// Where the data starts.
    start: u64,
    /// Where the last array ended, from the start of the data.
    at: u64,
}

impl PartReader<'_> {
    fn weight(&mut self, expected: &ExpectedTensor<'_>) -> Result<StoredWeight, WeightsError> {
        let arrays = expected.arrays.iter().map(|array| self.array(array));
        let mut arrays = arrays.collect::<Result<Vec<StoredTensor>, _>>()?;
        let (Some(format), &[out, input]) = (expected.format, &expected.spec.shape[..]) else {
            return Ok(StoredWeight::Float(arrays.remove(0)));
        };
        let arrays = arrays.into_iter().map(|array| array.bytes).collect();
        let packed = Packed::new(format, [out, input], arrays);
        packed.map(StoredWeight::Packed).map_err(|fault| {
            let name = format!("{}.{}", expected.spec.name, fault.array);
            WeightsError::mismatch(self.path, fault.what, &name, fault.expected, fault.found)
        })
    }

    fn array(&mut self, spec: &ExpectedArray) -> Result<StoredTensor, WeightsError> {
        let Some(tensor) = self.found.iter().find(|tensor| tensor.name == spec.name) else {
            return Err(WeightsError::Missing {
                file: self.path.to_owned(),
                tensor: spec.name.clone(),
                shape: spec.shape.clone(),
            });
        };
        if let Some(dtype) = spec.dtype {
            if tensor.dtype != dtype {
                let (expected, found) = (format!("{dtype:?}"), format!("{:?}", tensor.dtype));
                return Err(self.mismatch("dtype", &spec.name, expected, found));
            }
            if tensor.shape != spec.shape {
                let (expected, found) = (&spec.shape, &tensor.shape);
                let (expected, found) = (format!("{expected:?}"), format!("{found:?}"));
                return Err(self.mismatch("shape", &spec.name, expected, found));
            }
        }
        self.check_place(spec, tensor)?;
        self.at = tensor.offsets.1;
        Ok(StoredTensor {
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
            bytes: self.slice(tensor)?,
        })
    }

    /// Arrays follow each other in the order of the layout, each at the next aligned offset.
    fn check_place(&self, spec: &ExpectedArray, tensor: &Descriptor) -> Result<(), WeightsError> {
        if tensor.shape != spec.shape {
            // The builder names both shapes of floats.
            return Ok(());
        }
        let multiply = |product: u64, &dim: &usize| product.checked_mul(dim as u64);
        let size = tensor.dtype.size() as u64;
        let len = spec.shape.iter().try_fold(size, multiply);
        let end = len.and_then(|len| align(self.at).checked_add(len));
        let expected = (align(self.at), end.unwrap_or(u64::MAX));
        if tensor.offsets == expected {
            return Ok(());
        }
        let (expected, found) = (show(expected), show(tensor.offsets));
        Err(self.mismatch("offsets", &spec.name, expected, found))
    }

    /// The bytes of a tensor, if its offsets are within the file.
    fn slice(&self, tensor: &Descriptor) -> Result<bytes::Bytes, WeightsError> {
        let size = self.bytes.len() as u64;
        let from = self.start.checked_add(tensor.offsets.0);
        let to = self.start.checked_add(tensor.offsets.1);
        match (from, to) {
            (Some(from), Some(to)) if from <= to && to <= size => {
                Ok(self.bytes.slice(from as usize..to as usize))
            }
            _ => {
                let data = size.saturating_sub(self.start);
                let expected = format!("offsets within {data} bytes of data");
                let found = show(tensor.offsets);
                Err(self.mismatch("offsets", &tensor.name, expected, found))
            }
        }
    }

    fn mismatch(
        &self,
        what: &'static str,
        name: &str,
        expected: String,
        found: String,
    ) -> WeightsError {
        WeightsError::mismatch(self.path, what, name, expected, found)
    }
}

fn show((start, end): (u64, u64)) -> String {
    format!("{start}..{end}")
}
