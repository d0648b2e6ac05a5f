//! Panels multiplied by AMX. The weight rows of the panel are the left matrix, packed rows of
//! activations are the right one.

use super::prefill::{Bf16Panels, STRIDE};
use crate::product::prefill::{PANEL_ROWS, SCHEDULE_ROWS};
use crate::simd::{Amx, Bf16Tiles, SIDE};
use std::ops::Range;

/// Weight rows that are multiplied at a time.
const STRIP: usize = Bf16Tiles::STRIPS * SIDE;
/// Pairs of a strip that stay in the first-level cache, 24 KB, while all rows of activations pass.
const CHUNK: usize = 128;
const _: () =
    assert!(SCHEDULE_ROWS.is_multiple_of(STRIP) && CHUNK.is_multiple_of(Bf16Tiles::PAIRS));

impl Bf16Panels<'_> {
    /// Adds the panel's terms to the sums of `features` features. Works on whole strips: padding
    /// past `features` is computed and never read.
    pub(super) fn multiply_tiles(&mut self, amx: Amx, features: usize, pairs: Range<usize>) {
        assert!(self.panel.len() >= PANEL_ROWS * STRIDE && pairs.len() <= STRIDE);
        assert!(self.sums.len() >= PANEL_ROWS * self.padded && features <= PANEL_ROWS);
        assert!(self.packed.len() >= self.padded * self.pairs && pairs.end <= self.pairs);
        assert!(pairs.len().is_multiple_of(Bf16Tiles::PAIRS) && self.padded.is_multiple_of(SIDE));
        Bf16Tiles::with(amx, |tiles| self.multiply_strips(tiles, features, pairs));
    }

    /// As [`multiply_tiles`](Self::multiply_tiles), which has made the assertions.
    fn multiply_strips(&mut self, tiles: &Bf16Tiles, features: usize, pairs: Range<usize>) {
        for n in (0..features).step_by(STRIP) {
            for first in pairs.clone().step_by(CHUNK) {
                let count = CHUNK.min(pairs.end - first);
                for row in (0..self.padded).step_by(SIDE) {
                    // SAFETY: by the assertions, the panel and the sums have 48 rows from `n`, and
                    // the panel and the tile of `row` have `count` pairs from `first`.
                    unsafe {
                        let weights = self.panel.as_ptr().add(n * STRIDE + first - pairs.start);
                        let x = self.packed.as_ptr().add(row * self.pairs + first * SIDE);
                        let sums = self.sums.as_mut_ptr().add(n * self.padded + row);
                        tiles.add(
                            (weights.cast(), STRIDE * 4),
                            x.cast(),
                            count / Bf16Tiles::PAIRS,
                            (sums.cast(), self.padded * 4),
                            first == 0,
                        );
                    }
                }
            }
        }
    }
}
