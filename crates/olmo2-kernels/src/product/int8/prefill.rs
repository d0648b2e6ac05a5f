//! Many rows of activations: lanes are rows, packed once in tiles. Weights are unpacked into a
//! panel in the second-level cache and broadcast four bytes at a time, or multiplied by AMX
//! (`tiles`). An output is one sum over blocks in order, so a row's bits do not depend on the rows
//! beside it.

use super::Blocks;
use super::activations::{Extent, PackTiles, Tile};
use super::format::Format;
use crate::buffer::{Scratch, SharedMut, with_scratch};
use crate::pool;
use crate::product::finish::Epilogue;
use crate::product::prefill::{PANEL_ROWS, SCHEDULE_ROWS};
use crate::product::{Input, MAX_LANES as LANES, Matmul, PACKED_ROWS, jobs, pieces};
use crate::quant::BLOCK;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Amx, dispatch_tiles};
use crate::simd::{Int8, Kernel, dispatch};
use std::cell::RefCell;
use std::ops::Range;

/// Blocks of a panel row: 96 rows of 2048 bytes are 192 KB.
pub(super) const BLOCKS: usize = 64;
/// Distance of rows in the panel, so that they do not fall on one set of the cache.
pub(super) const STRIDE: usize = BLOCKS * BLOCK + 64;
/// Words of a panel: weights, then scales `[PANEL_ROWS, BLOCKS]`.
const PANEL: usize = PANEL_ROWS * (STRIDE / 4 + BLOCKS);

thread_local! {
    static PACKED: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
    static PANELS: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
}

pub(super) fn matmul(input: &Input<'_>, matmuls: &[Matmul<'_>]) {
    let extent = Extent::new(input.blocks());
    for first in (0..input.rows).step_by(PACKED_ROWS) {
        let rows = first..input.rows.min(first + PACKED_ROWS);
        let padded = rows.len().next_multiple_of(LANES);
        with_scratch(&PACKED, padded * extent.words(), |packed| {
            pack(input, extent, rows.clone(), packed);
            let packed = &*packed;
            let jobs = jobs(input, matmuls);
            let features = jobs.iter().map(|(matmul, _)| matmul.out_features);
            pieces::run_by(input.parts, SCHEDULE_ROWS, &features, |i, range| {
                let (matmul, gate) = jobs[i];
                let epilogue = Epilogue::new(jobs[i], &rows, padded);
                let formats = (Blocks::of(matmul), gate.map(Blocks::of));
                multiply(input, packed, formats, epilogue, range);
            });
        });
    }
}

fn multiply(
    input: &Input<'_>,
    packed: &[f32],
    formats: (Blocks<'_>, Option<Blocks<'_>>),
    epilogue: Epilogue<'_>,
    range: Range<usize>,
) {
    match formats {
        (Blocks::Q8(up), None) => run(input, packed, (up, None), epilogue, range),
        (Blocks::Q4(up), None) => run(input, packed, (up, None), epilogue, range),
        (Blocks::Q8(up), Some(Blocks::Q8(gate))) => {
            run(input, packed, (up, Some(gate)), epilogue, range);
        }
        (Blocks::Q4(up), Some(Blocks::Q4(gate))) => {
            run(input, packed, (up, Some(gate)), epilogue, range);
        }
        _ => unreachable!("a gate is in the format of what it is multiplied with"),
    }
}

fn pack(input: &Input<'_>, extent: Extent, rows: Range<usize>, packed: &mut [f32]) {
    let k = input.in_features;
    let tiles = rows.len().div_ceil(LANES);
    let words = LANES * extent.words();
    let x = &input.x[rows.start * k..rows.end * k];
    let to = SharedMut::new(packed);
    let parts = input.parts.min(tiles);
    pool::run(parts, |part| {
        for tile in pool::share(tiles, 1, parts, part) {
            let tiles = PackTiles {
                x: &x[tile * LANES * k..x.len().min((tile + 1) * LANES * k)],
                in_features: k,
                extent,
                to: to.part(tile * words, words),
            };
            dispatch(input.level, tiles);
        }
    });
}

