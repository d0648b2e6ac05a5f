//! One row of activations with weights of 8 bits, where memory is all that costs: a step takes
//! `GROUPS` blocks of each of four far-apart rows of weights, which are four long streams, and its
//! vectors are `[row][group]`. Sums are those of [`super::decode`], bit for bit.

use super::activations::Row;
use super::eight::Q8Blocks;
use super::format::{Format, Tail};
use crate::product::{Input, Matmul};
use crate::quant::BLOCK;
use crate::simd::{Int8, Kernel, dispatch};
use std::ops::Range;

/// Bytes of quants that each stream asks for ahead, into the second-level cache (on a Zen 4 with fast
/// memory 86 Gop/s for 79, and 61 to 82 with 4 KB or more); of scales, which are requested for a line at a
/// time, as many as belong to these, so that no fewer than [`SCALES`] blocks bring what is not there
/// yet.
const AHEAD: usize = 2048;
/// Blocks whose scales fill a cache line.
const SCALES: usize = 32;
const _: () = assert!(AHEAD >= SCALES * BLOCK);

/// Writes the outputs of some groups of features.
pub(super) fn run(
    input: &Input<'_>,
    row: Row,
    format: Q8Blocks,
    matmul: &Matmul<'_>,
    groups: Range<usize>,
) {
    let outputs = DecodeOne {
        format,
        row,
        blocks: input.blocks(),
        groups,
        matmul,
    };
    dispatch(input.level, outputs);
}

/// The outputs of some groups. `format` has `blocks` blocks of each of the matmul's rows, and so
/// has `row`, rounded up to a vector.
struct DecodeOne<'a> {
    format: Q8Blocks,
    row: Row,
    blocks: usize,
    groups: Range<usize>,
    matmul: &'a Matmul<'a>,
}

impl Kernel for DecodeOne<'_> {
    #[inline(always)]
    fn run<S: Int8>(self, s: S) {
        for group in self.groups.clone() {
            let (mut features, count) = self.matmul.far_group(group);
            for i in count..4 {
                features[i] = features[0];
            }
            let sums = self.sums(s, features);
            for i in 0..count {
                self.matmul.set(0, features[i], sums[i]);
            }
        }
    }
}

impl DecodeOne<'_> {
    /// The outputs of four features.
    #[inline(always)]
    fn sums<S: Int8>(&self, s: S, features: [usize; 4]) -> [f32; 4] {
        let mut starts = features;
        for start in &mut starts {
            *start *= self.blocks;
        }
        // WeightElement `[row][group]` of the i-th is the partial sum of lane `i * GROUPS + group`.
        let mut sums = [s.splat(0.0); 4];
        let whole = self.blocks - self.blocks % S::LANES;
        for b in (0..whole).step_by(S::LANES) {
            for i in 0..4 {
                let b = b + i * S::GROUPS;
                let at = starts.map(|start| start + b);
                // SAFETY: the blocks are there in all rows.
                sums[i] = unsafe { step(s, &self.format, at, &self.row, b, sums[i]) };
                for block in at {
                    self.prefetch(s, block, b.is_multiple_of(SCALES));
                }
            }
        }
        for i in 0..4 {
            let b = whole + i * S::GROUPS;
            if b < self.blocks {
                let (mut tail, count) = (Tail::ZERO, S::GROUPS.min(self.blocks - b));
                let at = starts.map(|start| start + b);
                let places = [0, 1, 2, 3].map(|row| row * S::GROUPS);
                // SAFETY: these are each row's last blocks; activations go on to a vector.
                unsafe {
                    for r in 0..4 {
                        self.format.copy(at[r], count, &mut tail, places[r]);
                    }
                    sums[i] = step(s, &Q8Blocks::of(&tail), places, &self.row, b, sums[i]);
                }
            }
        }
        s.sum_groups(s.add(s.add(sums[0], sums[2]), s.add(sums[1], sums[3])))
    }

    /// Asks for `GROUPS` blocks that follow `block`, and for scales.
    #[inline(always)]
    fn prefetch<S: Int8>(&self, s: S, block: usize, scales: bool) {
        let quants = self.format.quants.wrapping_add(block * BLOCK + AHEAD);
        for line in (0..S::GROUPS * BLOCK).step_by(64) {
            s.prefetch_second(quants.wrapping_add(line));
        }
        if scales {
            s.prefetch_second(self.format.scales.wrapping_add(block + AHEAD / BLOCK));
        }
    }
}

/// `sum` and the terms of `GROUPS` blocks, `at` in the weights and `b` in the activations.
///
/// # Safety
/// The blocks are there in both.
#[inline(always)]
unsafe fn step<S: Int8>(
    s: S,
    format: &Q8Blocks,
    at: [usize; 4],
    row: &Row,
    b: usize,
    sum: S::V,
) -> S::V {
    // SAFETY: promised by the caller.
    unsafe {
        let quants = row.quants.add(b * BLOCK);
        let (first, second) = (
            s.load_bytes(quants),
            s.load_bytes(quants.add(16 * S::GROUPS)),
        );
        let mut dots = [s.zero_ints(); 4];
        for r in 0..4 {
            let (lower, upper) = format.halves(s, at[r]);
            dots[r] = s.dot_q8(s.dot_q8(dots[r], lower, first), upper, second);
        }
        let mut terms = s.reduce(dots);
        if Q8Blocks::is_biased::<S>() {
            terms = s.add_ints(terms, s.repeat_ints(row.sums.add(b)));
        }
        let scales = s.q8_scales(at.map(|block| format.scales.add(block)));
        let scales = s.mul(scales, s.repeat(row.scales.add(b)));
        s.fma(s.to_floats(terms), scales, sum)
    }
}
