//! Prefetches of the weights that a prefill widens or copies next, while it computes.

use crate::simd::Simd;
use std::ops::Range;

/// Inputs, or pairs of inputs, between two steps. Shorter steps cost a tile a measurable share of
/// its time.
pub(super) const STEP: usize = 64;

const LINE: usize = 64;

/// Bytes of some rows, whose cache lines are prefetched over a number of steps. The addresses need
/// not be valid, since nothing is read.
#[derive(Clone, Copy)]
pub(super) struct PanelPrefetch {
    row: *const u8,
    /// Bytes from one row to the next.
    stride: usize,
    /// Bytes of a row to prefetch, and the number already prefetched.
    bytes: usize,
    requested: usize,
    rows: usize,
    /// `lines` lines every `every` steps, and the number of steps until the next.
    lines: usize,
    every: usize,
    wait: usize,
}

impl PanelPrefetch {
    pub(super) const NOTHING: Self = Self {
        row: std::ptr::null(),
        stride: 0,
        bytes: 0,
        requested: 0,
        rows: 0,
        lines: 0,
        every: 1,
        wait: 0,
    };

    /// Prefetches the panel that most probably follows one with `bytes` of `rows` rows of `stride`
    /// bytes each: the next bytes of the same rows, at most `max_bytes`, or, after their last
    /// bytes, the first ones of the rows at `then`. (Another thread may have taken those.)
    pub(super) fn new(
        [here, then]: [*const u8; 2],
        stride: usize,
        rows: usize,
        bytes: Range<usize>,
        max_bytes: usize,
        steps: usize,
    ) -> Self {
        let (row, first) = match bytes.end < stride {
            true => (here.wrapping_add(bytes.end), bytes.end),
            false => (then, 0),
        };
        let bytes = max_bytes.min(stride - first);
        let lines = rows * bytes.div_ceil(LINE);
        Self {
            row,
            stride,
            bytes,
            requested: 0,
            rows,
            lines: lines.div_ceil(steps),
            every: (steps / lines).max(1),
            wait: 0,
        }
    }

    /// Prefetches the lines of a step into the second-level cache.
    #[inline(always)]
    pub(super) fn step<S: Simd>(&mut self, s: S) {
        if self.wait > 0 {
            self.wait -= 1;
            return;
        }
        self.wait = self.every - 1;
        for _ in 0..self.lines {
            if let Some(line) = self.take() {
                s.prefetch_second(line);
            }
        }
    }

    #[inline(always)]
    fn take(&mut self) -> Option<*const u8> {
        if self.rows == 0 {
            return None;
        }
        let line = self.row.wrapping_add(self.requested);
        self.requested += LINE;
        if self.requested >= self.bytes {
            self.row = self.row.wrapping_add(self.stride);
            self.requested = 0;
            self.rows -= 1;
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::Level;
    use crate::simd::{Int8, Kernel, dispatch};

    /// Offsets of the lines of a panel of features 2 to 5, with rows of 1000 bytes, in order.
    fn offsets(bytes: Range<usize>) -> Vec<usize> {
        let rows = [2, 5].map(|n| std::ptr::without_provenance(4096 + n * 1000));
        let mut next = PanelPrefetch::new(rows, 1000, 3, bytes, 400, 7);
        std::iter::from_fn(|| next.take())
            .map(|line| line.addr() - 4096)
            .collect()
    }

    fn rows(features: Range<usize>, bytes: Range<usize>) -> Vec<usize> {
        features
            .flat_map(|n| bytes.clone().step_by(LINE).map(move |at| n * 1000 + at))
            .collect()
    }

    #[test]
    fn the_rest_of_the_rows_follows_and_then_the_next_features() {
        assert_eq!(offsets(0..400), rows(2..5, 400..800));
        assert_eq!(offsets(400..800), rows(2..5, 800..1000));
        assert_eq!(offsets(800..1000), rows(5..8, 0..400));
    }

    type Requested = fn(usize) -> usize;

    /// Prefetches 21 lines; `requested` gives the number of lines after each of `steps` steps.
    struct Steps {
        steps: usize,
        requested: Requested,
    }

    impl Kernel for Steps {
        #[inline(always)]
        fn run<S: Int8>(self, s: S) {
            let rows = [std::ptr::without_provenance(4096); 2];
            let mut next = PanelPrefetch::new(rows, 1000, 3, 0..400, 400, self.steps);
            for step in 1..=self.steps {
                next.step(s);
                let requested = (3 - next.rows) * 7 + next.requested / LINE;
                assert_eq!(requested, (self.requested)(step));
            }
            assert!(next.take().is_none());
        }
    }

    #[test]
    fn all_lines_are_prefetched_over_the_steps() {
        let steps: [(usize, Requested); 4] = [
            (1, |_| 21),
            (5, |step| (5 * step).min(21)),
            (21, |step| step),
            (50, |step| step.div_ceil(2).min(21)),
        ];
        for (steps, requested) in steps {
            dispatch(Level::Scalar, Steps { steps, requested });
        }
        let mut nothing = PanelPrefetch::NOTHING;
        assert!(nothing.take().is_none());
    }
}
