//! One row of activations with 8-bit weights, where the time goes into reading memory. A step takes
//! `GROUPS` blocks of each of four far-apart rows of weights, which are four long streams; its
//! vectors are `[row][group]`. The sums have the same bits as those of [`super::decode`].

use super::activations::Row;
use super::eight::Q8Blocks;
use super::format::{Format, Tail};
use crate::product::{Input, Matmul};
use crate::quant::BLOCK;
use crate::simd::{Int8, Kernel, dispatch};
use std::ops::Range;

/// Distance in bytes of the prefetches of each stream of quants, into the second-level cache.
/// Scales are prefetched at the same distance in blocks, one line at a time, so the distance is at
/// least [`SCALES`] blocks.
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

/// The outputs of some groups. `format` has `blocks` blocks of each row of weights, and `row` has
/// as many, rounded up to a vector.
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
        // Element `[row][group]` of the i-th is the partial sum of lane `i * GROUPS + group`.
        let mut sums = [s.splat(0.0); 4];
        let whole = self.blocks - self.blocks % S::LANES;
        for b in (0..whole).step_by(S::LANES) {
            for i in 0..4 {
                let b = b + i * S::GROUPS;
                let at = starts.map(|start| start + b);
                // SAFETY: all rows have the blocks.
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
                // SAFETY: these are each row's last blocks; activations are padded to a vector.
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

    /// Prefetches `GROUPS` blocks beyond `block`, and a line of scales if `scales`.
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

/// Returns `sum` plus the terms of `GROUPS` blocks, `at` in the weights and `b` in the activations.
///
/// # Safety
/// Both have the blocks.
#[inline(always)]
unsafe fn step<S: Int8>(
    s: S,
    format: &Q8Blocks,
    at: [usize; 4],
    row: &Row,
    b: usize,
    sum: S::V,
) -> S::V {
    // SAFETY: the caller promises the blocks.
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
