//! Many rows of activations: lanes are rows, packed once in tiles of 16 as pairs of bf16. Weights
//! are copied into a panel in the second-level cache and broadcast one pair at a time.

use super::VALUES;
use super::decode::RoundRow;
use crate::buffer::{Scratch, SharedMut, with_scratch};
use crate::level::Level;
use crate::pool;
use crate::product::element::elements;
use crate::product::finish::Epilogue;
use crate::product::next_panel::{PanelPrefetch, STEP};
use crate::product::prefill::{PANEL_ROWS, SCHEDULE_ROWS, X_AHEAD};
use crate::product::{Input, MAX_LANES as LANES, Matmul, PACKED_ROWS, jobs, pieces};
#[cfg(target_arch = "x86_64")]
use crate::simd::Amx;
use crate::simd::{Bf16Dot, Bf16DotKernel, Int8, Kernel, dispatch, dispatch_bf16_dot};
use half::bf16;
use std::cell::RefCell;
use std::ops::Range;

/// Pairs of a panel row: 96 rows of 1024 pairs are 384 KB.
const PAIRS: usize = 1024;
/// Weight rows of a tile.
const TILE_ROWS: usize = 12;
/// Distance of rows in the panel, so that they do not fall on one set of the cache.
pub(super) const STRIDE: usize = PAIRS + 16;

thread_local! {
    static PACKED: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
    static PANELS: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
}

pub(super) fn matmul(input: &Input<'_>, matmuls: &[Matmul<'_>]) {
    let pairs = input.in_features.next_multiple_of(VALUES) / 2;
    for first in (0..input.rows).step_by(PACKED_ROWS) {
        let rows = first..input.rows.min(first + PACKED_ROWS);
        let padded = rows.len().next_multiple_of(LANES);
        with_scratch(&PACKED, padded * pairs, |packed| {
            pack(input, rows.clone(), pairs, packed);
            let packed = &*packed;
            let jobs = jobs(input, matmuls);
            let features = jobs.iter().map(|(matmul, _)| matmul.out_features);
            pieces::run_by(input.parts, SCHEDULE_ROWS, &features, |i, range| {
                multiply(input, packed, Epilogue::new(jobs[i], &rows, padded), range);
            });
        });
    }
}

/// Packs rows of activations as `[tile, pair, LANES]`; rows beyond the last are zero.
fn pack(input: &Input<'_>, rows: Range<usize>, pairs: usize, packed: &mut [f32]) {
    let k = input.in_features;
    let tiles = rows.len().div_ceil(LANES);
    let parts = input.parts.min(tiles);
    let to = SharedMut::new(packed);
    pool::run(parts, |part| {
        let mut rounded = vec![0.0; LANES * pairs];
        for tile in pool::share(tiles, 1, parts, part) {
            let first = rows.start + tile * LANES;
            let count = LANES.min(rows.end - first);
            for (row, to) in rounded.chunks_exact_mut(pairs).enumerate() {
                let x = &input.x[(first + row.min(count - 1)) * k..][..k];
                dispatch_bf16_dot(input.level, RoundRow { x, to });
            }
            rounded[count * pairs..].fill(0.0);
            let to = to.part(tile * LANES * pairs, LANES * pairs);
            let from = &rounded;
            dispatch(input.level, Transpose { from, pairs, to });
        }
    });
}

/// Transposes `[LANES, pairs]` to `[pairs, LANES]`; `pairs` is a multiple of 16.
struct Transpose<'a> {
    from: &'a [f32],
    pairs: usize,
    to: SharedMut<'a>,
}

impl Kernel for Transpose<'_> {
    #[inline(always)]
    fn run<S: Int8>(self, s: S) {
        assert!(S::LANES == LANES && self.from.len() == LANES * self.pairs);
        let to = self.to.at(0, LANES * self.pairs);
        for i in (0..self.pairs).step_by(LANES) {
            // SAFETY: blocks of 16 by 16 are inside both.
            unsafe {
                s.transpose(
                    self.from.as_ptr().add(i),
                    self.pairs,
                    to.add(i * LANES),
                    LANES,
                )
            };
        }
    }
}

