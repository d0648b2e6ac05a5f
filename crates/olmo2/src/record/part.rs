//! One part: planned from the layout, then streamed into its file and hashed on the way.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use burn::tensor::DType;

use super::atomic;
use super::burnpack::{Descriptor, align, encode};
use super::error::RecordError;
use super::receipt::{PartReceipt, StoredDtype, TensorReceipt};
use crate::layout::Part;
use crate::weights::{StoredTensor, Weights, element};

/// Bytes of the source that are cast, hashed and written at a time.
const CHUNK: usize = 1 << 20;

/// What a part's file will hold.
pub(super) struct PartPlan<'a> {
    pub(super) file: String,
    pub(super) receipt: Vec<TensorReceipt>,
    tensors: Vec<(&'a Path, &'a StoredTensor)>,
    descriptors: Vec<Descriptor>,
}

impl<'a> PartPlan<'a> {
    /// Places the tensors one after another, each in `dtype` or in the type of its source.
    pub(super) fn new(part: &Part, weights: &'a Weights, dtype: Option<DType>) -> Self {
        let mut plan = Self {
            file: part.file_name(),
            receipt: Vec::new(),
            tensors: Vec::new(),
            descriptors: Vec::new(),
        };
        let mut at = 0;
        for spec in &part.tensors {
            // A set of weights is complete by construction.
            let Some((origin, tensor)) = weights.origin(&spec.name).zip(weights.get(&spec.name))
            else {
                continue;
            };
            let to = dtype.unwrap_or(tensor.dtype);
            let start = align(at);
            at = start + (tensor.bytes.len() / tensor.dtype.size() * to.size()) as u64;
            let source_file = origin.file_name().unwrap_or(origin.as_os_str());
            plan.receipt.push(TensorReceipt {
                name: spec.name.clone(),
                dtype: StoredDtype::of(to),
                source_file: source_file.to_string_lossy().into_owned(),
                source_dtype: StoredDtype::of(tensor.dtype),
            });
            plan.descriptors.push(Descriptor {
                name: spec.name.clone(),
                dtype: to,
                shape: tensor.shape.clone(),
                offsets: (start, at),
            });
            plan.tensors.push((origin, tensor));
        }
        plan
    }

    /// Bytes of the tensors, padding included.
    pub(super) fn bytes(&self) -> u64 {
        self.descriptors.last().map_or(0, |last| last.offsets.1)
    }

    /// Writes the part into a folder; `on_bytes` may end it with an error.
    pub(super) fn write(
        &self,
        folder: &Path,
        mut on_bytes: impl FnMut(u64) -> Result<(), RecordError>,
    ) -> Result<PartReceipt, RecordError> {
        let path = folder.join(&self.file);
        atomic::write(&path, |file| {
            let mut out = HashedFile::new(&path, file);
            out.write(&encode(&self.descriptors))?;
            let start = out.size;
            let mut buffer = Vec::new();
            for (descriptor, (origin, tensor)) in self.descriptors.iter().zip(&self.tensors) {
                out.pad_to(start + descriptor.offsets.0)?;
                let elements = CHUNK / tensor.dtype.size();
                for (k, chunk) in tensor.bytes.chunks(CHUNK).enumerate() {
                    let (from, to) = (tensor.dtype, descriptor.dtype);
                    let bytes = element::cast_chunk(chunk, from, to, &mut buffer);
                    if let Some((index, found)) = element::overflow(chunk, from, bytes, to) {
                        return Err(RecordError::Overflow {
                            file: origin.to_path_buf(),
                            tensor: descriptor.name.clone(),
                            dtype: StoredDtype::of(to),
                            found,
                            element: (k * elements + index) as u64,
                        });
                    }
                    out.write(bytes)?;
                    on_bytes(bytes.len() as u64)?;
                }
            }
            Ok(out.receipt(&self.file, &self.receipt))
        })
    }
}

/// A file, its size and its hash so far.
struct HashedFile<'a> {
    path: &'a Path,
    file: &'a mut File,
    hasher: blake3::Hasher,
    size: u64,
}

impl<'a> HashedFile<'a> {
    fn new(path: &'a Path, file: &'a mut File) -> Self {
        Self {
            path,
            file,
            hasher: blake3::Hasher::new(),
            size: 0,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), RecordError> {
        let io = RecordError::io(self.path);
        self.file.write_all(bytes).map_err(io)?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    fn pad_to(&mut self, offset: u64) -> Result<(), RecordError> {
        let padding = offset.saturating_sub(self.size) as usize;
        self.write(&vec![0; padding])
    }

    fn receipt(&self, file: &str, tensors: &[TensorReceipt]) -> PartReceipt {
        PartReceipt {
            file: file.to_owned(),
            size: self.size,
            blake3: self.hasher.finalize().to_hex().to_string(),
            tensors: tensors.to_vec(),
        }
    }
}