fn run<F: Format>(
    input: &Input<'_>,
    packed: &[f32],
    (format, gate): (F, Option<F>),
    epilogue: Epilogue<'_>,
    range: Range<usize>,
) {
    let extent = Extent::new(input.blocks());
    let padded = epilogue.padded;
    assert_eq!(packed.len(), padded * extent.words());
    let sums = PANEL_ROWS * padded;
    with_scratch(&PANELS, PANEL + epilogue.sums() * sums, |scratch| {
        let (panel, rest) = scratch.split_at_mut(PANEL);
        let (sums, gate_sums) = rest.split_at_mut(sums);
        let (weights, scales) = panel.split_at_mut(PANEL_ROWS * STRIDE / 4);
        let panels = QuantizedPanels {
            format,
            gate,
            packed: packed.as_ptr(),
            extent,
            padded,
            blocks: input.blocks(),
            range,
            weights: weights.as_mut_ptr().cast(),
            scales,
            sums,
            gate_sums,
            epilogue,
        };
        #[cfg(target_arch = "x86_64")]
        if let Some(amx) = Amx::of(input.level) {
            return dispatch_tiles(amx, panels);
        }
        dispatch(input.level, panels);
    });
}

/// The outputs of a work item. `format` and `gate` have `blocks` blocks of each row up to the end
/// of `range`, `packed` has the tiles of `padded` rows, and `weights` points to a panel.
pub(super) struct QuantizedPanels<'a, F> {
    pub(super) format: F,
    gate: Option<F>,
    pub(super) packed: *const f32,
    pub(super) extent: Extent,
    pub(super) padded: usize,
    blocks: usize,
    range: Range<usize>,
    pub(super) weights: *mut u8,
    /// `[PANEL_ROWS][BLOCKS]`.
    pub(super) scales: &'a mut [f32],
    /// `[PANEL_ROWS][padded]`.
    pub(super) sums: &'a mut [f32],
    /// The gate's sums; empty without a gate.
    gate_sums: &'a mut [f32],
    epilogue: Epilogue<'a>,
}

/// The instructions that multiply a panel.
pub(super) trait Multiply<F: Format> {
    /// Whether the panel's weights are signed, or in the form that the format's dot product takes.
    const SIGNED: bool;
    /// Adds the panel's terms, those of some blocks, to the sums of its first `features`.
    fn multiply<S: Int8>(
        &self,
        s: S,
        panels: &mut QuantizedPanels<'_, F>,
        features: usize,
        blocks: Range<usize>,
    );
}

/// Dot products of vectors.
struct Vectors;

impl<F: Format> Multiply<F> for Vectors {
    const SIGNED: bool = false;

    #[inline(always)]
    fn multiply<S: Int8>(
        &self,
        s: S,
        panels: &mut QuantizedPanels<'_, F>,
        features: usize,
        blocks: Range<usize>,
    ) {
        let mut row = 0;
        while row + S::INT8_COLUMNS * S::LANES <= panels.padded {
            match S::INT8_COLUMNS {
                2 => panels.column::<S, 2>(s, features, row, blocks.clone()),
                _ => panels.column::<S, 1>(s, features, row, blocks.clone()),
            }
            row += S::INT8_COLUMNS * S::LANES;
        }
        while row < panels.padded {
            panels.column::<S, 1>(s, features, row, blocks.clone());
            row += S::LANES;
        }
    }
}

impl<F: Format> Kernel for QuantizedPanels<'_, F> {
    #[inline(always)]
    fn run<S: Int8>(self, s: S) {
        self.outputs(s, &Vectors);
    }
}