fn multiply(input: &Input<'_>, packed: &[f32], epilogue: Epilogue<'_>, range: Range<usize>) {
    let padded = epilogue.padded;
    let pairs = input.in_features.next_multiple_of(VALUES) / 2;
    assert_eq!(packed.len(), padded * pairs);
    let (panel, sums) = (PANEL_ROWS * STRIDE, PANEL_ROWS * padded);
    with_scratch(&PANELS, panel + epilogue.sums() * sums, |scratch| {
        let (panel, rest) = scratch.split_at_mut(panel);
        let (sums, gate_sums) = rest.split_at_mut(sums);
        let panels = Bf16Panels {
            level: input.level,
            packed,
            padded,
            pairs,
            in_features: input.in_features,
            weight: elements(input, epilogue.matmul),
            gate: epilogue.gate.map(|gate| elements(input, gate)),
            range,
            next: PanelPrefetch::NOTHING,
            panel,
            sums,
            gate_sums,
            epilogue,
        };
        dispatch_bf16_dot(input.level, panels);
    });
}

/// The outputs of a work item.
pub(super) struct Bf16Panels<'a> {
    level: Level,
    pub(super) packed: &'a [f32],
    /// Rows in `packed`.
    pub(super) padded: usize,
    /// Pairs of a row in `packed`.
    pub(super) pairs: usize,
    in_features: usize,
    weight: &'a [bf16],
    gate: Option<&'a [bf16]>,
    range: Range<usize>,
    next: PanelPrefetch,
    /// `[PANEL_ROWS][STRIDE]`.
    pub(super) panel: &'a mut [f32],
    /// `[PANEL_ROWS][padded]`.
    pub(super) sums: &'a mut [f32],
    /// The gate's sums; empty without a gate.
    gate_sums: &'a mut [f32],
    epilogue: Epilogue<'a>,
}

impl Bf16DotKernel for Bf16Panels<'_> {
    #[inline(always)]
    fn run<S: Int8, P: Bf16Dot<S>>(mut self, s: S, p: P) {
        assert_eq!(S::LANES, LANES);
        for n in self.range.clone().step_by(PANEL_ROWS) {
            let features = n..self.range.end.min(n + PANEL_ROWS);
            let weight = self.weight;
            if let Some(gate) = self.gate {
                let then = &weight[n * self.in_features..];
                self.sum(s, p, [gate, then], features.clone());
                std::mem::swap(&mut self.sums, &mut self.gate_sums);
            }
            let then = &self.gate.unwrap_or(weight)[features.end * self.in_features..];
            self.sum(s, p, [weight, then], features.clone());
            self.epilogue.write(s, features, self.sums, self.gate_sums);
        }
    }
}

impl<'a> Bf16Panels<'a> {
    /// Computes the sums of some features of a weight; the panel after them has the rows of `then`.
    #[inline(always)]
    fn sum<S: Int8, P: Bf16Dot<S>>(
        &mut self,
        s: S,
        p: P,
        [weight, then]: [&'a [bf16]; 2],
        features: Range<usize>,
    ) {
        let weight = &weight[features.start * self.in_features..];
        let count = features.len();
        for first in (0..self.pairs).step_by(PAIRS) {
            let pairs = first..self.pairs.min(first + PAIRS);
            self.fill(weight, count, pairs.clone());
            self.multiply(s, p, [weight, then], count, pairs);
        }
    }

    /// Copies a block of the weight's first rows into the panel, and appends zeros to the last
    /// pairs.
    #[inline(always)]
    fn fill(&mut self, weight: &[bf16], features: usize, pairs: Range<usize>) {
        let values = 2 * pairs.start..self.in_features.min(2 * pairs.end);
        for (n, to) in (0..features).zip(self.panel.chunks_exact_mut(STRIDE)) {
            let from = &weight[n * self.in_features..][values.clone()];
            let to = to[..pairs.len()].as_mut_ptr().cast::<bf16>();
            // SAFETY: the panel's row has room for two values in each of its pairs.
            unsafe {
                std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len());
                to.add(from.len())
                    .write_bytes(0, 2 * pairs.len() - from.len());
            }
        }
    }

