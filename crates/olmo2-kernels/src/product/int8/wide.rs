//! Up to 16 rows of activations, lanes are rows: four rows of weights at a time are unpacked into
//! a buffer of the first-level cache, and broadcast four bytes at a time.

use super::activations::{Extent, PackTiles, Tile};
use super::format::{Format, GROUPS};
use super::{Data, Matrix, Out};
use crate::buffer::{Scratch, SharedMut, with_scratch};
use crate::pool;
use crate::product::Input;
use crate::quant::BLOCK;
use crate::simd::{Int8, Kernel, dispatch};
use std::cell::RefCell;
use std::ops::Range;

/// Rows of weights in the buffer.
const ROWS: usize = 4;
/// Blocks of each: 4 rows of 2048 bytes.
const BLOCKS: usize = 64;
/// Apart in the buffer, so that rows do not fall on one set of the cache.
const STRIDE: usize = BLOCKS * BLOCK + 64;
/// Rows of activations.
const LANES: usize = 16;

thread_local! {
    static PACKED: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
}

pub(super) fn project(input: &Input<'_>, matrices: &[Matrix<'_>]) {
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
        pool::run(input.parts, |part| {
            for matrix in matrices {
                let range = pool::share(matrix.product.out_features, 4, input.parts, part);
                match matrix.data {
                    Data::Eight(format) => run(input, packed, format, matrix, range),
                    Data::Four(format) => run(input, packed, format, matrix, range),
                }
            }
        });
    });
}

fn run<F: Format>(
    input: &Input<'_>,
    packed: &[f32],
    format: F,
    matrix: &Matrix<'_>,
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
        out: Out {
            product: matrix.product,
        },
    };
    dispatch(input.level, features);
}

/// The outputs of one thread. `format` has `blocks` blocks of each row as far as `range` reaches,
/// `packed` the tiles of 16 rows.
struct Features<'a, F> {
    format: F,
    packed: *const f32,
    extent: Extent,
    rows: usize,
    blocks: usize,
    range: Range<usize>,
    out: Out<'a>,
}

/// Some blocks of four rows of weights.
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
        for n in self.range.clone().step_by(ROWS) {
            let count = ROWS.min(self.range.end - n);
            let mut sums = [[[s.splat(0.0); GROUPS]; ROWS]; LANES / 4];
            for first in (0..self.blocks).step_by(BLOCKS) {
                let blocks = first..self.blocks.min(first + BLOCKS);
                self.fill(s, n..n + count, blocks.clone(), &mut buffer);
                for tile in 0..LANES / S::LANES {
                    if tile * S::LANES < self.rows {
                        self.multiply(s, &buffer, tile, blocks.clone(), &mut sums[tile]);
                    }
                }
            }
            for tile in 0..self.rows.div_ceil(S::LANES) {
                for r in 0..count {
                    self.finish(s, sums[tile][r], tile * S::LANES, n + r);
                }
            }
        }
    }
}

impl<F: Format> Features<'_, F> {
    /// Unpacks blocks of some rows; the scales that fill up the last step are 0.
    #[inline(always)]
    fn fill<S: Int8>(&self, s: S, features: Range<usize>, blocks: Range<usize>, to: &mut Buffer) {
        for (r, n) in features.enumerate() {
            let start = n * self.blocks + blocks.start;
            // SAFETY: the row has these blocks; the buffer takes `BLOCKS`, a multiple of a step.
            unsafe {
                self.format
                    .unpack(s, start, blocks.len(), to.weights[r].as_mut_ptr());
                for b in 0..blocks.len() {
                    to.scales[r][b] = self.format.scale(start + b);
                }
            }
            to.scales[r][blocks.len()..].fill(0.0);
        }
    }

    /// Adds the terms of some blocks, for one tile of activation rows.
    #[inline(always)]
    fn multiply<S: Int8>(
        &self,
        s: S,
        buffer: &Buffer,
        tile: usize,
        blocks: Range<usize>,
        sums: &mut [[S::V; GROUPS]; ROWS],
    ) {
        let tile = Tile::at::<S>(self.extent, self.packed, tile);
        let mut partial = *sums;
        for b in (0..blocks.len()).step_by(S::GROUPS) {
            for g in 0..S::GROUPS {
                let at = blocks.start + b + g;
                // SAFETY: the tile has its blocks rounded up to a step, and so has the buffer.
                unsafe {
                    let start = match F::is_biased::<S>() {
                        true => s.load_ints(tile.sums.add(at * S::LANES)),
                        false => s.zero_ints(),
                    };
                    let mut dots = [start; ROWS];
                    let weights = buffer.weights.as_ptr().cast::<u8>().add((b + g) * BLOCK);
                    let quants = tile.quants.add(at * BLOCK * S::LANES);
                    for j in 0..BLOCK / 4 {
                        let a = s.load_bytes(quants.add(j * 4 * S::LANES));
                        for r in 0..ROWS {
                            let w = s.broadcast_bytes(weights.add(r * STRIDE + 4 * j));
                            dots[r] = F::dot(s, dots[r], w, a);
                        }
                    }
                    let scales = s.load(tile.scales.add(at * S::LANES));
                    for r in 0..ROWS {
                        let scale = s.splat(*buffer.scales[r].as_ptr().add(b + g));
                        let scales = s.mul(scale, scales);
                        partial[r][g] = s.fma(s.to_floats(dots[r]), scales, partial[r][g]);
                    }
                }
            }
        }
        *sums = partial;
    }

    /// Adds up the partial sums as [`Int8::sum_groups`] does, and writes them.
    #[inline(always)]
    fn finish<S: Int8>(&self, s: S, sums: [S::V; GROUPS], row: usize, feature: usize) {
        let sum = match S::GROUPS {
            1 => sums[0],
            2 => s.add(sums[0], sums[1]),
            _ => s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])),
        };
        let mut lanes = [0.0; LANES];
        // SAFETY: a vector has at most 16 elements.
        unsafe { s.store(lanes.as_mut_ptr(), sum) };
        for (lane, sum) in lanes[..S::LANES].iter().enumerate() {
            if row + lane < self.rows {
                self.out.set(row + lane, feature, *sum);
            }
        }
    }
}
