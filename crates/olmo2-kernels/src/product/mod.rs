//! Products of activations with weights that stay as they lie in the file: `[out, in]`,
//! row-major, f32, bf16, f16 or in quantized blocks, never widened in memory.
//!
//! Up to [`DECODE_ROWS`] rows of activations go through one family of kernels (`decode`)
//! that adds up each output in one order, so that a row alone and the same row in a batch give
//! the same bits, with any number of threads. More rows go through another (`prefill`), where
//! the same holds among them. Between the two, and between levels, the last bits differ.
#![allow(
    unsafe_code,
    reason = "vector loads and stores; threads write disjoint outputs, and all of them"
)]

mod decode;
mod element;
mod finish;
mod gated;
mod int8;
mod next_panel;
mod pairs;
mod pieces;
mod prefill;
#[cfg(test)]
pub(crate) mod tests;

use crate::buffer::SharedMut;
use crate::quant::{BLOCK, Q4, Q8, blocks};
use crate::{level, pool, simd};
use half::{bf16, f16};

pub use gated::project_gated;
pub(crate) use gated::project_gated_to;

/// Most rows of activations that are treated as a decoding step.
pub const DECODE_ROWS: usize = 16;

/// Rows of activations that a prefill packs at a time.
const PACKED_ROWS: usize = 512;
/// The longest vector: what rows of activations are padded to.
const MOST_LANES: usize = 16;

/// Multiplications below which a second thread costs more than it saves.
const WORK_PER_THREAD: usize = 200_000;

/// The elements of a weight matrix, row-major `[out, in]`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum WeightData<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// bfloat16.
    Bf16(&'a [bf16]),
    /// IEEE 16-bit floats.
    F16(&'a [f16]),
    /// 8-bit blocks.
    Q8(Q8<'a>),
    /// 4-bit blocks.
    Q4(Q4<'a>),
}

impl WeightData<'_> {
    /// Rows of a matrix of `in_features` columns; `None` if the lengths are not those of one.
    pub fn out_features(&self, in_features: usize) -> Option<usize> {
        if in_features == 0 {
            return None;
        }
        let rows = |len: usize, row: usize| len.is_multiple_of(row).then_some(len / row);
        let blocks = blocks(in_features);
        match self {
            Self::F32(data) => rows(data.len(), in_features),
            Self::Bf16(data) => rows(data.len(), in_features),
            Self::F16(data) => rows(data.len(), in_features),
            Self::Q8(q8) => {
                rows(q8.quants.len(), blocks * BLOCK).filter(|out| q8.scales.len() == out * blocks)
            }
            Self::Q4(q4) => rows(q4.quants.len(), blocks * BLOCK / 2).filter(|out| {
                q4.scales.len() == out * blocks && q4.selectors.len() == out * blocks
            }),
        }
    }

    /// One row of the matrix, in f32, as long as `out`.
    ///
    /// # Panics
    /// There is no such row.
    pub fn row(&self, index: usize, out: &mut [f32]) {
        let range = index * out.len()..(index + 1) * out.len();
        let out_and = |widen: &mut dyn FnMut(usize) -> f32, out: &mut [f32]| {
            out.iter_mut()
                .enumerate()
                .for_each(|(i, out)| *out = widen(i));
        };
        match self {
            Self::F32(data) => out.copy_from_slice(&data[range]),
            Self::Bf16(data) => out_and(&mut |i| data[range.start + i].to_f32(), out),
            Self::F16(data) => out_and(&mut |i| data[range.start + i].to_f32(), out),
            Self::Q8(q8) => q8.row(index, out),
            Self::Q4(q4) => q4.row(index, out),
        }
    }

    fn is_quantized(&self) -> bool {
        matches!(self, Self::Q8(_) | Self::Q4(_))
    }
}

/// What activations are rounded to before they meet a float weight.
///
/// Quantized weights always meet activations in 8 bits: blocks of 32 along `in`, scaled by their
/// largest magnitude over 127.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activations {
    /// Nothing: products and sums in f32.
    #[default]
    F32,
    /// bfloat16, with sums in f32.
    Bf16,
}

/// A linear layer's parameters.
#[derive(Clone, Copy, Debug)]
pub struct WeightRef<'a> {
    /// The matrix `[out, in]`; `out` follows from its length.
    pub data: WeightData<'a>,
    /// Added to each row of outputs, `[out]`.
    pub bias: Option<&'a [f32]>,
}

impl<'a> WeightRef<'a> {
    /// A layer without a bias.
    pub fn new(data: WeightData<'a>) -> Self {
        Self { data, bias: None }
    }

    /// The same with a bias `[out]`.
    pub fn with_bias(self, bias: &'a [f32]) -> Self {
        Self {
            bias: Some(bias),
            ..self
        }
    }
}

