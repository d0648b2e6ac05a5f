//! Activations in 8 bits: blocks of 32 along `in`, each scaled by its largest magnitude over 127. A
//! block with a value that is infinite or NaN has the scale NaN, which makes every output of the
//! row NaN.
//!
//! Two layouts: rows, for kernels whose lanes run along `in`, and tiles of `LANES` rows, for
//! kernels whose lanes are rows. Both hold the same values.

use crate::buffer::SharedMut;
use crate::product::MAX_LANES as LANES;
use crate::quant::BLOCK;
use crate::simd::{Int8, Kernel};

/// Lanes of the shortest vector of any level.
const MIN_LANES: usize = 4;

/// The largest magnitude of some values so far.
#[derive(Clone, Copy)]
struct MaxAbs<V> {
    max_abs: V,
    /// 0, or NaN after a value that is infinite or NaN.
    poison: V,
}

impl<V: Copy> MaxAbs<V> {
    #[inline(always)]
    fn new<S: Int8<V = V>>(s: S) -> Self {
        let zero = s.splat(0.0);
        Self {
            max_abs: zero,
            poison: zero,
        }
    }

    #[inline(always)]
    fn add<S: Int8<V = V>>(&mut self, s: S, x: V) {
        let max_abs = s.max(x, s.sub(s.splat(0.0), x));
        self.max_abs = s.max(self.max_abs, max_abs);
        self.poison = s.fma(x, s.splat(0.0), self.poison);
    }

    /// The scale, and the factor that quantizes.
    #[inline(always)]
    fn scales<S: Int8<V = V>>(&self, s: S) -> (V, V) {
        let scale = s.div(self.max_abs, s.splat(127.0));
        let inverse = s.div(s.splat(127.0), self.max_abs);
        // For blocks of zeros, and of values so small that the inverse overflows.
        let inverse = s.min(inverse, s.splat(f32::MAX));
        (s.add(scale, self.poison), inverse)
    }
}

/// The lengths of one row's arrays in 4-byte words. Blocks are rounded up to the lanes of any
/// level.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    blocks: usize,
}

impl Extent {
    pub(super) fn new(blocks: usize) -> Self {
        Self {
            blocks: blocks.next_multiple_of(LANES),
        }
    }

    /// Words of one row: quants, then sums, then scales.
    pub(super) fn words(self) -> usize {
        self.blocks * (BLOCK / 4 + 2)
    }
}

/// One row: quants in groups of `GROUPS` blocks, lower halves before upper ones; then, for each
/// block, the sum times minus [`Int8::BIAS`], and the scale.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) quants: *const u8,
    pub(super) sums: *const i32,
    pub(super) scales: *const f32,
}

impl Row {
    /// The row that `words` points to.
    #[inline(always)]
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
    pub(super) words: SharedMut<'a>,
}

impl Kernel for PackRow<'_> {
    #[inline(always)]
    fn run<S: Int8>(self, s: S) {
        let row = Row::at(self.extent, self.words.at(0, self.extent.words()));
        let whole = self.x.len() / BLOCK;
        for b in 0..self.extent.blocks {
            let mut last = [0.0; BLOCK];
            let from = match b < whole {
                true => self.x[b * BLOCK..][..BLOCK].as_ptr(),
                false => {
                    let rest = &self.x[self.x.len().min(b * BLOCK)..];
                    last[..rest.len()].copy_from_slice(rest);
                    last.as_ptr()
                }
            };
            let at = b / S::GROUPS * S::GROUPS * BLOCK + b % S::GROUPS * 16;
            // SAFETY: `from` points to a block; the row's words hold all its blocks.
            unsafe {
                let quants = row.quants.cast_mut().add(at);
                let (scale, sum) = quantize(s, from, [quants, quants.add(16 * S::GROUPS)]);
                *row.sums.cast_mut().add(b) = sum.wrapping_mul(-S::BIAS);
                *row.scales.cast_mut().add(b) = scale;
            }
        }
    }
}

