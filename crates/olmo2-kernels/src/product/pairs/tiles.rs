//! A panel's matmuls by AMX. Weight rows are the left matrix, as they lie in the panel; packed
//! rows of activations are the right one.

use super::prefill::{Bf16Panels, STRIDE};
use crate::product::prefill::{PANEL_ROWS, SCHEDULE_ROWS};
use crate::simd::{Amx, Bf16Tiles, SIDE};
use std::ops::Range;

/// Weight rows that are multiplied at a time.
const STRIP: usize = Bf16Tiles::STRIPS * SIDE;
/// Pairs of them that stay in the first-level cache, 24 KB, while all rows of activations pass.
const CHUNK: usize = 128;
const _: () =
    assert!(SCHEDULE_ROWS.is_multiple_of(STRIP) && CHUNK.is_multiple_of(Bf16Tiles::PAIRS));

impl Bf16Panels<'_> {
    /// Adds the panel's terms to the sums of `features` features. What the panel and the sums
    /// have behind those, up to a whole strip, is computed with, and read by nobody.
    pub(super) fn multiply_tiles(&mut self, amx: Amx, features: usize, pairs: Range<usize>) {
        assert!(self.panel.len() >= PANEL_ROWS * STRIDE && pairs.len() <= STRIDE);
        assert!(self.sums.len() >= PANEL_ROWS * self.padded && features <= PANEL_ROWS);
        assert!(self.packed.len() >= self.padded * self.pairs && pairs.end <= self.pairs);
        assert!(pairs.len().is_multiple_of(Bf16Tiles::PAIRS) && self.padded.is_multiple_of(SIDE));
        Bf16Tiles::with(amx, |tiles| self.multiply_strips(tiles, features, pairs));
    }

    /// The same; the caller has made the assertions.
    fn multiply_strips(&mut self, tiles: &Bf16Tiles, features: usize, pairs: Range<usize>) {
        for n in (0..features).step_by(STRIP) {
            for first in pairs.clone().step_by(CHUNK) {
                let count = CHUNK.min(pairs.end - first);
                for row in (0..self.padded).step_by(SIDE) {
                    // SAFETY: 48 rows from `n` are in the panel and the sums, `count` pairs from
                    // `first` in the panel and in the tile of `row`, as asserted.
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
