//! Records to weights: each part mapped, its header held against the layout.

use std::path::Path;

use crate::Olmo2Config;
use crate::layout::{Part, TensorSpec, parts};
use crate::weights::{StoredTensor, Weights, WeightsBuilder, WeightsError};

use super::burnpack::{Descriptor, align, decode};
use super::receipt::{RECEIPT, Receipt};

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
    refuse_surplus(path, part, &found)?;
    let file = builder.file(path);
    let mut at = 0;
    for spec in &part.tensors {
        let Some(tensor) = found.iter().find(|tensor| tensor.name == spec.name) else {
            return Err(WeightsError::Missing {
                file: path.to_owned(),
                tensor: spec.name.clone(),
                shape: spec.shape.clone(),
            });
        };
        check_place(path, spec, tensor, at)?;
        let stored = StoredTensor {
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
            bytes: slice(path, tensor, bytes, start)?,
        };
        builder.add(file, &spec.name, stored)?;
        at = tensor.offsets.1;
    }
    if found.len() != part.tensors.len() {
        let twice = found.len() - part.tensors.len();
        return Err(damaged(format!("{twice} of its tensors are there twice")));
    }
    let expected = start.saturating_add(at);
    if expected != bytes.len() as u64 {
        let found = bytes.len();
        return Err(damaged(format!("expected {expected} bytes, found {found}")));
    }
    Ok(())
}

fn refuse_surplus(path: &Path, part: &Part, found: &[Descriptor]) -> Result<(), WeightsError> {
    let is_surplus =
        |tensor: &&Descriptor| !part.tensors.iter().any(|spec| spec.name == tensor.name);
    match found.iter().find(is_surplus) {
        None => Ok(()),
        Some(tensor) => Err(WeightsError::Surplus {
            file: path.to_owned(),
            tensor: tensor.name.clone(),
            shape: tensor.shape.clone(),
        }),
    }
}

/// Tensors follow each other in the order of the layout, each at the next aligned place.
fn check_place(
    path: &Path,
    spec: &TensorSpec,
    tensor: &Descriptor,
    at: u64,
) -> Result<(), WeightsError> {
    if tensor.shape != spec.shape {
        // The builder says it better.
        return Ok(());
    }
    let size = tensor.dtype.size();
    let len = spec.elements().and_then(|count| count.checked_mul(size));
    let end = len.and_then(|len| align(at).checked_add(len as u64));
    let expected = (align(at), end.unwrap_or(u64::MAX));
    if tensor.offsets == expected {
        return Ok(());
    }
    let (expected, found) = (show(expected), show(tensor.offsets));
    Err(WeightsError::mismatch(
        path, "offsets", &spec.name, expected, found,
    ))
}

fn show((start, end): (u64, u64)) -> String {
    format!("{start}..{end}")
}

/// Bytes of a tensor, if the file holds them.
fn slice(
    path: &Path,
    tensor: &Descriptor,
    bytes: &bytes::Bytes,
    start: u64,
) -> Result<bytes::Bytes, WeightsError> {
    let held = bytes.len() as u64;
    let from = start.checked_add(tensor.offsets.0);
    let to = start.checked_add(tensor.offsets.1);
    match (from, to) {
        (Some(from), Some(to)) if from <= to && to <= held => {
            Ok(bytes.slice(from as usize..to as usize))
        }
        _ => {
            let expected = format!(
                "offsets within {} bytes of data",
                held.saturating_sub(start)
            );
            let (name, found) = (&tensor.name, show(tensor.offsets));
            Err(WeightsError::mismatch(
                path, "offsets", name, expected, found,
            ))
        }
    }
}
