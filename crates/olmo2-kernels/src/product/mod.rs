//! Matmuls of activations with weights as the file stores them: `[out, in]`, row-major, in f32,
//! bf16, f16 or quantized blocks, never widened in memory.
//!
//! Up to [`DECODE_ROWS`] rows of activations go through one family of kernels (`decode`). It adds
//! up each output in one order, so that a row has the same bits alone and in a batch, with any
//! number of threads. More rows go through another family (`prefill`), with the same guarantee
//! among its own row counts. The last bits differ between the two families and between levels.
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

use crate::buffer::{Scratch, SharedMut, Unwritten, with_scratch};
use crate::q4_scales::Q4Scales;
use crate::quant::{BLOCK, Q4, Q8, blocks};
use crate::{level, pool, simd};
use half::{bf16, f16};
use std::cell::RefCell;

pub use gated::matmul_gated;

/// Matmuls of up to this many rows of activations use the decode kernels.
pub const DECODE_ROWS: usize = 16;

/// Rows of activations that a prefill packs at a time.
const PACKED_ROWS: usize = 512;
/// The longest vector of any level: packed rows of activations are padded to it.
const MAX_LANES: usize = 16;

/// Multiplications below which a second thread costs more than it saves.
const WORK_PER_THREAD: usize = 200_000;

thread_local! {
    static ROUNDED: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
}

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
    /// Rows of the matrix if it has `in_features` columns; `None` if the lengths do not fit that.
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

    /// Writes one row of the matrix to `out` in f32; `out` is `in_features` long.
    ///
    /// # Panics
    /// The matrix has no such row.
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
}

/// The type that activations are rounded to before they are multiplied with a float weight.
///
/// With quantized weights, activations are always quantized to 8 bits: blocks of 32 along `in`,
/// each scaled by its largest magnitude over 127.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activations {
    /// No rounding: products and sums in f32.
    #[default]
    F32,
    /// bfloat16, with sums in f32.
    Bf16,
}

/// A linear layer's parameters.
#[derive(Clone, Copy, Debug)]
pub struct WeightRef<'a> {
    /// The matrix `[out, in]`; its length determines `out`.
    pub data: WeightData<'a>,
    /// Added to each row of outputs: `[out]`.
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

/// Multiplies one input by several weights in one parallel region, and returns an output for each:
/// `x weights[i]^T + bias`, `[rows, out_i]`, with `x` `[rows, in_features]`, all row-major.
///
/// The error of an output is at most `(in_features / 4 + 4) * f32::EPSILON` times the sum of its
/// terms' magnitudes for up to [`DECODE_ROWS`] rows, and `in_features * f32::EPSILON` times that
/// sum for more; on random data it is below `sqrt(in_features) / 2 + 2` epsilons. The terms are
/// those of the rounded activations. Rounding to bf16 changes each activation by at most 2^-9 of
/// itself; quantizing to 8 bits changes it by at most 1/254 of the largest in its block of 32.
///
/// # Panics
/// `in_features` is 0, or a length does not fit the others.
pub fn matmul<const N: usize>(
    x: &[f32],
    in_features: usize,
    activations: Activations,
    weights: &[WeightRef<'_>; N],
) -> [Vec<f32>; N] {
    let rows = rows_of(x, in_features);
    let mut outputs = weights
        .each_ref()
        .map(|weight| Unwritten::new(rows * out_features(weight, in_features)));
    let shared = outputs.each_mut().map(Unwritten::shared);
    let matmul = |i: usize| Matmul::new(&weights[i], in_features, shared[i]);
    let matmuls: [_; N] = std::array::from_fn(matmul);
    multiply(x, in_features, activations, matmuls, false);
    // SAFETY: the kernels write every element of all outputs.
    outputs.map(|output| unsafe { output.written() })
}

/// Computes the matmuls; if they are `gated`, as [`jobs`] says.
fn multiply<const N: usize>(
    x: &[f32],
    in_features: usize,
    activations: Activations,
    mut matmuls: [Matmul<'_>; N],
    gated: bool,
) {
    let rows = x.len() / in_features;
    // Both write one output, which only a prefill keeps apart.
    assert!(!gated || rows > DECODE_ROWS, "a gated matmul of few rows");
    let out: usize = matmuls.iter().map(|matmul| matmul.out_features).sum();
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
    // A stable sort: a gate stays in front of the weight that it gates.
    matmuls.sort_by_key(Matmul::is_quantized);
    let floats = matmuls.iter().filter(|matmul| !matmul.is_quantized());
    let (floats, quantized) = matmuls.split_at(floats.count());
    if !quantized.is_empty() {
        int8::matmul(&input, quantized);
    }
    if !floats.is_empty() {
        match activations {
            Activations::F32 => matmul_floats(&input, floats),
            Activations::Bf16 => matmul_rounded(&input, floats),
        }
    }
}

fn matmul_floats(input: &Input<'_>, matmuls: &[Matmul<'_>]) {
    if input.rows <= DECODE_ROWS {
        decode::matmul(input, matmuls);
    } else {
        prefill::matmul(input, matmuls);
    }
}

/// Rounds activations to bf16. For bf16 weights the kernels use the CPU's bf16 dot instruction, if
/// it has one; otherwise they compute in f32.
fn matmul_rounded(input: &Input<'_>, matmuls: &[Matmul<'_>]) {
    let is_bf16 = |matmul: &Matmul<'_>| matches!(matmul.data, WeightData::Bf16(_));
    if simd::has_bf16_dot(input.level) && matmuls.iter().all(is_bf16) {
        return pairs::matmul(input, matmuls);
    }
    with_scratch(&ROUNDED, input.x.len(), |rounded| {
        for (to, &x) in rounded.iter_mut().zip(input.x) {
            *to = bf16::from_f32(x).to_f32();
        }
        let x = &*rounded;
        matmul_floats(&Input { x, ..*input }, matmuls);
    });
}

