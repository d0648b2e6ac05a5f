//! Up to 16 rows of activations, lanes are rows: eight rows of weights at a time are unpacked into
//! a buffer in the first-level cache and broadcast four bytes at a time. With AMX, 16 rows of
//! weights are multiplied in [tiles](super::wide_tiles).

use super::Blocks;
use super::activations::{Extent, PackTiles, Tile};
use super::format::Format;
use super::wide_features::Features;
#[cfg(target_arch = "x86_64")]
use super::wide_tiles;
use crate::buffer::{Scratch, SharedMut, with_scratch};
use crate::level::Level;
use crate::product::{Input, MAX_LANES as LANES, Matmul, pieces};
use crate::quant::BLOCK;
#[cfg(target_arch = "x86_64")]
use crate::simd::Amx;
use crate::simd::{Int8, Kernel, dispatch};
use std::cell::RefCell;
use std::ops::Range;

/// Rows of weights in the buffer.
const ROWS: usize = 8;
/// Blocks of each row: 8 rows of 1024 bytes.
const BLOCKS: usize = 32;
/// The prefetches of a row are split into parts, one for each block that is multiplied.
const PARTS: usize = BLOCKS / ROWS;
/// Blocks of a part.
const PART: usize = BLOCKS / PARTS;
/// Distance of rows in the buffer, so that they do not fall on one set of the cache.
const STRIDE: usize = BLOCKS * BLOCK + 64;

thread_local! {
    static PACKED: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
}

pub(super) fn matmul(input: &Input<'_>, matmuls: &[Matmul<'_>]) {
    let extent = Extent::new(input.blocks());
    with_scratch(&PACKED, LANES * extent.words(), |packed| {
        let tiles = PackTiles {
            x: input.x,
            in_features: input.in_features,
            extent,
            to: SharedMut::new(packed),
        };
        dispatch(input.level, tiles);
        let packed = &*packed;
        let features = matmuls.iter().map(|matmul| matmul.out_features);
        let at_a_time = match input.level {
            Level::Amx => LANES,
            _ => ROWS,
        };
        pieces::run_by(input.parts, at_a_time, &features, |i, range| {
            let matmul = &matmuls[i];
            match Blocks::of(matmul) {
                Blocks::Q8(format) => run(input, packed, format, matmul, range),
                Blocks::Q4(format) => run(input, packed, format, matmul, range),
            }
        });
    });
}

fn run<F: Format>(
    input: &Input<'_>,
    packed: &[f32],
    format: F,
    matmul: &Matmul<'_>,
    range: Range<usize>,
) {
    let extent = Extent::new(input.blocks());
    assert_eq!(packed.len(), LANES * extent.words());
    let features = Features {
        format,
        packed: packed.as_ptr(),
        extent,
        rows: input.rows,
        blocks: input.blocks(),
        range,
        matmul,
    };
    #[cfg(target_arch = "x86_64")]
    if let Some(amx) = Amx::of(input.level) {
        return wide_tiles::run(amx, features);
    }
    dispatch(input.level, features);
}

/// Some blocks of some rows of weights.
#[repr(C, align(64))]
struct Buffer {
    weights: [[u8; STRIDE]; ROWS],
    scales: [[f32; BLOCKS]; ROWS],
}

impl<F: Format> Kernel for Features<'_, F> {
    #[inline(always)]
    fn run<S: Int8>(self, s: S) {
        let mut buffer = Buffer {
            weights: [[0; STRIDE]; ROWS],
            scales: [[0.0; BLOCKS]; ROWS],
        };
        let tiles = self.rows.div_ceil(S::LANES);
        for n in self.range.clone().step_by(ROWS) {
            let count = ROWS.min(self.range.end - n);
            // `[lane][row of weights]` of each tile.
            let mut sums = [[s.splat(0.0); ROWS]; LANES];
            for first in (0..self.blocks).step_by(BLOCKS) {
                let blocks = first..self.blocks.min(first + BLOCKS);
                self.fill(s, n..n + count, blocks.clone(), &mut buffer);
                for tile in 0..tiles {
                    let next = (n + ROWS) * self.blocks + blocks.start;
                    let ahead = (tile == 0).then_some(next);
                    let sums = &mut sums[tile * S::LANES..][..S::LANES];
                    self.multiply(s, &buffer, tile, blocks.clone(), sums, ahead);
                }
            }
            for tile in 0..tiles {
                let sums = &mut sums[tile * S::LANES..][..S::LANES];
                self.epilogue(s, sums, tile * S::LANES, n..n + count);
            }
        }
    }
}

impl<F: Format> Features<'_, F> {
    /// Unpacks blocks of some rows.
    #[inline(always)]
    fn fill<S: Int8>(&self, s: S, features: Range<usize>, blocks: Range<usize>, to: &mut Buffer) {
        for (r, n) in features.enumerate() {
            let start = n * self.blocks + blocks.start;
            // SAFETY: the row has these blocks; the buffer takes `BLOCKS`, a multiple of a step.
            unsafe {
                self.format
                    .unpack(s, start, blocks.len(), to.weights[r].as_mut_ptr(), false);
                let scales = to.scales[r].as_mut_ptr();
                self.format.unpack_scales(s, start, blocks.len(), scales);
            }
        }
    }

    /// Adds the terms of some blocks to the partial sums `[lane][row]` of one tile of activation
    /// rows, and prefetches the following rows of weights from block `ahead` on.
    #[inline(always)]
    fn multiply<S: Int8>(
        &self,
        s: S,
        buffer: &Buffer,
        tile: usize,
        blocks: Range<usize>,
        sums: &mut [[S::V; ROWS]],
        ahead: Option<usize>,
    ) {
        let tile = Tile::at::<S>(self.extent, self.packed, tile);
        for b in 0..blocks.len() {
            if let Some(ahead) = ahead {
                // A part of a row for each block.
                let (row, part) = (b / PARTS, b % PARTS);
                let next = ahead + row * self.blocks + part * PART;
                self.format.prefetch(s, next, PART, 0);
            }
            let sums = &mut sums[b % S::LANES];
            // SAFETY: both have the block.
            unsafe { self.block(s, buffer, b, &tile, blocks.start + b, sums) };
        }
    }

    /// Adds the terms of block `b` of the buffer and `at` of the tile.
    ///
    /// # Safety
    /// Both exist.
    #[inline(always)]
    unsafe fn block<S: Int8>(
        &self,
        s: S,
        buffer: &Buffer,
        b: usize,
        tile: &Tile,
        at: usize,
        sums: &mut [S::V; ROWS],
    ) {
        // SAFETY: the caller promises both.
        unsafe {
            let start = match F::is_biased::<S>() {
                true => s.load_ints(tile.sums.add(at * S::LANES)),
                false => s.zero_ints(),
            };
            let mut dots = [start; ROWS];
            let weights = buffer.weights.as_ptr().cast::<u8>().add(b * BLOCK);
            let quants = tile.quants.add(at * BLOCK * S::LANES);
            for j in 0..BLOCK / 4 {
                let a = s.load_bytes(quants.add(j * 4 * S::LANES));
                for r in 0..ROWS {
                    let w = s.broadcast_bytes(weights.add(r * STRIDE + 4 * j));
                    dots[r] = F::dot(s, dots[r], w, a);
                }
            }
            let own = s.load(tile.scales.add(at * S::LANES));
            for r in 0..ROWS {
                let scale = s.mul(s.splat(*buffer.scales[r].as_ptr().add(b)), own);
                sums[r] = s.fma(s.to_floats(dots[r]), scale, sums[r]);
            }
        }
    }
}
