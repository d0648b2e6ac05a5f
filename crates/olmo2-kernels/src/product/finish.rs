//! The epilogue of a prefill's panel: adds the bias, applies the gate, and writes the outputs.

use super::Matmul;
use crate::activation;
use crate::simd::Simd;
use std::ops::Range;

/// Outputs in a cache line.
const LINE: usize = 16;

/// Where a work item writes its sums.
pub(super) struct Epilogue<'a> {
    pub(super) matmul: &'a Matmul<'a>,
    /// The gate that is applied to it.
    pub(super) gate: Option<&'a Matmul<'a>>,
    /// Rows of the output.
    pub(super) rows: Range<usize>,
    /// Rows of sums; at least the number of rows.
    pub(super) padded: usize,
}

impl<'a> Epilogue<'a> {
    /// The epilogue of a matmul and its gate.
    pub(super) fn new(
        (matmul, gate): (&'a Matmul<'a>, Option<&'a Matmul<'a>>),
        rows: &Range<usize>,
        padded: usize,
    ) -> Self {
        Self {
            matmul,
            gate,
            rows: rows.clone(),
            padded,
        }
    }

    /// The number of arrays of sums in a work item.
    pub(super) fn sums(&self) -> usize {
        1 + usize::from(self.gate.is_some())
    }

    /// The sums with their bias, multiplied by `silu` of the gate's.
    #[inline(always)]
    fn mix<'s, S: Simd>(
        &self,
        s: S,
        features: Range<usize>,
        sums: &'s mut [f32],
        gate: &'s mut [f32],
    ) -> &'s [f32] {
        let len = features.len() * self.padded;
        let sums = &mut sums[..len];
        add_bias(self.matmul, features.clone(), sums, self.padded);
        let Some(matmul) = self.gate else {
            return sums;
        };
        let gate = &mut gate[..len];
        add_bias(matmul, features, gate, self.padded);
        activation::silu_mul_here(s, gate, sums);
        gate
    }

    /// Prefetches the output lines of some rows. They lie far apart, so that without this the CPU
    /// waits for each of them.
    #[inline(always)]
    fn prefetch<S: Simd>(&self, s: S, rows: Range<usize>, features: &Range<usize>) {
        let out_features = self.matmul.out_features;
        for row in rows {
            let first = (self.rows.start + row) * out_features + features.start;
            let row = self.matmul.out.at(first, features.len());
            for n in (0..features.len()).step_by(LINE) {
                s.prefetch(row.wrapping_add(n));
            }
            s.prefetch(row.wrapping_add(features.len() - 1));
        }
    }

    /// Adds the bias, multiplies by `silu` of the gate's sums if there is a gate, and writes sums
    /// `[features][padded]` to the output `[rows][out]`.
    #[inline(always)]
    pub(super) fn write<S: Simd>(
        &self,
        s: S,
        features: Range<usize>,
        sums: &mut [f32],
        gate: &mut [f32],
    ) {
        let (padded, out_features) = (self.padded, self.matmul.out_features);
        assert!(padded >= self.rows.len());
        let sums = self.mix(s, features.clone(), sums, gate);
        let (whole_rows, whole_features) = (
            self.rows.len() / S::LANES * S::LANES,
            features.len() / S::LANES * S::LANES,
        );
        let place =
            |row: usize, n: usize| (self.rows.start + row) * out_features + features.start + n;
        self.prefetch(s, 0..whole_rows.min(S::LANES), &features);
        for row in (0..whole_rows).step_by(S::LANES) {
            self.prefetch(
                s,
                row + S::LANES..whole_rows.min(row + 2 * S::LANES),
                &features,
            );
            for n in (0..whole_features).step_by(S::LANES) {
                let last = self.matmul.out.at(place(row + S::LANES - 1, n), S::LANES);
                // SAFETY: the block's last row is inside the output, so all its rows are; the sums
                // have a full block there. Each thread has its own features.
                unsafe {
                    let to = last.sub((S::LANES - 1) * out_features);
                    let from = sums.as_ptr().add(n * padded + row);
                    s.transpose(from, padded, to, out_features);
                }
            }
        }
        for row in 0..self.rows.len() {
            let from = if row < whole_rows { whole_features } else { 0 };
            for n in from..features.len() {
                let to = self.matmul.out.at(place(row, n), 1);
                // SAFETY: inside the output, and the feature belongs to this thread.
                unsafe { *to = sums[n * padded + row] };
            }
        }
    }
}

/// Adds the bias of some features to their sums, `[features][padded]`.
fn add_bias(matmul: &Matmul<'_>, features: Range<usize>, sums: &mut [f32], padded: usize) {
    if let Some(bias) = matmul.bias {
        for (n, sums) in features.zip(sums.chunks_exact_mut(padded)) {
            sums.iter_mut().for_each(|sum| *sum += bias[n]);
        }
    }
}
