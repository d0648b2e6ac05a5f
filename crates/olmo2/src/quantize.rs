//! Floats to quantised blocks: which matrices, and how, a few rows at a time.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use half::f16;
use olmo2_kernels::pool;
use olmo2_kernels::quant::{BLOCK, blocks, q4_top, quantise_q4, quantise_q8};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Olmo2Config;
use crate::layout::{EMBEDDING, HEAD};
use crate::packed::{Packed, QuantFormat};
use crate::weights::{StoredTensor, element};

/// Weights that are quantised at a time: 4 MB of f32.
const CHUNK: usize = 1 << 20;

/// Which matrices are quantised; `None` leaves floats. Norms and biases always stay floats.
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

    /// Whether nothing is quantised.
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

    /// The format for a tensor of the [layout](crate::layout).
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

/// Why weights cannot be quantised.
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

impl QuantizeError {
    /// One sentence on what to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::OutOfRange { .. } => "the checkpoint is damaged, or was trained to such numbers",
            Self::Already { .. } => {
                "the weights are quantised already: leave `--quantize` out, or start from the \
                 checkpoint's floats"
            }
        }
        .into()
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

    fn out_of_range(&self, format: QuantFormat, (element, found): (usize, f32)) -> QuantizeError {
        QuantizeError::OutOfRange {
            file: self.file.to_owned(),
            tensor: self.name.to_owned(),
            format,
            found,
            element: element as u64,
        }
    }
}

/// Quantises a whole matrix into memory.
pub(crate) fn pack(matrix: FloatMatrix<'_>, format: QuantFormat) -> Result<Packed, QuantizeError> {
    let pieces = format.pieces(matrix.shape());
    let mut quants = Vec::with_capacity(pieces[0].len() as usize);
    let rest = stream(matrix, format, |bytes| {
        quants.extend_from_slice(bytes);
        Ok::<_, QuantizeError>(())
    })?;
    let arrays = std::iter::once(quants).chain(rest).map(Into::into);
    let packed = Packed::new(format, matrix.shape(), arrays.collect());
    Ok(packed.expect("the quantiser writes what the format says"))
}

/// Quantises a matrix some rows at a time: hands the first array, the quants, to `on_quants` as it
/// comes, and returns the others, which are a sixteenth of its elements or less.
///
/// Rows do not depend on each other, so the bytes are the same for any number of threads.
pub(crate) fn stream<E: From<QuantizeError>>(
    matrix: FloatMatrix<'_>,
    format: QuantFormat,
    mut on_quants: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<Vec<Vec<u8>>, E> {
    let [out, input] = matrix.shape();
    let row = Row::new(format, input);
    let top = match format {
        QuantFormat::Q8 => 0.0,
        QuantFormat::Q4 => q4_top(largest(matrix)?),
    };
    let mut scales = vec![0; out * row.scales];
    let mut selectors = vec![0; out * row.selectors];
    let rows = (CHUNK / input.max(1)).max(1);
    let mut quants = vec![0; rows.min(out) * row.quants];
    for first in (0..out).step_by(rows) {
        let count = rows.min(out - first);
        let quants = &mut quants[..count * row.quants];
        let chunk = Chunk {
            first,
            count,
            quants,
            scales: &mut scales[first * row.scales..][..count * row.scales],
            selectors: &mut selectors[first * row.selectors..][..count * row.selectors],
        };
        chunk.quantise(matrix, &row, top)?;
        on_quants(quants)?;
    }
    Ok(match format {
        QuantFormat::Q8 => vec![scales],
        QuantFormat::Q4 => vec![scales, selectors, top.to_le_bytes().to_vec()],
    })
}

/// Bytes of one row in each array.
struct Row {
    format: QuantFormat,
    quants: usize,
    scales: usize,
    selectors: usize,
}

impl Row {
    fn new(format: QuantFormat, input: usize) -> Self {
        let blocks = blocks(input);
        let (quants, scales, selectors) = match format {
            QuantFormat::Q8 => (blocks * BLOCK, blocks * size_of::<f16>(), 0),
            QuantFormat::Q4 => (blocks * BLOCK / 2, blocks, blocks),
        };
        Self {
            format,
            quants,
            scales,
            selectors,
        }
    }
}

/// Rows of a matrix, and where their blocks go.
struct Chunk<'a> {
    first: usize,
    count: usize,
    quants: &'a mut [u8],
    scales: &'a mut [u8],
    selectors: &'a mut [u8],
}

