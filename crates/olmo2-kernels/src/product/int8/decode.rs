//! Few rows of activations, lanes along `in`: a step takes `GROUPS` blocks of four rows of
//! weights from four far-apart quarters of a thread's range, each one long stream.

use super::activations::{Extent, PackRow, Row};
use super::format::{Format, SCALES, Tail};
use super::{Data, Matrix};
use crate::buffer::{Scratch, SharedMut, with_scratch};
use crate::pool;
use crate::product::{Input, Product};
use crate::simd::{Int8, Kernel, dispatch};
use std::cell::RefCell;
use std::ops::Range;

/// Activations below which a second thread costs more than it saves.
const NUMBERS_PER_THREAD: usize = 8192;

thread_local! {
    static PACKED: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
}

pub(super) fn project(input: &Input<'_>, matrices: &[Matrix<'_>]) {
    let extent = Extent::new(input.blocks());
    with_scratch(&PACKED, input.rows * extent.words(), |packed| {
        pack(input, extent, packed);
        let packed = &*packed;
        pool::run(input.parts, |part| {
            for matrix in matrices {
                let range = pool::share(matrix.product.out_features, 4, input.parts, part);
                match matrix.data {
                    Data::Eight(format) => run(input, packed, format, matrix, range),
                    Data::Four(format) => run(input, packed, format, matrix, range),
                }
            }
        });
    });
}

/// Packs all rows, on one thread where there is little to do.
fn pack(input: &Input<'_>, extent: Extent, packed: &mut [f32]) {
    let to = SharedMut::new(packed);
    let parts = input.parts.min(input.x.len().div_ceil(NUMBERS_PER_THREAD));
    pool::run(parts, |part| {
        for row in pool::share(input.rows, 1, parts, part) {
            let row = PackRow {
                x: &input.x[row * input.in_features..][..input.in_features],
                extent,
                words: to.part(row * extent.words(), extent.words()),
            };
            dispatch(input.level, row);
        }
    });
}

fn run<F: Format>(
    input: &Input<'_>,
    packed: &[f32],
    format: F,
    matrix: &Matrix<'_>,
    range: Range<usize>,
) {
    let extent = Extent::new(input.blocks());
    assert_eq!(packed.len(), input.rows * extent.words());
    let tiles = Tiles {
        format,
        packed: packed.as_ptr(),
        extent,
        rows: input.rows,
        blocks: input.blocks(),
        range,
        product: matrix.product,
    };
    dispatch(input.level, tiles);
}

/// The outputs of one thread. `format` has `blocks` blocks of each row as far as `range` reaches,
/// `packed` as many [`Row`]s as `rows` says.
struct Tiles<'a, F> {
    format: F,
    packed: *const f32,
    extent: Extent,
    rows: usize,
    blocks: usize,
    range: Range<usize>,
    product: &'a Product<'a>,
}

impl<F: Format> Kernel for Tiles<'_, F> {
    #[inline(always)]
    fn run<S: Int8>(self, s: S) {
        let quarter = self.range.len() / 4;
        let start = self.range.start;
        for n in start..start + quarter {
            self.features(s, [n, n + quarter, n + 2 * quarter, n + 3 * quarter], 4);
        }
        let rest = start + 4 * quarter;
        if rest < self.range.end {
            let count = self.range.end - rest;
            let feature = |i: usize| rest + i.min(count - 1);
            self.features(s, [feature(0), feature(1), feature(2), feature(3)], count);
        }
    }
}

impl<F: Format> Tiles<'_, F> {
    /// The outputs of the first `count` of four features for all rows of activations.
    #[inline(always)]
    fn features<S: Int8>(&self, s: S, features: [usize; 4], count: usize) {
        let mut row = 0;
        while S::INT8_DECODE_ROWS >= 4 && self.rows - row >= 4 {
            self.tile::<S, 4>(s, features, count, row);
            row += 4;
        }
        if S::INT8_DECODE_ROWS >= 4 && self.rows - row == 3 {
            self.tile::<S, 3>(s, features, count, row);
            row += 3;
        }
        while self.rows - row >= 2 {
            self.tile::<S, 2>(s, features, count, row);
            row += 2;
        }
        if self.rows - row == 1 {
            self.tile::<S, 1>(s, features, count, row);
        }
    }

    /// The same for `M` rows of activations from `row`.
    #[inline(always)]
    fn tile<S: Int8, const M: usize>(&self, s: S, features: [usize; 4], count: usize, row: usize) {
        let mut rows = [Row::at(self.extent, self.packed); M];
        for m in 0..M {
            let words = self.packed.wrapping_add((row + m) * self.extent.words());
            rows[m] = Row::at(self.extent, words);
        }
        let starts = features.map(|n| n * self.blocks);
        let whole = self.blocks - self.blocks % S::GROUPS;
        let mut sums = [s.splat(0.0); M];
        for b in (0..whole).step_by(S::GROUPS) {
            let at = starts.map(|start| start + b);
            // SAFETY: blocks `b` to `b + GROUPS` of each feature's row are there.
            unsafe { step(s, &self.format, at, &rows, b, &mut sums) };
            for block in at {
                self.format.prefetch(s, block, F::AHEAD);
            }
            if b.is_multiple_of(SCALES) {
                for block in at {
                    self.format.prefetch_scales(s, block, F::AHEAD);
                }
            }
        }
        if whole < self.blocks {
            let mut tail = Tail::ZERO;
            let at = starts.map(|start| start + whole);
            // SAFETY: the last blocks of each row are there; activations have a whole step.
            unsafe {
                let last = self.format.tail(at, self.blocks - whole, &mut tail);
                step(s, &last, Tail::STARTS, &rows, whole, &mut sums);
            }
        }
        for m in 0..M {
            let sums = s.sum_groups(sums[m]);
            for r in 0..count {
                self.product.set(row + m, features[r], sums[r]);
            }
        }
    }
}

/// Adds the terms of `GROUPS` blocks, `at` in the weights and `b` in the activations.
///
/// # Safety
/// The blocks are there in both.
#[inline(always)]
unsafe fn step<S: Int8, F: Format, const M: usize>(
    s: S,
    format: &F,
    at: [usize; 4],
    rows: &[Row; M],
    b: usize,
    sums: &mut [S::V; M],
) {
    // SAFETY: promised by the caller, and a step of activations is complete.
    unsafe {
        let weights = [
            format.halves(s, at[0]),
            format.halves(s, at[1]),
            format.halves(s, at[2]),
            format.halves(s, at[3]),
        ];
        let weight_scales = format.scales(s, at);
        for m in 0..M {
            let quants = rows[m].quants.add(b * 32);
            let lower = s.load_bytes(quants);
            let upper = s.load_bytes(quants.add(16 * S::GROUPS));
            let mut dots = [s.zero_ints(); 4];
            for r in 0..4 {
                let dot = F::dot(s, dots[r], weights[r].0, lower);
                dots[r] = F::dot(s, dot, weights[r].1, upper);
            }
            let mut terms = s.reduce(dots);
            if F::is_biased::<S>() {
                terms = s.add_ints(terms, s.repeat_ints(rows[m].sums.add(b)));
            }
            let scales = s.mul(weight_scales, s.repeat(rows[m].scales.add(b)));
            sums[m] = s.fma(s.to_floats(terms), scales, sums[m]);
        }
    }
}
