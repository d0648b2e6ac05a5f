//! Records to weights: each part mapped, its header held against the layout.

use std::path::Path;

use crate::Olmo2Config;
use crate::layout::{Part, parts};
use crate::weights::{StoredTensor, Weights, WeightsBuilder, WeightsError};

use super::burnpack::{align, decode};
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
pub(super) fn add_part(
    builder: &mut WeightsBuilder,
    path: &Path,
    part: &Part,
    bytes: &bytes::Bytes,
) -> Result<(), WeightsError> {
    let (found, start) = decode(bytes).map_err(|reason| WeightsError::damaged(path, reason))?;
    for tensor in &found {
        if !part.tensors.iter().any(|spec| spec.name == tensor.name) {
            return Err(WeightsError::Surplus {
                file: path.to_owned(),
                tensor: tensor.name.clone(),
                shape: tensor.shape.clone(),
            });
        }
    }
    let file = builder.file(path);
    let mut at = 0;
    for spec in &part.tensors {
        let name = &spec.name;
        let Some(tensor) = found.iter().find(|tensor| tensor.name == *name) else {
            return Err(WeightsError::Missing {
                file: path.to_owned(),
                tensor: name.clone(),
                shape: spec.shape.clone(),
            });
        };
        let len = spec
            .elements()
            .and_then(|elements| elements.checked_mul(tensor.dtype.size()));
        let expected = len.and_then(|len| align(at).checked_add(len as u64));
        let offsets = (align(at), expected.unwrap_or(u64::MAX));
        // A wrong shape has wrong offsets: the builder says it better.
        if tensor.shape == spec.shape && tensor.offsets != offsets {
            let (expected, found) = (show(offsets), show(tensor.offsets));
            return Err(WeightsError::mismatch(
                path, "offsets", name, expected, found,
            ));
        }
        let stored = StoredTensor {
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
            bytes: slice(path, name, bytes, start, tensor.offsets)?,
        };
        builder.add(file, name, stored)?;
        at = tensor.offsets.1;
    }
    if found.len() != part.tensors.len() {
        let reason = format!(
            "{} tensors, {} of them twice",
            found.len(),
            found.len() - part.tensors.len()
        );
        return Err(WeightsError::damaged(path, reason));
    }
    let expected = start.saturating_add(at);
    if expected != bytes.len() as u64 {
        let reason = format!("expected {expected} bytes, found {}", bytes.len());
        return Err(WeightsError::damaged(path, reason));
    }
    Ok(())
}

fn show((start, end): (u64, u64)) -> String {
    format!("{start}..{end}")
}

/// Bytes of a tensor, if the file holds them.
fn slice(
    path: &Path,
    name: &str,
    bytes: &bytes::Bytes,
    start: u64,
    offsets: (u64, u64),
) -> Result<bytes::Bytes, WeightsError> {
    let held = bytes.len() as u64;
    let from = start.checked_add(offsets.0);
    let to = start.checked_add(offsets.1);
    match (from, to) {
        (Some(from), Some(to)) if from <= to && to <= held => {
            Ok(bytes.slice(from as usize..to as usize))
        }
        _ => {
            let expected = format!(
                "offsets within {} bytes of data",
                held.saturating_sub(start)
            );
            let found = show(offsets);
            Err(WeightsError::mismatch(
                path, "offsets", name, expected, found,
            ))
        }
    }
}
