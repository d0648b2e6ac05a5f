//! The online softmax: a running maximum and sum (Milakov and Gimelshein 2018, "Online normalizer
//! calculation for softmax").

use super::TILE;
use crate::simd::Simd;
use std::ops::Range;

/// The running maximum before the first key.
const LOWEST: f32 = f32::MIN;

/// A row's running maximum and sum.
#[derive(Clone, Copy)]
pub(super) struct Running {
    pub(super) max: f32,
    pub(super) sum: f32,
}

impl Running {
    pub(super) const START: Self = Self {
        max: LOWEST,
        sum: 0.0,
    };

    /// Turns the `visible` scores of a tile into weights in place, all others into zeros, and returns
    /// the factor for the earlier sums.
    #[inline(always)]
    pub(super) fn weigh<S: Simd>(
        &mut self,
        s: S,
        scores: &mut [f32; TILE],
        visible: Range<usize>,
    ) -> f32 {
        if visible.is_empty() {
            scores.fill(0.0);
            return 1.0;
        }
        scores[..visible.start].fill(LOWEST);
        scores[visible.end..].fill(LOWEST);
        let p = scores.as_mut_ptr();
        let mut max = s.splat(self.max);
        for i in (0..TILE).step_by(S::LANES) {
            // SAFETY: LANES divides TILE.
            max = unsafe { s.max(max, s.load(p.add(i))) };
        }
        let max = s.max_element(max);
        let factor = s.max_element(s.exp(s.splat(self.max - max)));
        for i in (0..TILE).step_by(S::LANES) {
            // SAFETY: LANES divides TILE.
            unsafe { s.store(p.add(i), s.exp(s.sub(s.load(p.add(i)), s.splat(max)))) };
        }
        scores[..visible.start].fill(0.0);
        scores[visible.end..].fill(0.0);
        let mut sum = s.splat(0.0);
        let p = scores.as_ptr();
        for i in (0..TILE).step_by(S::LANES) {
            // SAFETY: LANES divides TILE.
            sum = unsafe { s.add(sum, s.load(p.add(i))) };
        }
        self.sum = self.sum * factor + s.sum(sum);
        self.max = max;
        factor
    }

    /// The final factor of the summed values: 0 if no key was visible.
    pub(super) fn normalizer(self) -> f32 {
        if self.sum == 0.0 { 0.0 } else { 1.0 / self.sum }
    }
}