/// Multiplies one input by several weights in one parallel region:
/// `outputs[i] = x weights[i]^T + bias`, with `x` `[rows, in_features]` and `outputs[i]`
/// `[rows, out_i]`, all row-major.
///
/// The error of an output is at most `(in_features / 4 + 4) * f32::EPSILON` times the sum of
/// its terms' magnitudes for up to [`DECODE_ROWS`] rows, `in_features * f32::EPSILON` times for
/// more; on random data it is below `sqrt(in_features) / 2 + 2` epsilons. Terms are those of the
/// rounded activations: rounding itself is within 2^-9 of each where they are bf16, and within
/// 1/254 of the largest of its block of 32 where the weight is quantized.
///
/// # Panics
/// `in_features` is 0, or a length does not fit the others.
pub fn project(
    x: &[f32],
    in_features: usize,
    activations: Activations,
    weights: &[WeightRef<'_>],
    outputs: &mut [&mut [f32]],
) {
    let outputs = outputs.iter_mut().map(|out| SharedMut::new(out)).collect();
    project_to(x, in_features, activations, weights, outputs);
}

pub(crate) fn project_to(
    x: &[f32],
    in_features: usize,
    activations: Activations,
    weights: &[WeightRef<'_>],
    outputs: Vec<SharedMut<'_>>,
) {
    let products = check(x, in_features, weights, outputs);
    multiply(x, in_features, activations, products, false);
}

/// Does the products; if they are `gated`, as [`jobs`] says.
fn multiply(
    x: &[f32],
    in_features: usize,
    activations: Activations,
    products: Vec<Product<'_>>,
    gated: bool,
) {
    let rows = x.len() / in_features;
    // Both write one output, which only a prefill keeps apart.
    assert!(!gated || rows > DECODE_ROWS, "a gated product of few rows");
    let out: usize = products.iter().map(|product| product.out_features).sum();
    let work = out * in_features * rows;
    if work == 0 {
        return;
    }
    let parts = pool::threads().min(work.div_ceil(WORK_PER_THREAD));
    let input = Input {
        x,
        rows,
        in_features,
        level: level::level(),
        parts,
        gated,
    };
    let (quantized, floats): (Vec<_>, Vec<_>) = products
        .into_iter()
        .partition(|product| product.data.is_quantized());
    if !quantized.is_empty() {
        int8::project(&input, &quantized);
    }
    if !floats.is_empty() {
        match activations {
            Activations::F32 => project_floats(&input, &floats),
            Activations::Bf16 => project_rounded(&input, &floats),
        }
    }
}

fn project_floats(input: &Input<'_>, products: &[Product<'_>]) {
    if input.rows <= DECODE_ROWS {
        decode::project(input, products);
    } else {
        prefill::project(input, products);
    }
}

/// Products of activations that are rounded to bf16: with bf16 weights by the instruction for
/// that, where there is one, and as f32 otherwise.
fn project_rounded(input: &Input<'_>, products: &[Product<'_>]) {
    let is_bf16 = |product: &Product<'_>| matches!(product.data, WeightData::Bf16(_));
    if simd::has_pairs(input.level) && products.iter().all(is_bf16) {
        return pairs::project(input, products);
    }
    let rounded: Vec<f32> = input
        .x
        .iter()
        .map(|&x| bf16::from_f32(x).to_f32())
        .collect();
    project_floats(
        &Input {
            x: &rounded,
            ..*input
        },
        products,
    );
}

/// What all products of a call share.
struct Input<'a> {
    x: &'a [f32],
    rows: usize,
    in_features: usize,
    level: level::Level,
    parts: usize,
    /// Whether the products are a gate's, then that of what it is multiplied with; only in prefills,
    /// and with weights of one format.
    gated: bool,
}

/// What the pieces of a prefill are of: each product alone, or the second with the first as its
/// gate, to the output of the second.
fn jobs<'a, P>(input: &Input<'_>, products: &'a [P]) -> Vec<(&'a P, Option<&'a P>)> {
    match products {
        [gate, up] if input.gated => vec![(up, Some(gate))],
        _ => {
            assert!(!input.gated, "a gate has one product, in its own format");
            products.iter().map(|product| (product, None)).collect()
        }
    }
}

/// One weight with its output.
struct Product<'a> {
    data: WeightData<'a>,
    bias: Option<&'a [f32]>,
    out_features: usize,
    out: SharedMut<'a>,
}

impl Product<'_> {
    /// How many groups of up to four features there are.
    fn groups(&self) -> usize {
        self.out_features.div_ceil(4)
    }

    /// The features of a group, as many as the second says: from four far-apart quarters of all, so
    /// that a thread that does some groups in order reads four long streams.
    #[inline(always)]
    fn far_group(&self, group: usize) -> ([usize; 4], usize) {
        let mut features = [group; 4];
        let mut count = 1;
        for i in 1..4 {
            features[i] += i * self.groups();
            count += usize::from(features[i] < self.out_features);
        }
        (features, count)
    }

    /// The same of adjacent features.
    #[inline(always)]
    fn near_group(&self, group: usize) -> ([usize; 4], usize) {
        let first = 4 * group;
        let features = [first, first + 1, first + 2, first + 3];
        (features, (self.out_features - first).min(4))
    }

    /// Writes an output. A feature is in one piece or share, which one thread takes.
    #[inline(always)]
    fn set(&self, row: usize, feature: usize, sum: f32) {
        let sum = self.bias.map_or(sum, |bias| sum + bias[feature]);
        let at = self.out.at(row * self.out_features + feature, 1);
        // SAFETY: inside the output, and no other thread's.
        unsafe { *at = sum };
    }
}

fn check<'a>(
    x: &[f32],
    in_features: usize,
    weights: &[WeightRef<'a>],
    outputs: Vec<SharedMut<'a>>,
) -> Vec<Product<'a>> {
    assert_ne!(in_features, 0, "`in_features` is 0");
    assert_eq!(
        x.len() % in_features,
        0,
        "`x` is not a whole number of rows"
    );
    assert_eq!(
        weights.len(),
        outputs.len(),
        "not one output for each weight"
    );
    let rows = x.len() / in_features;
    let pairs = weights.iter().zip(outputs);
    pairs
        .map(|(&WeightRef { data, bias }, out)| {
            let Some(out_features) = data.out_features(in_features) else {
                panic!("a weight is not a whole number of rows of {in_features}");
            };
            assert_eq!(
                out.len(),
                rows * out_features,
                "an output's length is not rows * out"
            );
            if let Some(bias) = bias {
                assert_eq!(bias.len(), out_features, "a bias's length is not out");
            }
            Product {
                data,
                bias,
                out_features,
                out,
            }
        })
        .collect()
}
