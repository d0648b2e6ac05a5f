//! Records to weights: each part mapped, its header held against the layout.

use std::path::Path;

use burn::tensor::DType;

use crate::Olmo2Config;
use crate::storage::{Packed, Piece, QuantFormat};
use crate::weights::layout::{Part, TensorSpec, parts};
use crate::weights::{StoredTensor, StoredWeight, Weights, WeightsBuilder, WeightsError};

use super::burnpack::{Descriptor, align, decode};
use super::receipt::Receipt;
use crate::storage::RECEIPT;

/// Maps the parts of a record. Only headers are read: [`verify`](super::verify) reads the rest.
pub(crate) fn open(
    folder: &Path,
    config: &Olmo2Config,
    receipt: &Receipt,
) -> Result<Weights, WeightsError> {
    let path = folder.join(RECEIPT);
    let layout = parts(config);
    // Both are held together before any file is opened: a long list costs nothing.
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

/// Adds the tensors of one part, which must lie in it exactly as this version writes them.
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
    let wanted: Vec<Wanted<'_>> = specs
        .map(|(spec, format)| Wanted::new(spec, format))
        .collect();
    refuse_surplus(path, &wanted, &found)?;
    let file = builder.file(path);
    let mut reader = PartReader {
        path,
        bytes,
        found: &found,
        start,
        at: 0,
    };
    for wanted in &wanted {
        builder.add(file, &wanted.spec.name, reader.weight(wanted)?)?;
    }
    let arrays: usize = wanted.iter().map(|wanted| wanted.arrays.len()).sum();
    if found.len() != arrays {
        let twice = found.len() - arrays;
        return Err(damaged(format!("{twice} of its tensors are there twice")));
    }
    let expected = start.saturating_add(reader.at);
    if expected != bytes.len() as u64 {
        let found = bytes.len();
        return Err(damaged(format!("expected {expected} bytes, found {found}")));
    }
    Ok(())
}

/// The blocks that a header holds a matrix in; `None` for floats, and for what is not there.
fn format_in(
    path: &Path,
    found: &[Descriptor],
    spec: &TensorSpec,
) -> Result<Option<QuantFormat>, WeightsError> {
    let quants = format!("{}.quants", spec.name);
    let is_float = found.iter().any(|tensor| tensor.name == spec.name);
    let tensor = found.iter().find(|tensor| tensor.name == quants);
    match tensor.filter(|_| spec.shape.len() == 2 && !is_float) {
        None => Ok(None),
        Some(tensor) => match tensor.dtype {
            DType::I8 => Ok(Some(QuantFormat::Q8)),
            DType::U8 => Ok(Some(QuantFormat::Q4)),
            other => {
                let found = format!("{other:?}");
                let expected = "I8 or U8";
                Err(WeightsError::mismatch(
                    path, "dtype", &quants, expected, found,
                ))
            }
        },
    }
}

/// A tensor of the layout, and the arrays that it lies in.
struct Wanted<'a> {
    spec: &'a TensorSpec,
    format: Option<QuantFormat>,
    arrays: Vec<Array>,
}

/// An array of a part; floats may be of any type.
struct Array {
    name: String,
    shape: Vec<usize>,
    dtype: Option<DType>,
}

