//! Quantizes floats to blocks: which matrices, in which formats, some rows at a time.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config::Olmo2Config;
use crate::hint::Hint;
use crate::storage::{Packed, QuantFormat, element};
use crate::weights::layout::{EMBEDDING, HEAD};
use crate::weights::{StoredTensor, StoredWeight, Weights};

/// Weights quantized at a time: 4 MB of f32.
const CHUNK: usize = 1 << 20;

/// The format of each kind of matrix; `None` leaves it in floats. Norms and biases always stay
/// floats.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantize {
    /// The projections of all layers.
    pub layers: Option<QuantFormat>,
    /// The language model head. A tied head is the embedding, and has its format.
    pub head: Option<QuantFormat>,
    /// The embedding.
    pub embedding: Option<QuantFormat>,
}

impl Quantize {
    /// Every matrix in one format, head and embedding included.
    pub fn all(format: QuantFormat) -> Self {
        Self {
            layers: Some(format),
            head: Some(format),
            embedding: Some(format),
        }
    }

    /// Whether every matrix stays in floats.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// A note if this choice has no effect on a part of the model: a tied head has the format of
    /// the embedding.
    pub fn note(&self, config: &Olmo2Config) -> Option<String> {
        if !config.tie_word_embeddings || self.head == self.embedding {
            return None;
        }
        let name = self.embedding.map_or("floats", QuantFormat::name);
        Some(format!(
            "the head is the embedding (`tie_word_embeddings`): both are in {name}"
        ))
    }

    /// The format of a tensor of the [layout](crate::weights::layout), by its name and shape.
    pub fn format_of(&self, name: &str, shape: &[usize]) -> Option<QuantFormat> {
        match name {
            EMBEDDING => self.embedding,
            HEAD => self.head,
            _ if shape.len() == 2 => self.layers,
            _ => None,
        }
    }
}

impl fmt::Display for Quantize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |format: Option<QuantFormat>| format.map_or("none", QuantFormat::name);
        let [layers, head, embedding] = [self.layers, self.head, self.embedding].map(name);
        write!(f, "{layers}, head {head}, embedding {embedding}")
    }
}

/// Why weights cannot be quantized.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// A value that is infinite, NaN, or too large for the format.
    #[error("`{file}`: tensor `{tensor}`: expected values within the range of {format}, found {found} at element {element}", file = file.display())]
    OutOfRange {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The requested format.
        format: QuantFormat,
        /// The value.
        found: f32,
        /// Its index in row-major order.
        element: u64,
    },
    /// Weights that are quantized already, in another format than the requested one.
    #[error("`{file}`: tensor `{tensor}`: expected {expected}, found {found}", file = file.display())]
    Already {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The formats that would do.
        expected: String,
        /// The format that it is stored in.
        found: QuantFormat,
    },
}

impl Hint for QuantizeError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::OutOfRange { .. } => "the checkpoint is damaged, or was trained to such values",
            Self::Already { .. } => {
                "the weights are quantized already: take them as they are stored, or start from \
                 the checkpoint's floats"
            }
        };
        Some(hint.into())
    }
}

impl Weights {
    /// The same weights with some matrices quantized, one after another. Unchanged weights share
    /// memory with `self`.
    ///
    /// # Errors
    /// A matrix that is already quantized to another format than `quantize` gives it, or that has
    /// values beyond the range of its format.
    pub fn quantized(&self, quantize: &Quantize) -> Result<Self, QuantizeError> {
        self.try_replace(|name, file, weight| {
            let packed = quantized_as(name, file, weight, quantize)?;
            Ok(packed.map(StoredWeight::Packed))
        })
    }
}

/// The blocks that replace a weight; `None` if it stays.
fn quantized_as(
    name: &str,
    file: &Path,
    weight: &StoredWeight,
    quantize: &Quantize,
) -> Result<Option<Packed>, QuantizeError> {
    let wanted = quantize.format_of(name, weight.shape());
    match (weight, wanted) {
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

/// A float matrix with its name and file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FloatMatrix<'a> {
    pub(crate) name: &'a str,
    pub(crate) file: &'a Path,
    pub(crate) tensor: &'a StoredTensor,
}

impl FloatMatrix<'_> {
    /// `[out, in]`.
    pub(crate) fn shape(&self) -> [usize; 2] {
        let shape = &self.tensor.shape;
        [shape[0], shape[1]]
    }
}

