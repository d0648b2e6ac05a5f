//! Floats to quantized blocks: which matrices, and how, a few rows at a time.

use std::fmt;
use std::path::{Path, PathBuf};

use half::f16;
use olmo2_kernels::quant::{BLOCK, blocks, q4_top, quantize_q4, quantize_q8};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config::Olmo2Config;
use crate::hint::Hint;
use crate::storage::{Packed, QuantFormat, element};
use crate::weights::layout::{EMBEDDING, HEAD};
use crate::weights::{StoredTensor, StoredWeight, Weights};

/// Weights that are quantized at a time: 4 MB of f32.
const CHUNK: usize = 1 << 20;

/// Which matrices are quantized; `None` leaves floats. Norms and biases always stay floats.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantize {
    /// The projections of all layers.
    pub layers: Option<QuantFormat>,
    /// The language model head. Where it is tied to the embedding there is one matrix, and the
    /// embedding's choice holds.
    pub head: Option<QuantFormat>,
    /// The embedding.
    pub embedding: Option<QuantFormat>,
}

impl Quantize {
    /// Every matrix in one format, the head and the embedding too.
    pub fn all(format: QuantFormat) -> Self {
        Self {
            layers: Some(format),
            head: Some(format),
            embedding: Some(format),
        }
    }

    /// Whether nothing is quantized.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// What a user should know of this choice for a model.
    pub fn note(&self, config: &Olmo2Config) -> Option<String> {
        if !config.tie_word_embeddings || self.head == self.embedding {
            return None;
        }
        let name = self.embedding.map_or("floats", QuantFormat::name);
        Some(format!(
            "the head is the embedding (`tie_word_embeddings`): both are in {name}"
        ))
    }

    /// The format for a tensor of the [layout](crate::weights::layout).
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
pub enum QuantizeError {
    /// A number that is infinite, not a number, or too large for the format.
    #[error("`{file}`: tensor `{tensor}`: expected numbers within the range of {format}, found {found} at element {element}", file = file.display())]
    OutOfRange {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The format asked for.
        format: QuantFormat,
        /// The number.
        found: f32,
        /// Where it stands, row by row.
        element: u64,
    },
    /// Weights that have lost what a conversion would need.
    #[error("`{file}`: tensor `{tensor}`: expected {expected}, found {found}", file = file.display())]
    Already {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// What it would have to be.
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
    /// The same weights with some matrices quantized, one after another; what stays as it is
    /// shares its memory.
    ///
    /// # Errors
    /// A matrix that is quantized already, in another format than `quantize` asks for, or that
    /// holds numbers which cannot be.
    pub fn quantized(&self, quantize: &Quantize) -> Result<Self, QuantizeError> {
        self.try_replace(|name, file, weight| {
            let packed = quantized_as(name, file, weight, quantize)?;
            Ok(packed.map(StoredWeight::Packed))
        })
    }
}

/// The blocks that a weight is to be exchanged for; `None` where it stays as it is.
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

/// A float matrix with its name and the file that it comes from.
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
    let pieces = format.pieces(matrix.shape());
    let mut quants = Vec::with_capacity(pieces[0].len() as usize);
    let rest = stream(matrix, format, |bytes| {
        quants.extend_from_slice(bytes);
        Ok::<_, QuantizeError>(())
    })?;
    let arrays = std::iter::once(quants).chain(rest).map(Into::into);
    let packed = Packed::new(format, matrix.shape(), arrays.collect());
    Ok(packed.expect("the quantizer writes what the format says"))
}

/// Quantizes a matrix some rows at a time: hands the first array, the quants, to `on_quants` as it
/// comes, and returns the others, which are a sixteenth of its elements or less.
///
/// The quantizers split rows over the threads; the bytes are the same for any number of them.
pub(crate) fn stream<E: From<QuantizeError>>(
    matrix: FloatMatrix<'_>,
    format: QuantFormat,
    mut on_quants: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<Vec<Vec<u8>>, E> {
    let [out, input] = matrix.shape();
    let blocks = blocks(input);
    let rows = (CHUNK / input.max(1)).clamp(1, out.max(1));
    let mut floats = Floats {
        matrix,
        format,
        first: 0,
        buffer: vec![0.0; rows * input],
    };
    match format {
        QuantFormat::Q8 => {
            let mut quants = vec![0_i8; rows * blocks * BLOCK];
            let mut scales = vec![f16::ZERO; out * blocks];
            for scales in scales.chunks_mut(rows * blocks) {
                let quants = &mut quants[..scales.len() * BLOCK];
                let floats = floats.next(scales.len() / blocks * input)?;
                quantize_q8(floats, input, quants, scales);
                on_quants(bytemuck::cast_slice(quants))?;
            }
            Ok(vec![bytemuck::cast_slice(&scales).to_vec()])
        }
        QuantFormat::Q4 => {
            let top = q4_top(largest(matrix)?);
            let mut quants = vec![0; rows * blocks * BLOCK / 2];
            let mut scales = vec![0; out * blocks];
            let mut selectors = vec![0; out * blocks];
            let chunks = scales.chunks_mut(rows * blocks);
            for (scales, selectors) in chunks.zip(selectors.chunks_mut(rows * blocks)) {
                let quants = &mut quants[..scales.len() * BLOCK / 2];
                let floats = floats.next(scales.len() / blocks * input)?;
                quantize_q4(floats, input, top, quants, scales, selectors);
                on_quants(quants)?;
            }
            Ok(vec![scales, selectors, top.to_le_bytes().to_vec()])
        }
    }
}

/// The largest magnitude of a matrix, which 4-bit scales count down from.
fn largest(matrix: FloatMatrix<'_>) -> Result<f32, QuantizeError> {
    let mut floats = Floats {
        matrix,
        format: QuantFormat::Q4,
        first: 0,
        buffer: vec![0.0; 4096],
    };
    let (mut rest, mut largest) = (
        matrix.tensor.bytes.len() / matrix.tensor.dtype.size(),
        0.0_f32,
    );
    while rest > 0 {
        let count = rest.min(4096);
        let values = floats.next(count)?;
        largest = values.iter().fold(largest, |most, x| most.max(x.abs()));
        rest -= count;
    }
    Ok(largest)
}

/// The numbers of a matrix in f32, one run after another, each within the range of a format.
struct Floats<'a> {
    matrix: FloatMatrix<'a>,
    format: QuantFormat,
    /// The first element that was not yet handed out.
    first: usize,
    buffer: Vec<f32>,
}

impl Floats<'_> {
    /// The next `count` numbers, at most as many as the buffer holds.
    fn next(&mut self, count: usize) -> Result<&[f32], QuantizeError> {
        let (tensor, values) = (self.matrix.tensor, &mut self.buffer[..count]);
        let size = tensor.dtype.size();
        let bytes = &tensor.bytes[self.first * size..][..count * size];
        element::widen(bytes, tensor.dtype, values);
        let largest = self.format.largest();
        // Written so that it does not hold for what is not a number.
        let is_within = |x: &f32| x.abs() <= largest;
        if !values.iter().all(is_within) {
            let at = values.iter().position(|x| !is_within(x)).unwrap_or(0);
            return Err(QuantizeError::OutOfRange {
                file: self.matrix.file.to_owned(),
                tensor: self.matrix.name.to_owned(),
                format: self.format,
                found: values[at],
                element: (self.first + at) as u64,
            });
        }
        self.first += count;
        Ok(values)
    }
}