impl Chunk<'_> {
    /// Quantises the rows on all threads.
    fn quantise(self, matrix: FloatMatrix<'_>, row: &Row, top: f32) -> Result<(), QuantizeError> {
        let parts = pool::threads().min(self.count).max(1);
        let share = self.count.div_ceil(parts);
        let mut selectors = self.selectors.chunks_mut((share * row.selectors).max(1));
        let jobs: Vec<_> = self
            .quants
            .chunks_mut(share * row.quants)
            .zip(self.scales.chunks_mut(share * row.scales))
            .enumerate()
            .map(|(i, (quants, scales))| {
                let (count, selectors) = (quants.len() / row.quants, selectors.next());
                Mutex::new(Chunk {
                    first: self.first + i * share,
                    count,
                    quants,
                    scales,
                    selectors: selectors.unwrap_or_default(),
                })
            })
            .collect();
        let fault = Fault::default();
        pool::run(jobs.len(), |i| {
            // Each part takes its own lock, once.
            if let Ok(mut job) = jobs[i].lock() {
                fault.note(job.quantise_here(matrix.tensor, row, top));
            }
        });
        fault.first(|found| matrix.out_of_range(row.format, found))
    }

    /// Quantises the rows on this thread; returns the first number that is out of range.
    fn quantise_here(
        &mut self,
        tensor: &StoredTensor,
        row: &Row,
        top: f32,
    ) -> Option<(usize, f32)> {
        let input = tensor.shape[1];
        let mut rows = vec![0.0; self.count * input];
        element::widen(
            elements(tensor, self.first * input, rows.len()),
            tensor.dtype,
            &mut rows,
        );
        if let Some(at) = out_of_range(&rows, row.format) {
            return Some((self.first * input + at, rows[at]));
        }
        match row.format {
            QuantFormat::Q8 => {
                let mut scales = vec![f16::ZERO; self.scales.len() / 2];
                quantise_q8(
                    &rows,
                    input,
                    bytemuck::cast_slice_mut(self.quants),
                    &mut scales,
                );
                self.scales.copy_from_slice(bytemuck::cast_slice(&scales));
            }
            QuantFormat::Q4 => {
                quantise_q4(&rows, input, top, self.quants, self.scales, self.selectors);
            }
        }
        None
    }
}

/// The largest magnitude of a matrix, which 4-bit scales count down from.
fn largest(matrix: FloatMatrix<'_>) -> Result<f32, QuantizeError> {
    let tensor = matrix.tensor;
    let count = tensor.bytes.len() / tensor.dtype.size();
    let parts = pool::threads().min(count.div_ceil(CHUNK)).max(1);
    let share = count.div_ceil(parts).max(1);
    let (fault, largest) = (Fault::default(), Mutex::new(0.0_f32));
    pool::run(parts, |part| {
        let (end, mut of_part) = (count.min((part + 1) * share), 0.0_f32);
        let mut buffer = vec![0.0; 4096];
        for first in (part * share..end).step_by(buffer.len()) {
            let values = &mut buffer[..4096.min(end - first)];
            element::widen(elements(tensor, first, values.len()), tensor.dtype, values);
            if let Some(at) = out_of_range(values, QuantFormat::Q4) {
                return fault.note(Some((first + at, values[at])));
            }
            of_part = values.iter().fold(of_part, |most, x| most.max(x.abs()));
        }
        if let Ok(mut largest) = largest.lock() {
            *largest = largest.max(of_part);
        }
    });
    fault.first(|found| matrix.out_of_range(QuantFormat::Q4, found))?;
    Ok(largest.into_inner().unwrap_or_default())
}

/// The bytes of some elements.
fn elements(tensor: &StoredTensor, first: usize, count: usize) -> &[u8] {
    let size = tensor.dtype.size();
    &tensor.bytes[first * size..][..count * size]
}

fn out_of_range(values: &[f32], format: QuantFormat) -> Option<usize> {
    let largest = format.largest();
    // Written so that it holds for what is not a number.
    let is_within = |x: &f32| x.abs() <= largest;
    match values.iter().all(is_within) {
        true => None,
        false => values.iter().position(|x| !is_within(x)),
    }
}

/// The first number out of range that any thread found.
#[derive(Default)]
struct Fault(Mutex<Option<(usize, f32)>>);

impl Fault {
    fn note(&self, found: Option<(usize, f32)>) {
        if let (Some(new), Ok(mut held)) = (found, self.0.lock())
            && held.is_none_or(|(element, _)| new.0 < element)
        {
            *held = Some(new);
        }
    }

    fn first<E>(self, error: impl FnOnce((usize, f32)) -> E) -> Result<(), E> {
        match self.0.into_inner() {
            Ok(Some(found)) => Err(error(found)),
            _ => Ok(()),
        }
    }
}
