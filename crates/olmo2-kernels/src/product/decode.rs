//! Few rows of activations: the time goes into reading the weights. Each thread reads four rows of
//! weights at once, from four far-apart quarters of the matrix. Each of them is one long sequential
//! stream for the CPU's prefetcher, and the four share the loads of activations.
//!
//! Lanes run along `in`: an output is `LANES` partial sums, each adding its terms in order, and
//! then the sum of these. The order does not depend on the tile's shape, the thread, or the batch.

use super::element::{WeightElement, elements};
use super::{Input, Matmul, WeightData, pieces};
use crate::buffer::{Scratch, with_scratch};
use crate::simd::{Kernel, Simd, dispatch};
use half::{bf16, f16};
use std::cell::RefCell;
use std::ops::Range;

/// The longest block of any level, `2 * LANES`.
const MAX_BLOCK: usize = 32;

/// Distance in bytes of the prefetches of each stream of weights. They go to the second-level
/// cache: in a small first level the four far streams fall on the same sets and evict activations.
const AHEAD: usize = 2048;

thread_local! {
    static PACKED: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
}

pub(super) fn matmul(input: &Input<'_>, matmuls: &[Matmul<'_>]) {
    let is_split = |matmul: &&Matmul<'_>| matches!(matmul.data, WeightData::Bf16(_));
    let (split, plain) = (
        matmuls.iter().any(|p| is_split(&p)),
        !matmuls.iter().all(|p| is_split(&p)),
    );
    let stride = input.in_features.next_multiple_of(MAX_BLOCK);
    let len = stride * input.rows;
    with_scratch(
        &PACKED,
        len * (usize::from(split) + usize::from(plain)),
        |packed| {
            let (ordered, parted) = packed.split_at_mut(if plain { len } else { 0 });
            for (row, x) in input.x.chunks_exact(input.in_features).enumerate() {
                let range = row * stride..(row + 1) * stride;
                if plain {
                    pad(x, &mut ordered[range.clone()]);
                }
                if split {
                    dispatch(
                        input.level,
                        SplitEvenOdd {
                            x,
                            to: &mut parted[range],
                        },
                    );
                }
            }
            let rows = PackedRows {
                ordered,
                parted,
                stride,
            };
            let groups = matmuls.iter().map(Matmul::groups);
            pieces::run(input.parts, groups, |i, groups| {
                multiply(input, &rows, &matmuls[i], groups);
            });
        },
    );
}

/// The rows of activations, `stride` apart and zero beyond `in_features`: in order, and in blocks
/// of the even and then the odd elements. Either is empty if no weight needs it.
struct PackedRows<'a> {
    ordered: &'a [f32],
    parted: &'a [f32],
    stride: usize,
}

fn pad(x: &[f32], to: &mut [f32]) {
    to[..x.len()].copy_from_slice(x);
    to[x.len()..].fill(0.0);
}

/// Separates the even from the odd elements of each block.
struct SplitEvenOdd<'a> {
    x: &'a [f32],
    to: &'a mut [f32],
}

impl Kernel for SplitEvenOdd<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let block = 2 * S::LANES;
        let full = self.x.len() - self.x.len() % block;
        for (x, to) in self
            .x
            .chunks_exact(block)
            .zip(self.to.chunks_exact_mut(block))
        {
            let (even, odd) = to.split_at_mut(S::LANES);
            for i in 0..S::LANES {
                (even[i], odd[i]) = (x[2 * i], x[2 * i + 1]);
            }
        }
        let rest = &mut self.to[full..];
        rest.fill(0.0);
        for (i, &x) in self.x[full..].iter().enumerate() {
            rest[i % 2 * S::LANES + i / 2] = x;
        }
    }
}

fn multiply(input: &Input<'_>, rows: &PackedRows<'_>, matmul: &Matmul<'_>, groups: Range<usize>) {
    match matmul.data {
        WeightData::F32(_) => run::<f32>(input, rows, matmul, groups),
        WeightData::Bf16(_) => run::<bf16>(input, rows, matmul, groups),
        WeightData::F16(_) => run::<f16>(input, rows, matmul, groups),
        WeightData::Q8(_) | WeightData::Q4(_) => {
            unreachable!("quantized weights have kernels of their own")
        }
    }
}

fn run<E: WeightElement>(
    input: &Input<'_>,
    rows: &PackedRows<'_>,
    matmul: &Matmul<'_>,
    groups: Range<usize>,
) {
    let x = if E::SPLIT { rows.parted } else { rows.ordered };
    assert_eq!(x.len(), rows.stride * input.rows);
    let tiles = DecodeFloat {
        x: x.as_ptr(),
        x_stride: rows.stride,
        rows: input.rows,
        in_features: input.in_features,
        weight: elements::<E>(input, matmul).as_ptr(),
        groups,
        matmul,
    };
    dispatch(input.level, tiles);
}

