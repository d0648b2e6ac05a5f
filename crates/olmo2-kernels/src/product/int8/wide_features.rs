//! The outputs of some features for up to 16 rows of activations, shared by the kernels with and
//! without AMX.

use super::activations::Extent;
use super::format::Format;
use crate::product::{MAX_LANES as LANES, Matmul};
use crate::simd::Int8;
use std::ops::Range;

/// The outputs of some features. `format` has `blocks` blocks of each row up to the end of `range`,
/// `packed` has the tiles of 16 rows.
pub(super) struct Features<'a, F> {
    pub(super) format: F,
    pub(super) packed: *const f32,
    pub(super) extent: Extent,
    pub(super) rows: usize,
    pub(super) blocks: usize,
    pub(super) range: Range<usize>,
    pub(super) matmul: &'a Matmul<'a>,
}

impl<F: Format> Features<'_, F> {
    /// Adds up the partial sums `[lane][row of weights]` of a tile in the order of a level's `sum`,
    /// and writes them to the rows from `first`.
    #[inline(always)]
    pub(super) fn epilogue<S: Int8, const R: usize>(
        &self,
        s: S,
        sums: &mut [[S::V; R]],
        first: usize,
        features: Range<usize>,
    ) {
        let mut half = S::LANES / 2;
        while half > 0 {
            let (lower, upper) = sums.split_at_mut(half);
            for (lower, upper) in lower
                .as_flattened_mut()
                .iter_mut()
                .zip(upper.as_flattened())
            {
                *lower = s.add(*lower, *upper);
            }
            half /= 2;
        }
        let mut lanes = [[0.0; LANES]; R];
        for r in 0..R {
            // SAFETY: a vector has at most 16 elements.
            unsafe { s.store(lanes[r].as_mut_ptr(), sums[0][r]) };
        }
        for lane in 0..S::LANES.min(self.rows - first) {
            let matmul = self.matmul;
            let at = (first + lane) * matmul.out_features + features.start;
            let to = matmul.out.at(at, features.len());
            for (r, n) in features.clone().enumerate() {
                let sum = lanes[r][lane];
                let sum = matmul.bias.map_or(sum, |bias| sum + bias[n]);
                // SAFETY: inside the output, as just checked, and no other thread writes it.
                unsafe { *to.add(r) = sum };
            }
        }
    }
}
