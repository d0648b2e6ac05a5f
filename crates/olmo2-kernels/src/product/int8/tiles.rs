//! Panels multiplied by AMX: a tile is the exact integer dot products of a block of 16 weight rows
//! with 16 rows of activations. They go through memory into vectors, where they are scaled. Sums
//! add their terms in the same order as with vectors, so the bits are the same.

use super::activations::Tile;
use super::format::Format;
use super::prefill::{BLOCKS, Multiply, QuantizedPanels, STRIDE};
use crate::product::prefill::{PANEL_ROWS, SCHEDULE_ROWS};
use crate::quant::BLOCK;
use crate::simd::{ByteTiles, Dots, Int8, SIDE, TileKernel};
use std::mem::MaybeUninit;
use std::ops::Range;

const _: () = assert!(SCHEDULE_ROWS.is_multiple_of(SIDE) && BLOCKS.is_multiple_of(2));

/// The products of two blocks, and those of the two blocks before, because a load right after a
/// tile store has to wait.
#[repr(C, align(64))]
pub(super) struct Room([MaybeUninit<[Dots; 2]>; 2]);

impl Room {
    pub(super) const EMPTY: Self = Self([MaybeUninit::uninit(); 2]);

    /// The place of the `i`-th pair of blocks.
    #[inline(always)]
    pub(super) fn at(&mut self, i: usize) -> *mut [Dots; 2] {
        self.0[i % 2].as_mut_ptr()
    }
}

impl<F: Format> TileKernel for QuantizedPanels<'_, F> {
    #[inline(always)]
    fn run<S: Int8>(self, s: S, tiles: &ByteTiles) {
        self.outputs(s, tiles);
    }
}

impl<F: Format> Multiply<F> for ByteTiles {
    const SIGNED: bool = true;

    /// Works on whole tiles: padding past `features` is computed and never read.
    #[inline(always)]
    fn multiply<S: Int8>(
        &self,
        s: S,
        panels: &mut QuantizedPanels<'_, F>,
        features: usize,
        blocks: Range<usize>,
    ) {
        assert!(S::LANES == SIDE && panels.padded.is_multiple_of(SIDE));
        for row in (0..panels.padded).step_by(SIDE) {
            for n in (0..features).step_by(SIDE) {
                panels.strip(s, self, n, row, blocks.clone());
            }
        }
    }
}

impl<F: Format> QuantizedPanels<'_, F> {
    /// Adds a panel's terms to the sums of 16 features from `n`, for 16 rows from `row`.
    #[inline(always)]
    fn strip<S: Int8>(
        &mut self,
        s: S,
        tiles: &ByteTiles,
        n: usize,
        row: usize,
        blocks: Range<usize>,
    ) {
        let (padded, count) = (self.padded, blocks.len());
        assert!(n + SIDE <= PANEL_ROWS && row + SIDE <= padded && count <= BLOCKS);
        assert!(self.sums.len() == PANEL_ROWS * padded);
        let tile = Tile::at::<S>(self.extent, self.packed, row / SIDE);
        let mut room = Room::EMPTY;
        // SAFETY: the tile has all blocks, rounded up to 16, and by the assertions the panel and
        // the sums have these rows; each half of the room is written before it is read, two blocks
        // later.
        unsafe {
            let sums = self.sums.as_mut_ptr().add(n * padded + row);
            let mut acc = [s.splat(0.0); SIDE];
            if blocks.start > 0 {
                for r in 0..SIDE {
                    acc[r] = s.load(sums.add(r * padded));
                }
            }
            let weights = self.weights.add(n * STRIDE).cast_const();
            let scales = self.scales.as_ptr().add(n * BLOCKS);
            multiply_two(tiles, weights, &tile, blocks.start, room.at(0));
            for b in (0..count).step_by(2) {
                if b + 2 < count {
                    let weights = weights.add((b + 2) * BLOCK);
                    let at = blocks.start + b + 2;
                    multiply_two(tiles, weights, &tile, at, room.at(b / 2 + 1));
                }
                let dots = room.at(b / 2).cast_const().cast::<Dots>();
                let own = tile.scales.add((blocks.start + b) * SIDE);
                add(s, &mut acc, dots, (scales.add(b), BLOCKS), s.load(own));
                if b + 1 < count {
                    let (scales, own) = (scales.add(b + 1), own.add(SIDE));
                    add(s, &mut acc, dots.add(1), (scales, BLOCKS), s.load(own));
                }
            }
            for r in 0..SIDE {
                s.store(sums.add(r * padded), acc[r]);
            }
        }
    }
}

/// Multiplies two blocks of the panel with those from `at` of the tile.
///
/// # Safety
/// Both have the blocks.
#[inline(always)]
unsafe fn multiply_two(
    tiles: &ByteTiles,
    weights: *const u8,
    tile: &Tile,
    at: usize,
    dots: *mut [Dots; 2],
) {
    // SAFETY: the caller promises the blocks.
    unsafe {
        let x = tile.quants.add(at * BLOCK * SIDE);
        tiles.multiply(
            [weights, weights.add(BLOCK)],
            STRIDE,
            [x, x.add(BLOCK * SIDE)],
            dots,
        );
    }
}

/// Adds the terms of one block to the sums of 16 weight rows, whose scales are `stride` apart.
///
/// # Safety
/// The dot products and scales are valid.
#[inline(always)]
pub(super) unsafe fn add<S: Int8>(
    s: S,
    acc: &mut [S::V; SIDE],
    dots: *const Dots,
    (scales, stride): (*const f32, usize),
    own: S::V,
) {
    for r in 0..SIDE {
        // SAFETY: the caller promises both.
        unsafe {
            let scale = s.mul(s.splat(*scales.add(r * stride)), own);
            let dots = s.load_ints(dots.cast::<i32>().add(r * SIDE));
            acc[r] = s.fma(s.to_floats(dots), scale, acc[r]);
        }
    }
}