impl<F: Format> QuantizedPanels<'_, F> {
    /// Writes the outputs.
    #[inline(always)]
    pub(super) fn outputs<S: Int8, M: Multiply<F>>(mut self, s: S, m: &M) {
        for n in self.range.clone().step_by(PANEL_ROWS) {
            let features = n..self.range.end.min(n + PANEL_ROWS);
            if let Some(gate) = self.gate {
                self.sum(s, m, gate, features.clone());
                std::mem::swap(&mut self.sums, &mut self.gate_sums);
            }
            self.sum(s, m, self.format, features.clone());
            self.epilogue.write(s, features, self.sums, self.gate_sums);
        }
    }

    /// Computes the sums of some features of a matrix.
    #[inline(always)]
    fn sum<S: Int8, M: Multiply<F>>(&mut self, s: S, m: &M, format: F, features: Range<usize>) {
        for first in (0..self.blocks).step_by(BLOCKS) {
            let blocks = first..self.blocks.min(first + BLOCKS);
            self.fill::<S, M>(s, format, features.clone(), blocks.clone());
            m.multiply(s, self, features.len(), blocks);
        }
    }

    /// Unpacks some blocks of some rows into the panel.
    #[inline(always)]
    fn fill<S: Int8, M: Multiply<F>>(
        &mut self,
        s: S,
        format: F,
        features: Range<usize>,
        blocks: Range<usize>,
    ) {
        for (n, scales) in features.clone().zip(self.scales.chunks_exact_mut(BLOCKS)) {
            let start = n * self.blocks + blocks.start;
            let row = n - features.start;
            // SAFETY: the row has these blocks; a row of the panel takes `BLOCKS`, a multiple of a
            // step.
            unsafe {
                let to = self.weights.add(row * STRIDE);
                format.unpack(s, start, blocks.len(), to, M::SIGNED);
                format.unpack_scales(s, start, blocks.len(), scales.as_mut_ptr());
            }
        }
    }

    /// The tiles of `C` vectors of activation rows from `row`.
    #[inline(always)]
    fn column<S: Int8, const C: usize>(
        &mut self,
        s: S,
        features: usize,
        row: usize,
        blocks: Range<usize>,
    ) {
        let mut n = 0;
        while S::INT8_ROWS == 6 && features - n >= 6 {
            self.tile::<S, 6, C>(s, n, row, blocks.clone());
            n += 6;
        }
        while features - n >= 4 {
            self.tile::<S, 4, C>(s, n, row, blocks.clone());
            n += 4;
        }
        while features - n >= 1 {
            self.tile::<S, 1, C>(s, n, row, blocks.clone());
            n += 1;
        }
    }

    /// Adds a panel's terms to the sums of `R` features from `n`, for `C` vectors of rows.
    #[inline(always)]
    fn tile<S: Int8, const R: usize, const C: usize>(
        &mut self,
        s: S,
        n: usize,
        row: usize,
        blocks: Range<usize>,
    ) {
        let (padded, count) = (self.padded, blocks.len());
        assert!(n + R <= PANEL_ROWS && row + C * S::LANES <= padded && count <= BLOCKS);
        assert!(self.sums.len() == PANEL_ROWS * padded);
        let mut tiles = [Tile::at::<S>(self.extent, self.packed, 0); C];
        for c in 0..C {
            tiles[c] = Tile::at::<S>(self.extent, self.packed, row / S::LANES + c);
        }
        // SAFETY: the tiles have all blocks, and by the assertions the panel and the sums have
        // these rows.
        unsafe {
            let sums = self.sums.as_mut_ptr().add(n * padded + row);
            let mut acc = [[s.splat(0.0); C]; R];
            if blocks.start > 0 {
                for r in 0..R {
                    for c in 0..C {
                        acc[r][c] = s.load(sums.add(r * padded + c * S::LANES));
                    }
                }
            }
            let weights = self.weights.add(n * STRIDE);
            let scales = self.scales.as_ptr().add(n * BLOCKS);
            for b in 0..count {
                let at = blocks.start + b;
                let weights = weights.add(b * BLOCK);
                let dots = block::<S, F, R, C>(s, weights, &tiles, at);
                for c in 0..C {
                    let own = s.load(tiles[c].scales.add(at * S::LANES));
                    for r in 0..R {
                        let scale = s.mul(s.splat(*scales.add(r * BLOCKS + b)), own);
                        acc[r][c] = s.fma(s.to_floats(dots[r][c]), scale, acc[r][c]);
                    }
                }
            }
            for r in 0..R {
                for c in 0..C {
                    s.store(sums.add(r * padded + c * S::LANES), acc[r][c]);
                }
            }
        }
    }
}

/// The exact dot products of a block of `R` rows of the panel with block `at` of `C` tiles.
///
/// # Safety
/// All of them have the block.
#[inline(always)]
unsafe fn block<S: Int8, F: Format, const R: usize, const C: usize>(
    s: S,
    weights: *const u8,
    tiles: &[Tile; C],
    at: usize,
) -> [[S::I; C]; R] {
    // SAFETY: the caller promises the block.
    unsafe {
        let mut start = [s.zero_ints(); C];
        if F::is_biased::<S>() {
            for c in 0..C {
                start[c] = s.load_ints(tiles[c].sums.add(at * S::LANES));
            }
        }
        let mut dots = [start; R];
        for j in 0..BLOCK / 4 {
            let mut a = [s.load_bytes(tiles[0].quants.add((at * 8 + j) * 4 * S::LANES)); C];
            for c in 1..C {
                a[c] = s.load_bytes(tiles[c].quants.add((at * 8 + j) * 4 * S::LANES));
            }
            for r in 0..R {
                let w = s.broadcast_bytes(weights.add(r * STRIDE + 4 * j));
                for c in 0..C {
                    dots[r][c] = F::dot(s, dots[r][c], w, a[c]);
                }
            }
        }
        dots
    }
}