    /// Prefetches the weights of the next panel.
    fn panel_prefetch(
        &self,
        weights: [&[bf16]; 2],
        features: usize,
        pairs: Range<usize>,
    ) -> PanelPrefetch {
        let row = 2 * self.in_features;
        let tiles = self.padded.div_ceil(2 * LANES) * features.div_ceil(TILE_ROWS);
        PanelPrefetch::new(
            weights.map(|weight| weight.as_ptr().cast()),
            row,
            features,
            4 * pairs.start..row.min(4 * pairs.end),
            4 * PAIRS,
            tiles * pairs.len().div_ceil(STEP),
        )
    }

    /// Adds the terms of the panel, which holds the first of `weights`, to the sums of its
    /// features.
    #[inline(always)]
    fn multiply<S: Int8, P: Bf16Dot<S>>(
        &mut self,
        s: S,
        p: P,
        weights: [&[bf16]; 2],
        features: usize,
        pairs: Range<usize>,
    ) {
        #[cfg(target_arch = "x86_64")]
        if let Some(amx) = Amx::of(self.level) {
            return self.multiply_tiles(amx, features, pairs);
        }
        self.next = self.panel_prefetch(weights, features, pairs.clone());
        let mut row = 0;
        while row + 2 * LANES <= self.padded {
            self.column::<S, P, 2>(s, p, features, row, pairs.clone());
            row += 2 * LANES;
        }
        if row < self.padded {
            self.column::<S, P, 1>(s, p, features, row, pairs);
        }
    }

    /// The tiles of `C` vectors of activation rows from `row`.
    #[inline(always)]
    fn column<S: Int8, P: Bf16Dot<S>, const C: usize>(
        &mut self,
        s: S,
        p: P,
        features: usize,
        row: usize,
        pairs: Range<usize>,
    ) {
        let mut n = 0;
        while features - n >= TILE_ROWS {
            self.tile::<S, P, TILE_ROWS, C>(s, p, n, row, pairs.clone());
            n += TILE_ROWS;
        }
        while features - n >= 4 {
            self.tile::<S, P, 4, C>(s, p, n, row, pairs.clone());
            n += 4;
        }
        while features - n >= 1 {
            self.tile::<S, P, 1, C>(s, p, n, row, pairs.clone());
            n += 1;
        }
    }

    /// Adds a panel's terms to the sums of `R` features from `n`, for `C` vectors of rows.
    #[inline(always)]
    fn tile<S: Int8, P: Bf16Dot<S>, const R: usize, const C: usize>(
        &mut self,
        s: S,
        p: P,
        n: usize,
        row: usize,
        pairs: Range<usize>,
    ) {
        let mut sums = [[s.splat(0.0); C]; R];
        let (panel, tile) = (&self.panel[n * STRIDE..], self.pairs * LANES);
        let x = &self.packed[row * self.pairs + pairs.start * LANES..];
        assert!(panel.len() >= (R - 1) * STRIDE + pairs.len());
        assert!(x.len() >= (C - 1) * tile + pairs.len() * LANES);
        assert!(self.sums.len() >= (n + R - 1) * self.padded + row + C * LANES);
        // SAFETY: the three assertions cover the furthest elements that are read and written.
        unsafe {
            let at = self.sums.as_mut_ptr().add(n * self.padded + row);
            for r in 0..R {
                for c in 0..C {
                    if pairs.start > 0 {
                        sums[r][c] = s.load(at.add(r * self.padded + c * LANES));
                    }
                }
            }
            let (panel, x) = (panel.as_ptr().cast::<u8>(), x.as_ptr().cast::<u8>());
            let mut next = self.next;
            for first in (0..pairs.len()).step_by(STEP) {
                next.step(s);
                for i in first..pairs.len().min(first + STEP) {
                    let mut a = [s.load_bytes(x.add(i * LANES * 4)); C];
                    for c in 0..C {
                        let at = x.add((c * tile + i * LANES) * 4);
                        s.prefetch(at.wrapping_add(X_AHEAD));
                        a[c] = s.load_bytes(at);
                    }
                    for r in 0..R {
                        let w = s.broadcast_bytes(panel.add((r * STRIDE + i) * 4));
                        for c in 0..C {
                            sums[r][c] = p.dot(sums[r][c], w, a[c]);
                        }
                    }
                }
            }
            self.next = next;
            for r in 0..R {
                for c in 0..C {
                    s.store(at.add(r * self.padded + c * LANES), sums[r][c]);
                }
            }
        }
    }
}
