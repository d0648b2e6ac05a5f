//! Activations in 8 bits: blocks of 32 along `in`, each scaled by its largest magnitude over 127.
//!
//! Two layouts: rows, for kernels whose lanes run along `in`, and tiles of `LANES` rows, for
//! those whose lanes are rows. Both hold the same numbers.

use super::format::GROUPS;
use crate::buffer::SharedMut;
use crate::quant::BLOCK;
use crate::simd::{Int8, Kernel};

/// Added and taken away again, it rounds to an integer, ties to even.
const ROUND: f32 = 12_582_912.0;

/// A block's numbers, their scale and their sum. A block with a number that is infinite or none
/// gets a scale that is so too, and with it every output of the row.
#[inline(always)]
fn quantise(x: &[f32; BLOCK], to: &mut [i8; BLOCK]) -> (f32, i32) {
    // Magnitudes order like their bits, and what is not a number comes last.
    let magnitudes = x.map(|x| x.to_bits() & 0x7fff_ffff);
    let largest = f32::from_bits(magnitudes.into_iter().fold(0, u32::max));
    let inverse = if largest > 0.0 {
        (127.0 / largest).min(f32::MAX)
    } else {
        0.0
    };
    let mut sum = 0;
    for (to, x) in to.iter_mut().zip(x) {
        let q = (x * inverse + ROUND)
            .to_bits()
            .wrapping_sub(ROUND.to_bits()) as i8;
        *to = q;
        sum += i32::from(q);
    }
    (largest / 127.0, sum)
}

/// Block `b` of a row, filled up with zeros.
#[inline(always)]
fn block(row: &[f32], b: usize) -> [f32; BLOCK] {
    let from = &row[row.len().min(b * BLOCK)..row.len().min((b + 1) * BLOCK)];
    match from.try_into() {
        Ok(block) => block,
        Err(_) => {
            let mut block = [0.0; BLOCK];
            block[..from.len()].copy_from_slice(from);
            block
        }
    }
}

/// Lengths of one row's arrays, in 4-byte words: blocks rounded up to a step of any level.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    blocks: usize,
}

impl Extent {
    pub(super) fn new(blocks: usize) -> Self {
        Self {
            blocks: blocks.next_multiple_of(GROUPS),
        }
    }

    /// Words of one row: quants, then sums, then scales.
    pub(super) fn words(self) -> usize {
        self.blocks * (BLOCK / 4 + 2)
    }
}

/// One row: quants in steps of `GROUPS` blocks, lower halves before upper ones; sums times minus
/// [`Int8::BIAS`], and scales, by block.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) quants: *const u8,
    pub(super) sums: *const i32,
    pub(super) scales: *const f32,
}

impl Row {
    /// The row in its `words`.
    pub(super) fn at(extent: Extent, words: *const f32) -> Self {
        let sums = words.wrapping_add(extent.blocks * BLOCK / 4);
        Self {
            quants: words.cast(),
            sums: sums.cast(),
            scales: sums.wrapping_add(extent.blocks),
        }
    }
}

/// Writes one [`Row`].
pub(super) struct PackRow<'a> {
    pub(super) x: &'a [f32],
    pub(super) extent: Extent,
    pub(super) words: &'a mut [f32],
}

impl Kernel for PackRow<'_> {
    #[inline(always)]
    fn run<S: Int8>(self, _: S) {
        let padded = self.extent.blocks;
        assert_eq!(self.words.len(), self.extent.words());
        let (quants, rest) = self.words.split_at_mut(padded * BLOCK / 4);
        let (sums, scales) = rest.split_at_mut(padded);
        // SAFETY: as many bytes as the words have; any bits are a byte.
        let quants = unsafe {
            std::slice::from_raw_parts_mut(quants.as_mut_ptr().cast::<i8>(), padded * BLOCK)
        };
        for b in 0..padded {
            let mut q = [0; BLOCK];
            let (scale, sum) = quantise(&block(self.x, b), &mut q);
            let at = b / S::GROUPS * S::GROUPS * BLOCK + b % S::GROUPS * 16;
            quants[at..at + 16].copy_from_slice(&q[..16]);
            let at = at + 16 * S::GROUPS;
            quants[at..at + 16].copy_from_slice(&q[16..]);
            sums[b] = f32::from_bits((-S::BIAS * sum) as u32);
            scales[b] = scale;
        }
    }
}

/// `LANES` rows: quants `[blocks, 8, LANES, 4]`, then sums times minus the bias and scales
/// `[blocks, LANES]`.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub(super) quants: *const u8,
    pub(super) sums: *const i32,
    pub(super) scales: *const f32,
}

impl Tile {
    /// The `index`-th tile of those that are packed at `words`.
    #[inline(always)]
    pub(super) fn at<S: Int8>(extent: Extent, words: *const f32, index: usize) -> Self {
        let words = words.wrapping_add(index * S::LANES * extent.words());
        let sums = words.wrapping_add(extent.blocks * S::LANES * BLOCK / 4);
        Self {
            quants: words.cast(),
            sums: sums.cast(),
            scales: sums.wrapping_add(extent.blocks * S::LANES),
        }
    }
}

/// Writes the [`Tile`]s of up to 16 rows of `in_features` at the room for 16 rows at `to`; rows
/// that are not there are zeros.
pub(super) struct PackTiles<'a> {
    pub(super) x: &'a [f32],
    pub(super) in_features: usize,
    pub(super) extent: Extent,
    pub(super) to: SharedMut<'a>,
}

impl Kernel for PackTiles<'_> {
    #[inline(always)]
    fn run<S: Int8>(self, s: S) {
        let (extent, k) = (self.extent, self.in_features);
        let to = self.to.at(0, 16 * extent.words());
        let rows: Vec<&[f32]> = self.x.chunks_exact(k).collect();
        // Two blocks of each row, as words, to be transposed into the tile.
        let mut q = [[[0_i8; BLOCK]; 2]; 16];
        for tile in 0..16 / S::LANES {
            let Tile {
                quants,
                sums,
                scales,
            } = Tile::at::<S>(extent, to, tile);
            for b in 0..extent.blocks {
                for lane in 0..S::LANES {
                    let row = rows.get(tile * S::LANES + lane).copied().unwrap_or(&[]);
                    let (scale, sum) = quantise(&block(row, b), &mut q[lane][b % 2]);
                    // SAFETY: the tile has `LANES` sums and scales for each of its blocks.
                    unsafe {
                        *sums.cast_mut().add(b * S::LANES + lane) = -S::BIAS * sum;
                        *scales.cast_mut().add(b * S::LANES + lane) = scale;
                    }
                }
                if b % 2 == 0 {
                    continue;
                }
                for j in (0..2 * BLOCK / 4).step_by(S::LANES) {
                    // SAFETY: words `j` to `j + LANES` of `LANES` rows of `q` go to as many
                    // vectors of the two blocks, which the tile has.
                    unsafe {
                        let from = q.as_ptr().cast::<f32>().add(j);
                        let at = (b - 1) * 8 + j;
                        let to = quants.cast::<f32>().cast_mut().add(at * S::LANES);
                        s.transpose(from, 2 * BLOCK / 4, to, S::LANES);
                    }
                }
            }
        }
    }
}