/// The part of a call that all its matmuls share.
struct Input<'a> {
    x: &'a [f32],
    rows: usize,
    in_features: usize,
    level: level::Level,
    parts: usize,
    /// Whether the matmuls are those of a gate and of the weight that it gates; only in prefills,
    /// and with weights of one format.
    gated: bool,
}

/// The work items of a prefill: each weight on its own, or, if gated, `up` with `gate`, written to
/// `up`'s output.
fn jobs<'a>(
    input: &Input<'_>,
    matmuls: &'a [Matmul<'a>],
) -> Vec<(&'a Matmul<'a>, Option<&'a Matmul<'a>>)> {
    match matmuls {
        [gate, up] if input.gated => vec![(up, Some(gate))],
        _ => {
            assert!(!input.gated, "a gate has one matmul, in its own format");
            matmuls.iter().map(|matmul| (matmul, None)).collect()
        }
    }
}

/// One weight with its output.
struct Matmul<'a> {
    data: WeightData<'a>,
    /// The scales of a weight in 4 bits.
    q4_scales: Option<Q4Scales>,
    bias: Option<&'a [f32]>,
    out_features: usize,
    out: SharedMut<'a>,
}

impl<'a> Matmul<'a> {
    /// # Panics
    /// A length does not fit `in_features`.
    fn new(weight: &WeightRef<'a>, in_features: usize, out: SharedMut<'a>) -> Self {
        let &WeightRef { data, bias } = weight;
        let out_features = out_features(weight, in_features);
        if let Some(bias) = bias {
            assert_eq!(bias.len(), out_features, "a bias's length is not out");
        }
        let q4_scales = match data {
            WeightData::Q4(q4) => Some(Q4Scales::new(q4.max_scale)),
            _ => None,
        };
        Self {
            data,
            q4_scales,
            bias,
            out_features,
            out,
        }
    }

    fn is_quantized(&self) -> bool {
        matches!(self.data, WeightData::Q8(_) | WeightData::Q4(_))
    }

    /// The number of groups of up to four features.
    fn groups(&self) -> usize {
        self.out_features.div_ceil(4)
    }

    /// The features of a group and their number: one from each of four far-apart quarters, so that
    /// a thread that takes groups in order reads four long streams.
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

    /// As [`far_group`](Self::far_group), of adjacent features.
    #[inline(always)]
    fn near_group(&self, group: usize) -> ([usize; 4], usize) {
        let first = 4 * group;
        let features = [first, first + 1, first + 2, first + 3];
        (features, (self.out_features - first).min(4))
    }

    /// Adds the bias to a sum and writes it. Each feature belongs to one work item, and so to one
    /// thread.
    #[inline(always)]
    fn set(&self, row: usize, feature: usize, sum: f32) {
        let sum = self.bias.map_or(sum, |bias| sum + bias[feature]);
        let at = self.out.at(row * self.out_features + feature, 1);
        // SAFETY: inside the output, and no other thread writes it.
        unsafe { *at = sum };
    }
}

/// The rows of `x`.
///
/// # Panics
/// `in_features` is 0, or `x` is not a whole number of rows.
fn rows_of(x: &[f32], in_features: usize) -> usize {
    assert_ne!(in_features, 0, "`in_features` is 0");
    assert_eq!(
        x.len() % in_features,
        0,
        "`x` is not a whole number of rows"
    );
    x.len() / in_features
}

/// # Panics
/// The weight is not a whole number of rows.
fn out_features(weight: &WeightRef<'_>, in_features: usize) -> usize {
    match weight.data.out_features(in_features) {
        Some(out_features) => out_features,
        None => panic!("a weight is not a whole number of rows of {in_features}"),
    }
}