impl<'a> Wanted<'a> {
    fn new(spec: &'a TensorSpec, format: Option<QuantFormat>) -> Self {
        let arrays = match format {
            None => vec![Array {
                name: spec.name.clone(),
                shape: spec.shape.clone(),
                dtype: None,
            }],
            Some(format) => {
                let pieces = format.pieces([spec.shape[0], spec.shape[1]]).into_iter();
                let array = |piece: Piece| Array {
                    name: format!("{}.{}", spec.name, piece.name),
                    shape: piece.shape,
                    dtype: Some(piece.dtype),
                };
                pieces.map(array).collect()
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
    wanted: &[Wanted<'_>],
    found: &[Descriptor],
) -> Result<(), WeightsError> {
    let arrays = || wanted.iter().flat_map(|wanted| &wanted.arrays);
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

/// Takes the arrays of a part one after another.
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
    fn weight(&mut self, wanted: &Wanted<'_>) -> Result<StoredWeight, WeightsError> {
        let arrays = wanted.arrays.iter().map(|array| self.array(array));
        let mut arrays = arrays.collect::<Result<Vec<StoredTensor>, _>>()?;
        let (Some(format), &[out, input]) = (wanted.format, &wanted.spec.shape[..]) else {
            return Ok(StoredWeight::Float(arrays.remove(0)));
        };
        let arrays = arrays.into_iter().map(|array| array.bytes).collect();
        let packed = Packed::new(format, [out, input], arrays);
        packed.map(StoredWeight::Packed).map_err(|fault| {
            let name = format!("{}.{}", wanted.spec.name, fault.piece);
            WeightsError::mismatch(self.path, fault.what, &name, fault.expected, fault.found)
        })
    }

    fn array(&mut self, wanted: &Array) -> Result<StoredTensor, WeightsError> {
        let Some(tensor) = self.found.iter().find(|tensor| tensor.name == wanted.name) else {
            return Err(WeightsError::Missing {
                file: self.path.to_owned(),
                tensor: wanted.name.clone(),
                shape: wanted.shape.clone(),
            });
        };
        if let Some(dtype) = wanted.dtype {
            let differ = |what, expected, found| {
                Err(WeightsError::mismatch(
                    self.path,
                    what,
                    &wanted.name,
                    expected,
                    found,
                ))
            };
            if tensor.dtype != dtype {
                let (expected, found) = (format!("{dtype:?}"), format!("{:?}", tensor.dtype));
                return differ("dtype", expected, found);
            }
            if tensor.shape != wanted.shape {
                let (expected, found) = (&wanted.shape, &tensor.shape);
                return differ("shape", format!("{expected:?}"), format!("{found:?}"));
            }
        }
        self.check_place(wanted, tensor)?;
        self.at = tensor.offsets.1;
        Ok(StoredTensor {
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
            bytes: self.slice(tensor)?,
        })
    }

    /// Arrays follow each other in the order of the layout, each at the next aligned place.
    fn check_place(&self, wanted: &Array, tensor: &Descriptor) -> Result<(), WeightsError> {
        if tensor.shape != wanted.shape {
            // Of floats the builder says it better.
            return Ok(());
        }
        let multiply = |product: u64, &dim: &usize| product.checked_mul(dim as u64);
        let size = tensor.dtype.size() as u64;
        let len = wanted.shape.iter().try_fold(size, multiply);
        let end = len.and_then(|len| align(self.at).checked_add(len));
        let expected = (align(self.at), end.unwrap_or(u64::MAX));
        if tensor.offsets == expected {
            return Ok(());
        }
        let (expected, found) = (show(expected), show(tensor.offsets));
        Err(WeightsError::mismatch(
            self.path,
            "offsets",
            &wanted.name,
            expected,
            found,
        ))
    }

    /// Bytes of a tensor, if the file holds them.
    fn slice(&self, tensor: &Descriptor) -> Result<bytes::Bytes, WeightsError> {
        let held = self.bytes.len() as u64;
        let from = self.start.checked_add(tensor.offsets.0);
        let to = self.start.checked_add(tensor.offsets.1);
        match (from, to) {
            (Some(from), Some(to)) if from <= to && to <= held => {
                Ok(self.bytes.slice(from as usize..to as usize))
            }
            _ => {
                let data = held.saturating_sub(self.start);
                let expected = format!("offsets within {data} bytes of data");
                let (name, found) = (&tensor.name, show(tensor.offsets));
                Err(WeightsError::mismatch(
                    self.path, "offsets", name, expected, found,
                ))
            }
        }
    }
}

fn show((start, end): (u64, u64)) -> String {
    format!("{start}..{end}")
}
