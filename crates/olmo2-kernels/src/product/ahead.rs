//! What a prefill reads next, asked for while it computes.

use crate::simd::Simd;

const LINE: usize = 64;

/// The weights of the next panel, of which some cache lines are asked for at each step of the
/// multiplication of this one. They need not be there: nothing is read.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    row: *const u8,
    /// Bytes from a row to the next.
    stride: usize,
    /// Bytes of a row that are wanted, and how many of them are asked for.
    bytes: usize,
    asked: usize,
    rows: usize,
    /// Lines of a step.
    lines: usize,
}

impl Ahead {
    pub(super) const NOTHING: Self = Self {
        row: std::ptr::null(),
        stride: 0,
        bytes: 0,
        asked: 0,
        rows: 0,
        lines: 0,
    };

    /// `bytes` of each of `rows` rows from `row`, `stride` bytes apart, asked for in `steps` steps.
    pub(super) fn new(
        row: *const u8,
        stride: usize,
        bytes: usize,
        rows: usize,
        steps: usize,
    ) -> Self {
        Self {
            row,
            stride,
            bytes,
            asked: 0,
            rows,
            lines: (rows * bytes.div_ceil(LINE)).div_ceil(steps.max(1)),
        }
    }

    /// Asks for the lines of a step, into the second-level cache.
    #[inline(always)]
    pub(super) fn step<S: Simd>(&mut self, s: S) {
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
        let line = self.row.wrapping_add(self.asked);
        self.asked += LINE;
        if self.asked >= self.bytes {
            self.row = self.row.wrapping_add(self.stride);
            self.asked = 0;
            self.rows -= 1;
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_is_asked_for_once_and_no_more() {
        let rows = [0_u8; 1000];
        for (bytes, steps) in [(1, 1), (64, 3), (65, 100), (200, 0)] {
            let mut ahead = Ahead::new(rows.as_ptr(), 300, bytes, 3, steps);
            assert!(ahead.lines * steps.max(1) >= 3 * bytes.div_ceil(LINE));
            let lines = std::iter::from_fn(|| ahead.take());
            let offsets: Vec<_> = lines
                .map(|line| line.addr() - rows.as_ptr().addr())
                .collect();
            let row = |row: usize| (0..bytes).step_by(LINE).map(move |at| row * 300 + at);
            assert_eq!(offsets, (0..3).flat_map(row).collect::<Vec<_>>());
        }
        assert!(Ahead::NOTHING.take().is_none());
    }
}