/// Quantizes a block into its lower and upper half; returns its scale and the sum of the quants.
///
/// # Safety
/// 32 values are valid at `x`, and 16 bytes at each half.
#[inline(always)]
unsafe fn quantize<S: Int8>(s: S, x: *const f32, halves: [*mut u8; 2]) -> (f32, i32) {
    let mut x_vectors = [s.splat(0.0); BLOCK / MIN_LANES];
    let count = BLOCK / S::LANES;
    let mut max_abs = MaxAbs::new(s);
    for i in 0..count {
        // SAFETY: the caller promises 32 values.
        x_vectors[i] = unsafe { s.load(x.add(i * S::LANES)) };
        max_abs.add(s, x_vectors[i]);
    }
    let whole = MaxAbs {
        max_abs: s.splat(s.max_element(max_abs.max_abs)),
        poison: s.splat(s.sum(max_abs.poison)),
    };
    let (scale, inverse) = whole.scales(s);
    let mut sum = s.zero_ints();
    for i in 0..count {
        let q = s.to_ints(s.mul(x_vectors[i], inverse));
        sum = s.add_ints(sum, q);
        let at = i * S::LANES;
        // SAFETY: `LANES` divides 16, so the vector falls in one half.
        unsafe { s.store_lowest(halves[at / 16].add(at % 16), q) };
    }
    (s.max_element(scale), s.sum(s.to_floats(sum)) as i32)
}

/// `LANES` rows: quants `[blocks, 8, LANES, 4]`, then sums times minus [`Int8::BIAS`] and scales
/// `[blocks, LANES]`.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub(super) quants: *const u8,
    pub(super) sums: *const i32,
    pub(super) scales: *const f32,
}

impl Tile {
    /// The `index`-th of the tiles packed at `words`.
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

/// Writes the [`Tile`]s of up to 16 rows of `in_features` values. `to` has room for 16 rows;
/// missing rows are written as zeros.
pub(super) struct PackTiles<'a> {
    pub(super) x: &'a [f32],
    pub(super) in_features: usize,
    pub(super) extent: Extent,
    pub(super) to: SharedMut<'a>,
}

impl Kernel for PackTiles<'_> {
    #[inline(always)]
    fn run<S: Int8>(self, s: S) {
        let to = self.to.at(0, LANES * self.extent.words());
        let rows = self.x.len() / self.in_features;
        for tile in 0..LANES / S::LANES {
            let first = tile * S::LANES;
            let place = Tile::at::<S>(self.extent, to, tile);
            for b in 0..self.extent.blocks {
                // A block of each row, `[32, LANES]`.
                let mut columns = [0.0; BLOCK * LANES];
                let is_whole = first + S::LANES <= rows && (b + 1) * BLOCK <= self.in_features;
                if is_whole {
                    for i in (0..BLOCK).step_by(S::LANES) {
                        let from = &self.x[first * self.in_features + b * BLOCK + i..];
                        // SAFETY: `LANES` rows have the block, and `columns` has room for it.
                        unsafe {
                            let to = columns.as_mut_ptr().add(i * S::LANES);
                            s.transpose(from.as_ptr(), self.in_features, to, S::LANES);
                        }
                    }
                } else {
                    self.gather(S::LANES, first, b, &mut columns);
                }
                // SAFETY: the tile has room for all blocks of the extent.
                unsafe { quantize_columns(s, &columns, &place, b) };
            }
        }
    }
}

impl PackTiles<'_> {
    /// Copies block `b` of `lanes` rows from `first`, as far as they exist.
    fn gather(&self, lanes: usize, first: usize, b: usize, columns: &mut [f32]) {
        let rows = self
            .x
            .chunks_exact(self.in_features)
            .skip(first)
            .take(lanes);
        for (lane, row) in rows.enumerate() {
            for (i, x) in row.iter().skip(b * BLOCK).take(BLOCK).enumerate() {
                columns[i * lanes + lane] = *x;
            }
        }
    }
}

/// Quantizes block `b` of a tile from values `[32, LANES]`.
///
/// # Safety
/// The tile has block `b`.
#[inline(always)]
unsafe fn quantize_columns<S: Int8>(s: S, x: &[f32; BLOCK * LANES], tile: &Tile, b: usize) {
    let mut max_abs = MaxAbs::new(s);
    for i in 0..BLOCK {
        // SAFETY: `x` holds 32 vectors of any level.
        max_abs.add(s, unsafe { s.load(x.as_ptr().add(i * S::LANES)) });
    }
    let (scale, inverse) = max_abs.scales(s);
    let mut sum = s.zero_ints();
    // SAFETY: as above; the caller promises room in the tile.
    unsafe {
        for j in 0..BLOCK / 4 {
            let mut q = [sum; 4];
            for i in 0..4 {
                let x = s.load(x.as_ptr().add((4 * j + i) * S::LANES));
                q[i] = s.to_ints(s.mul(x, inverse));
                sum = s.add_ints(sum, q[i]);
            }
            let to = tile.quants.cast_mut().add((b * 8 + j) * 4 * S::LANES);
            s.store_bytes(to, s.interleave(q));
        }
        let at = b * S::LANES;
        s.store_ints(tile.sums.cast_mut().add(at), s.times_minus_bias(sum));
        s.store(tile.scales.cast_mut().add(at), scale);
    }
}
