//! Up to 16 rows of activations by AMX: 16 rows of weights at a time; 8-bit weights are read in
//! place. A tile's sums add two blocks of a lane, one after the other, in the same order as
//! [`super::wide`].

use super::activations::Tile;
use super::format::Format;
use super::tiles::{Room, add};
use super::wide_features::Features;
use crate::buffer::{Scratch, with_scratch};
use crate::quant::BLOCK;
use crate::simd::{Amx, ByteTiles, Dots, Int8, SIDE, Simd, TileKernel, dispatch_tiles};
use std::cell::RefCell;
use std::ops::Range;

/// Blocks that are multiplied at a time, two of each lane: 16 rows of 1024 bytes.
const BLOCKS: usize = 2 * SIDE;
/// Distance of unpacked rows, so that they do not fall on one set of the cache.
const STRIDE: usize = BLOCKS * BLOCK + 64;
/// Words of 16 rows of unpacked weights.
const WEIGHTS: usize = SIDE * STRIDE / 4;

thread_local! {
    static UNPACKED: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
}

/// Writes the outputs of some features.
pub(super) fn run<F: Format>(amx: Amx, features: Features<'_, F>) {
    with_scratch(&UNPACKED, WEIGHTS, |unpacked| {
        dispatch_tiles(amx, Strips { features, unpacked });
    });
}

/// Some features, with room for unpacked weights of 16 of their rows, [`STRIDE`] bytes apart.
struct Strips<'a, F> {
    features: Features<'a, F>,
    unpacked: &'a mut [f32],
}

/// Scales of the blocks of 16 rows.
#[repr(C, align(64))]
struct Scales([[f32; BLOCKS]; SIDE]);

/// Partial sums, `[lane][row of weights]`.
type Sums<S> = [[<S as Simd>::V; SIDE]; SIDE];

/// Blocks of 16 rows: signed weights, `stride` bytes apart, and their [`Scales`].
#[derive(Clone, Copy)]
struct Strip {
    weights: *const u8,
    stride: usize,
    scales: *const f32,
}

impl<F: Format> TileKernel for Strips<'_, F> {
    #[inline(always)]
    fn run<S: Int8>(mut self, s: S, tiles: &ByteTiles) {
        assert!(S::LANES == SIDE);
        let (range, blocks) = (self.features.range.clone(), self.features.blocks);
        let mut scales = Scales([[0.0; BLOCKS]; SIDE]);
        // The first block of a lane overwrites its sum; a lane without blocks stays 0.
        let mut sums: Sums<S> = [[s.splat(0.0); SIDE]; SIDE];
        for n in range.clone().step_by(SIDE) {
            let features = n..range.end.min(n + SIDE);
            for first in (0..blocks).step_by(BLOCKS) {
                let blocks = first..blocks.min(first + BLOCKS);
                let strip = self.fill(s, features.clone(), blocks.clone(), &mut scales);
                self.multiply(s, tiles, strip, n + SIDE, blocks, &mut sums);
            }
            self.features.epilogue(s, &mut sums, 0, features);
        }
    }
}

impl<F: Format> Strips<'_, F> {
    /// The blocks of some features, unpacked if they cannot be read in place. Rows past the last
    /// feature are unspecified.
    #[inline(always)]
    fn fill<S: Int8>(
        &mut self,
        s: S,
        features: Range<usize>,
        blocks: Range<usize>,
        scales: &mut Scales,
    ) -> Strip {
        let Features {
            format,
            blocks: row,
            ..
        } = self.features;
        let first = features.start * row + blocks.start;
        let is_whole = features.start + SIDE <= self.features.matmul.out_features;
        let in_place = if is_whole {
            format.in_place(first)
        } else {
            None
        };
        assert!(self.unpacked.len() == WEIGHTS && features.len() <= SIDE);
        let unpacked = self.unpacked.as_mut_ptr().cast::<u8>();
        for r in 0..features.len() {
            let start = first + r * row;
            // SAFETY: the row has these blocks, and the buffer has room for `BLOCKS`.
            unsafe {
                if in_place.is_none() {
                    let to = unpacked.add(r * STRIDE);
                    format.unpack(s, start, blocks.len(), to, true);
                }
                format.unpack_scales(s, start, blocks.len(), scales.0[r].as_mut_ptr());
            }
        }
        let (weights, stride) = match in_place {
            Some(weights) => (weights, row * BLOCK),
            None => (unpacked.cast_const(), STRIDE),
        };
        Strip {
            weights,
            stride,
            scales: scales.0.as_ptr().cast(),
        }
    }

    /// Adds the terms of some blocks to the partial sums, and prefetches the rows from `next` on,
    /// one for each lane.
    #[inline(always)]
    fn multiply<S: Int8>(
        &self,
        s: S,
        tiles: &ByteTiles,
        strip: Strip,
        next: usize,
        blocks: Range<usize>,
        sums: &mut Sums<S>,
    ) {
        let Features {
            format,
            extent,
            packed,
            blocks: row,
            ..
        } = self.features;
        let tile = Tile::at::<S>(extent, packed, 0);
        let count = blocks.len();
        let lanes = SIDE.min(count);
        let mut room = Room::EMPTY;
        // SAFETY: the strip and the tile have these blocks; each half of the room is written before
        // it is read.
        unsafe {
            let x = tile.quants.add(blocks.start * BLOCK * SIDE);
            multiply_lane(tiles, strip, x, 0, count, room.at(0));
            for lane in 0..lanes {
                if lane + 1 < lanes {
                    multiply_lane(tiles, strip, x, lane + 1, count, room.at(lane + 1));
                }
                let ahead = (next + lane) * row + blocks.start;
                format.prefetch(s, ahead, count, 0);
                let mut acc = [s.splat(0.0); SIDE];
                if blocks.start > 0 {
                    acc = sums[lane];
                }
                let dots = room.at(lane).cast_const().cast::<Dots>();
                let scales = strip.scales.add(lane);
                let own = tile.scales.add((blocks.start + lane) * SIDE);
                add(s, &mut acc, dots, (scales, BLOCKS), s.load(own));
                if lane + SIDE < count {
                    let (scales, own) = (scales.add(SIDE), own.add(SIDE * SIDE));
                    add(s, &mut acc, dots.add(1), (scales, BLOCKS), s.load(own));
                }
                sums[lane] = acc;
            }
        }
    }
}

/// Multiplies the one or two blocks of a lane.
///
/// # Safety
/// The strip and the activations have the blocks.
#[inline(always)]
unsafe fn multiply_lane(
    tiles: &ByteTiles,
    strip: Strip,
    x: *const u8,
    lane: usize,
    count: usize,
    dots: *mut [Dots; 2],
) {
    let second = if lane + SIDE < count {
        lane + SIDE
    } else {
        lane
    };
    // SAFETY: the caller promises the blocks.
    unsafe {
        tiles.multiply(
            [
                strip.weights.add(lane * BLOCK),
                strip.weights.add(second * BLOCK),
            ],
            strip.stride,
            [x.add(lane * BLOCK * SIDE), x.add(second * BLOCK * SIDE)],
            dots,
        );
    }
}