/// Quantizes a whole matrix into memory.
pub(crate) fn pack(matrix: FloatMatrix<'_>, format: QuantFormat) -> Result<Packed, QuantizeError> {
    let specs = format.arrays(matrix.shape());
    let mut first = Vec::with_capacity(specs[0].byte_len() as usize);
    let rest = stream(matrix, format, |bytes| {
        first.extend_from_slice(bytes);
        Ok::<_, QuantizeError>(())
    })?;
    let arrays = std::iter::once(first).chain(rest).map(Into::into);
    let packed = Packed::new(format, matrix.shape(), arrays.collect());
    Ok(packed.expect("the quantizer writes what the format says"))
}

/// Quantizes a matrix some rows at a time: passes the first array to `on_first` as it comes, and
/// returns the others, which have a sixteenth as many bytes as the matrix has weights, or fewer.
///
/// The quantizers split rows over the threads; the bytes are the same for any number of threads.
pub(crate) fn stream<E: From<QuantizeError>>(
    matrix: FloatMatrix<'_>,
    format: QuantFormat,
    mut on_first: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<Vec<Vec<u8>>, E> {
    let [out, input] = matrix.shape();
    let rows = (CHUNK / input.max(1)).clamp(1, out.max(1));
    let max_abs = match format.needs_max_abs() {
        true => max_abs(matrix, format)?,
        false => 0.0,
    };
    let mut quantizer = format.quantizer(matrix.shape(), max_abs);
    let mut values = Values::new(matrix, format, rows * input);
    let mut left = out;
    while left > 0 {
        let rows = rows.min(left);
        on_first(quantizer.rows(values.next(rows * input)?))?;
        left -= rows;
    }
    Ok(quantizer.finish())
}

/// The largest magnitude of a matrix.
fn max_abs(matrix: FloatMatrix<'_>, format: QuantFormat) -> Result<f32, QuantizeError> {
    const COUNT: usize = 4096;
    let mut values = Values::new(matrix, format, COUNT);
    let mut left = matrix.tensor.bytes.len() / matrix.tensor.dtype.size();
    let mut max = 0.0_f32;
    while left > 0 {
        let count = left.min(COUNT);
        max = values
            .next(count)?
            .iter()
            .fold(max, |max, x| max.max(x.abs()));
        left -= count;
    }
    Ok(max)
}

/// Reads the values of a matrix in f32, in order, and checks that a format can store them.
struct Values<'a> {
    matrix: FloatMatrix<'a>,
    format: QuantFormat,
    /// Index of the next element.
    next: usize,
    buffer: Vec<f32>,
}

impl<'a> Values<'a> {
    /// Reads up to `max` values at a time.
    fn new(matrix: FloatMatrix<'a>, format: QuantFormat, max: usize) -> Self {
        Self {
            matrix,
            format,
            next: 0,
            buffer: vec![0.0; max],
        }
    }

    /// The next `count` values.
    fn next(&mut self, count: usize) -> Result<&[f32], QuantizeError> {
        let (tensor, values) = (self.matrix.tensor, &mut self.buffer[..count]);
        let size = tensor.dtype.size();
        let bytes = &tensor.bytes[self.next * size..][..count * size];
        element::widen(bytes, tensor.dtype, values);
        let max_abs = self.format.max_abs();
        // Written so that NaN is outside.
        let is_within = |x: &f32| x.abs() <= max_abs;
        if !values.iter().all(is_within) {
            let at = values.iter().position(|x| !is_within(x)).unwrap_or(0);
            return Err(QuantizeError::OutOfRange {
                file: self.matrix.file.to_owned(),
                tensor: self.matrix.name.to_owned(),
                format: self.format,
                found: values[at],
                element: (self.next + at) as u64,
            });
        }
        self.next += count;
        Ok(values)
    }
}