/// The outputs of some groups. `x` holds `rows` rows of `x_stride` elements, `weight` holds rows of
/// `in_features`.
struct DecodeFloat<'a, E> {
    x: *const f32,
    x_stride: usize,
    rows: usize,
    in_features: usize,
    weight: *const E,
    groups: Range<usize>,
    matmul: &'a Matmul<'a>,
}

impl<E: WeightElement> Kernel for DecodeFloat<'_, E> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for group in self.groups.clone() {
            match self.matmul.far_group(group) {
                (features, 4) => self.features(s, features),
                (features, count) => {
                    for &n in &features[..count] {
                        self.features(s, [n]);
                    }
                }
            }
        }
    }
}

impl<E: WeightElement> DecodeFloat<'_, E> {
    /// The outputs of some features for all rows of activations.
    #[inline(always)]
    fn features<S: Simd, const R: usize>(&self, s: S, features: [usize; R]) {
        let mut row = 0;
        while S::DECODE_ROWS >= 4 && self.rows - row >= 4 {
            self.tile::<S, R, 4>(s, features, row);
            row += 4;
        }
        if S::DECODE_ROWS >= 4 && self.rows - row == 3 {
            self.tile::<S, R, 3>(s, features, row);
            row += 3;
        }
        while self.rows - row >= 2 {
            self.tile::<S, R, 2>(s, features, row);
            row += 2;
        }
        if self.rows - row == 1 {
            self.tile::<S, R, 1>(s, features, row);
        }
    }

    /// The outputs of `R` features for `M` rows of activations from `row`.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const M: usize>(
        &self,
        s: S,
        features: [usize; R],
        row: usize,
    ) {
        let block = 2 * S::LANES;
        let blocks = self.in_features / block;
        let rest = self.in_features % block;
        let mut sums = [[s.splat(0.0); M]; R];
        // SAFETY: all reads are below `in_features` in rows of the weight. In rows of activations
        // they are below `in_features` rounded up to a block, which `x_stride` covers.
        unsafe {
            let mut weights = [self.weight; R];
            for r in 0..R {
                weights[r] = self.weight.add(features[r] * self.in_features);
            }
            let x = self.x.add(row * self.x_stride);
            for b in 0..blocks {
                self.block::<S, R, M>(s, weights, x.add(b * block), &mut sums);
                for weight in weights {
                    for line in (0..block * size_of::<E>()).step_by(64) {
                        let line = weight.cast::<u8>().wrapping_add(AHEAD + line);
                        s.prefetch_second(line);
                    }
                }
                for weight in &mut weights {
                    *weight = weight.add(block);
                }
            }
            if rest > 0 {
                let mut last = [[E::ZERO; MAX_BLOCK]; R];
                for r in 0..R {
                    std::ptr::copy_nonoverlapping(weights[r], last[r].as_mut_ptr(), rest);
                    weights[r] = last[r].as_ptr();
                }
                self.block::<S, R, M>(s, weights, x.add(blocks * block), &mut sums);
            }
        }
        for m in 0..M {
            for r in 0..R {
                self.matmul.set(row + m, features[r], s.sum(sums[r][m]));
            }
        }
    }

    /// Adds one block's terms.
    ///
    /// # Safety
    /// `2 * LANES` elements are valid at each of `weights` and in `M` rows of `x`.
    #[inline(always)]
    unsafe fn block<S: Simd, const R: usize, const M: usize>(
        &self,
        s: S,
        weights: [*const E; R],
        x: *const f32,
        sums: &mut [[S::V; M]; R],
    ) {
        let mut inputs = [(s.splat(0.0), s.splat(0.0)); M];
        for m in 0..M {
            // SAFETY: the caller promises the elements.
            inputs[m] = unsafe {
                let x = x.add(m * self.x_stride);
                (s.load(x), s.load(x.add(S::LANES)))
            };
        }
        // One feature's weights at a time: those of all four and the sums of two rows exceed 16
        // registers.
        for r in 0..R {
            // SAFETY: the caller promises the elements.
            let (first, second) = unsafe { E::load_block(s, weights[r]) };
            for m in 0..M {
                sums[r][m] = s.fma(first, inputs[m].0, sums[r][m]);
            }
            for m in 0..M {
                sums[r][m] = s.fma(second, inputs[m].1, sums[r][m]);
            }
        }
    }
}
