//! Writes one part: planned from the layout, then streamed to its file and hashed on the way.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use burn::tensor::DType;

use super::atomic;
use super::burnpack::{Descriptor, align, encode};
use super::error::RecordError;
use super::receipt::{Formats, PartReceipt, TensorReceipt};
use crate::quantize::{FloatMatrix, QuantizeError, stream};
use crate::storage::blocks::ArraySpec;
use crate::storage::{QuantFormat, StoredDtype, StoredFormat, element};
use crate::weights::layout::Part;
use crate::weights::{StoredWeight, Weights};

/// Bytes of the source that are cast, hashed and written at a time.
const CHUNK: usize = 1 << 20;

/// The content of a part's file.
pub(super) struct PartPlan<'a> {
    pub(super) file: String,
    pub(super) receipt: Vec<TensorReceipt>,
    tensors: Vec<PlannedTensor<'a>>,
}

/// A tensor of the source, and the arrays to write.
struct PlannedTensor<'a> {
    source: FloatMatrix<'a>,
    format: Option<QuantFormat>,
    arrays: Vec<Descriptor>,
}

impl<'a> PartPlan<'a> {
    /// Places the tensors one after another, in the requested formats.
    ///
    /// # Errors
    /// The source is quantized.
    pub(super) fn new(
        part: &Part,
        weights: &'a Weights,
        formats: &Formats,
    ) -> Result<Self, QuantizeError> {
        let mut plan = Self {
            file: part.file_name(),
            receipt: Vec::new(),
            tensors: Vec::new(),
        };
        let mut at = 0;
        for spec in &part.tensors {
            // A set of weights is complete by construction.
            let Some((name, file, weight)) = weights.entry(&spec.name) else {
                continue;
            };
            let tensor = match weight {
                StoredWeight::Float(tensor) => tensor,
                StoredWeight::Packed(packed) => {
                    return Err(QuantizeError::Already {
                        file: file.to_owned(),
                        tensor: spec.name.clone(),
                        expected: "floats".into(),
                        found: packed.format(),
                    });
                }
            };
            let format = formats.quantize.format_of(&spec.name, &spec.shape);
            let dtype = formats.dtype.map_or(tensor.dtype, Into::into);
            let source_file = file.file_name().unwrap_or(file.as_os_str());
            plan.receipt.push(TensorReceipt {
                name: spec.name.clone(),
                dtype: format.map_or(StoredFormat::of(dtype), Into::into),
                source_file: source_file.to_string_lossy().into_owned(),
                source_dtype: StoredDtype::of(tensor.dtype),
            });
            let source = FloatMatrix { name, file, tensor };
            let arrays = place(&source, format, dtype, &mut at);
            plan.tensors.push(PlannedTensor {
                source,
                format,
                arrays,
            });
        }
        Ok(plan)
    }

    /// Bytes of the tensors, padding included.
    pub(super) fn bytes(&self) -> u64 {
        self.arrays().last().map_or(0, |last| last.offsets.1)
    }

    fn arrays(&self) -> impl Iterator<Item = &Descriptor> {
        self.tensors.iter().flat_map(|planned| &planned.arrays)
    }

    /// Writes the part to a folder; `on_bytes` may stop with an error.
    pub(super) fn write(
        &self,
        folder: &Path,
        mut on_bytes: impl FnMut(u64) -> Result<(), RecordError>,
    ) -> Result<PartReceipt, RecordError> {
        let path = folder.join(&self.file);
        atomic::write(&path, |file| {
            let mut out = HashedFile::new(&path, file);
            let arrays: Vec<Descriptor> = self.arrays().cloned().collect();
            out.write(&encode(&arrays))?;
            let start = out.size;
            for planned in &self.tensors {
                match planned.format {
                    None => planned.write_floats(&mut out, start, &mut on_bytes)?,
                    Some(format) => {
                        planned.write_blocks(format, &mut out, start, &mut on_bytes)?;
                    }
                }
            }
            Ok(out.receipt(&self.file, &self.receipt))
        })
    }
}

/// The arrays of one tensor, placed from `at` on, which moves to their end.
fn place(
    source: &FloatMatrix<'_>,
    format: Option<QuantFormat>,
    dtype: DType,
    at: &mut u64,
) -> Vec<Descriptor> {
    let mut put_at = |name: String, dtype: DType, shape: Vec<usize>, len: u64| {
        let start = align(*at);
        *at = start + len;
        Descriptor {
            name,
            dtype,
            shape,
            offsets: (start, *at),
        }
    };
    let tensor = source.tensor;
    let Some(format) = format else {
        let len = tensor.bytes.len() / tensor.dtype.size() * dtype.size();
        let (name, shape) = (source.name.to_owned(), tensor.shape.clone());
        return vec![put_at(name, dtype, shape, len as u64)];
    };
    let arrays = format.arrays(source.shape()).into_iter();
    let put = |array: ArraySpec| {
        let (name, len) = (format!("{}.{}", source.name, array.name), array.byte_len());
        put_at(name, array.dtype, array.shape, len)
    };
    arrays.map(put).collect()
}

impl PlannedTensor<'_> {
    fn write_floats(
        &self,
        out: &mut HashedFile<'_>,
        start: u64,
        on_bytes: &mut impl FnMut(u64) -> Result<(), RecordError>,
    ) -> Result<(), RecordError> {
        let (tensor, array) = (self.source.tensor, &self.arrays[0]);
        out.pad_to(start + array.offsets.0)?;
        let mut buffer = Vec::new();
        let elements = CHUNK / tensor.dtype.size();
        for (k, chunk) in tensor.bytes.chunks(CHUNK).enumerate() {
            let (from, to) = (tensor.dtype, array.dtype);
            let bytes = element::cast_chunk(chunk, from, to, &mut buffer);
            if let Some((index, found)) = element::overflow(chunk, from, bytes, to) {
                return Err(RecordError::Overflow {
                    file: self.source.file.to_path_buf(),
                    tensor: array.name.clone(),
                    dtype: StoredDtype::of(to),
                    found,
                    element: (k * elements + index) as u64,
                });
            }
            out.write(bytes)?;
            on_bytes(bytes.len() as u64)?;
        }
        Ok(())
    }

    fn write_blocks(
        &self,
        format: QuantFormat,
        out: &mut HashedFile<'_>,
        start: u64,
        on_bytes: &mut impl FnMut(u64) -> Result<(), RecordError>,
    ) -> Result<(), RecordError> {
        out.pad_to(start + self.arrays[0].offsets.0)?;
        let rest = stream(self.source, format, |quants| {
            out.write(quants)?;
            on_bytes(quants.len() as u64)
        })?;
        for (array, bytes) in self.arrays[1..].iter().zip(rest) {
            out.pad_to(start + array.offsets.0)?;
            out.write(&bytes)?;
            on_bytes(bytes.len() as u64)?;
        }
        Ok(())
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
