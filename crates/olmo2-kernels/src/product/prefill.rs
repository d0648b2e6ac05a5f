//! Many rows of activations: the time goes into arithmetic. Lanes are rows of activations, packed
//! once as `[tile of LANES rows][in][LANES]`. Weights are widened row by row into a panel in the
//! cache and broadcast. Each sum has one accumulator and adds its terms along `in` in order,
//! whatever the blocks, so a row's bits do not depend on the rows beside it.

use super::element::{WeightElement, elements};
use super::finish::Epilogue;
use super::next_panel::{PanelPrefetch, STEP};
use super::{Input, MAX_LANES as LANES, Matmul, PACKED_ROWS, WeightData, jobs, pieces};
use crate::buffer::{Scratch, SharedMut, with_scratch};
use crate::pool;
use crate::simd::{Kernel, Simd, dispatch};
use half::{bf16, f16};
use std::cell::RefCell;
use std::ops::Range;

/// Weight rows of a panel; a multiple of every level's tile and vector.
pub(super) const PANEL_ROWS: usize = 96;
/// Weight rows that the schedule hands out at least: a multiple of every level's tile. Half a panel
/// balances narrow matrices between threads at no cost.
pub(super) const SCHEDULE_ROWS: usize = PANEL_ROWS / 2;
const _: () = assert!(SCHEDULE_ROWS.is_multiple_of(12) && SCHEDULE_ROWS.is_multiple_of(16));
/// Inputs of a panel: 96 rows of 1024 f32 are 384 KB, which stay in a second-level cache of 1 MB
/// beside the [`PanelPrefetch`]. A gate's sums, 192 KB, may leave it: they are written once and
/// read once.
const PANEL_INPUTS: usize = 1024;
/// Distance in bytes of a tile's prefetches of packed activations. These come from the second-level
/// cache, whose latency out-of-order execution alone does not hide.
pub(super) const X_AHEAD: usize = 2048;
/// Distance of rows in the panel; rows of 4 KB would fall on one set of the cache.
const PANEL_STRIDE: usize = PANEL_INPUTS + 16;

thread_local! {
    static PACKED: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
    static PANEL: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
}

pub(super) fn matmul(input: &Input<'_>, matmuls: &[Matmul<'_>]) {
    for first in (0..input.rows).step_by(PACKED_ROWS) {
        let rows = first..input.rows.min(first + PACKED_ROWS);
        let padded = rows.len().next_multiple_of(LANES);
        with_scratch(&PACKED, padded * input.in_features, |packed| {
            pack(input, rows.clone(), packed);
            let packed = &*packed;
            let jobs = jobs(input, matmuls);
            let features = jobs.iter().map(|(matmul, _)| matmul.out_features);
            pieces::run_by(input.parts, SCHEDULE_ROWS, &features, |i, range| {
                multiply(input, packed, Epilogue::new(jobs[i], &rows, padded), range);
            });
        });
    }
}

/// Packs rows of activations; rows beyond the last are zero.
fn pack(input: &Input<'_>, rows: Range<usize>, packed: &mut [f32]) {
    let k = input.in_features;
    let tiles = rows.len().div_ceil(LANES);
    let to = SharedMut::new(packed);
    let x = &input.x[rows.start * k..rows.end * k];
    pool::run(input.parts.min(tiles), |part| {
        for tile in pool::share(tiles, 1, input.parts.min(tiles), part) {
            let from = &x[tile * LANES * k..x.len().min((tile + 1) * LANES * k)];
            let to = to.at(tile * LANES * k, LANES * k);
            dispatch(
                input.level,
                Pack {
                    from,
                    in_features: k,
                    to,
                },
            );
        }
    });
}

/// Packs up to 16 rows; `to` has room for 16.
struct Pack<'a> {
    from: &'a [f32],
    in_features: usize,
    to: *mut f32,
}

impl Kernel for Pack<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let k = self.in_features;
        let rows = self.from.len() / k;
        for tile in 0..LANES / S::LANES {
            let present = rows.saturating_sub(tile * S::LANES).min(S::LANES);
            // The tiles of a level are `[in][S::LANES]`, one after the other.
            let to = tile * S::LANES * k;
            let whole = if present == S::LANES {
                k - k % S::LANES
            } else {
                0
            };
            for i in (0..whole).step_by(S::LANES) {
                // SAFETY: `from` has a full block, and `to` has room for it.
                unsafe {
                    let from = self.from.as_ptr().add(tile * S::LANES * k + i);
                    s.transpose(from, k, self.to.add(to + i * S::LANES), S::LANES);
                }
            }
            for i in whole..k {
                for row in 0..S::LANES {
                    let at = (tile * S::LANES + row) * k + i;
                    let x = if row < present { self.from[at] } else { 0.0 };
                    // SAFETY: inside the tile's `k * S::LANES` elements.
                    unsafe { *self.to.add(to + i * S::LANES + row) = x };
                }
            }
        }
    }
}

fn multiply(input: &Input<'_>, packed: &[f32], epilogue: Epilogue<'_>, range: Range<usize>) {
    match epilogue.matmul.data {
        WeightData::F32(_) => run::<f32>(input, packed, epilogue, range),
        WeightData::Bf16(_) => run::<bf16>(input, packed, epilogue, range),
        WeightData::F16(_) => run::<f16>(input, packed, epilogue, range),
        WeightData::Q8(_) | WeightData::Q4(_) => {
            unreachable!("quantized weights have kernels of their own")
        }
    }
}

fn run<E: WeightElement>(
    input: &Input<'_>,
    packed: &[f32],
    epilogue: Epilogue<'_>,
    range: Range<usize>,
) {
    let padded = epilogue.padded;
    assert_eq!(packed.len(), padded * input.in_features);
    let (panel, sums) = (PANEL_ROWS * PANEL_STRIDE, PANEL_ROWS * padded);
    with_scratch(&PANEL, panel + epilogue.sums() * sums, |scratch| {
        let (panel, rest) = scratch.split_at_mut(panel);
        let (sums, gate_sums) = rest.split_at_mut(sums);
        let blocks = FloatPanels {
            packed,
            padded,
            in_features: input.in_features,
            weight: elements::<E>(input, epilogue.matmul),
            gate: epilogue.gate.map(|gate| elements::<E>(input, gate)),
            range,
            next: PanelPrefetch::NOTHING,
            panel,
            sums,
            gate_sums,
            epilogue,
        };
        dispatch(input.level, blocks);
    });
}

/// The outputs of a work item.
struct FloatPanels<'a, E> {
    packed: &'a [f32],
    /// Rows in `packed`.
    padded: usize,
    in_features: usize,
    weight: &'a [E],
    gate: Option<&'a [E]>,
    range: Range<usize>,
    next: PanelPrefetch,
    /// `[PANEL_ROWS][PANEL_STRIDE]`.
    panel: &'a mut [f32],
    /// `[PANEL_ROWS][padded]`.
    sums: &'a mut [f32],
    /// The gate's sums; empty without a gate.
    gate_sums: &'a mut [f32],
    epilogue: Epilogue<'a>,
}

impl<E: WeightElement> Kernel for FloatPanels<'_, E> {
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for n in self.range.clone().step_by(PANEL_ROWS) {
            let features = n..self.range.end.min(n + PANEL_ROWS);
            let weight = self.weight;
            if let Some(gate) = self.gate {
                let then = &weight[n * self.in_features..];
                self.sum(s, [gate, then], features.clone());
                std::mem::swap(&mut self.sums, &mut self.gate_sums);
            }
            let then = &self.gate.unwrap_or(weight)[features.end * self.in_features..];
            self.sum(s, [weight, then], features.clone());
            self.epilogue.write(s, features, self.sums, self.gate_sums);
        }
    }
}

impl<'a, E: WeightElement> FloatPanels<'a, E> {
    /// Computes the sums of some features of a weight; the panel after them has the rows of `then`.
    #[inline(always)]
    fn sum<S: Simd>(&mut self, s: S, [weight, then]: [&'a [E]; 2], features: Range<usize>) {
        let weight = &weight[features.start * self.in_features..];
        let count = features.len();
        for k in (0..self.in_features).step_by(PANEL_INPUTS) {
            let inputs = k..self.in_features.min(k + PANEL_INPUTS);
            self.fill(s, weight, count, inputs.clone());
            self.next = self.panel_prefetch::<S>([weight, then], count, inputs.clone());
            self.tiles(s, count, inputs);
        }
    }

    /// Widens a block of the weight's first rows into the panel.
    #[inline(always)]
    fn fill<S: Simd>(&mut self, s: S, weight: &[E], features: usize, inputs: Range<usize>) {
        let whole = inputs.len() - inputs.len() % S::LANES;
        for (n, to) in (0..features).zip(self.panel.chunks_exact_mut(PANEL_STRIDE)) {
            let from = &weight[n * self.in_features..][inputs.clone()];
            let to = &mut to[..from.len()];
            for i in (0..whole).step_by(S::LANES) {
                // SAFETY: `i + LANES` is at most the length of both.
                unsafe { s.store(to.as_mut_ptr().add(i), E::load(s, from.as_ptr().add(i))) };
            }
            for i in whole..from.len() {
                to[i] = from[i].widen();
            }
        }
    }

    /// Prefetches the weights of the next panel.
    fn panel_prefetch<S: Simd>(
        &self,
        weights: [&[E]; 2],
        features: usize,
        inputs: Range<usize>,
    ) -> PanelPrefetch {
        let size = size_of::<E>();
        let tiles = self.padded.div_ceil(2 * S::LANES) * features.div_ceil(S::PREFILL_ROWS);
        PanelPrefetch::new(
            weights.map(|weight| weight.as_ptr().cast()),
            size * self.in_features,
            features,
            size * inputs.start..size * inputs.end,
            size * PANEL_INPUTS,
            tiles * inputs.len().div_ceil(STEP),
        )
    }

    /// All tiles of one panel.
    #[inline(always)]
    fn tiles<S: Simd>(&mut self, s: S, features: usize, inputs: Range<usize>) {
        let mut row = 0;
        while row + 2 * S::LANES <= self.padded {
            self.column::<S, 2>(s, features, row, inputs.clone());
            row += 2 * S::LANES;
        }
        if row < self.padded {
            self.column::<S, 1>(s, features, row, inputs);
        }
    }

    /// The tiles of `C` vectors of activation rows from `row`.
    #[inline(always)]
    fn column<S: Simd, const C: usize>(
        &mut self,
        s: S,
        features: usize,
        row: usize,
        inputs: Range<usize>,
    ) {
        let mut n = 0;
        while S::PREFILL_ROWS == 12 && features - n >= 12 {
            self.tile::<S, 12, C>(s, n, row, inputs.clone());
            n += 12;
        }
        while S::PREFILL_ROWS == 6 && features - n >= 6 {
            self.tile::<S, 6, C>(s, n, row, inputs.clone());
            n += 6;
        }
        while features - n >= 4 {
            self.tile::<S, 4, C>(s, n, row, inputs.clone());
            n += 4;
        }
        while features - n >= 1 {
            self.tile::<S, 1, C>(s, n, row, inputs.clone());
            n += 1;
        }
    }

    /// Adds a panel's terms to the sums of `R` features from `n`, for `C` vectors of rows.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const C: usize>(
        &mut self,
        s: S,
        n: usize,
        row: usize,
        inputs: Range<usize>,
    ) {
        let mut sums = [[s.splat(0.0); C]; R];
        let (panel, tile) = (&self.panel[n * PANEL_STRIDE..], self.in_features * S::LANES);
        let x = &self.packed[row * self.in_features + inputs.start * S::LANES..];
        assert!(panel.len() >= (R - 1) * PANEL_STRIDE + inputs.len());
        assert!(x.len() >= (C - 1) * tile + inputs.len() * S::LANES);
        assert!(self.sums.len() >= (n + R - 1) * self.padded + row + C * S::LANES);
        // SAFETY: the three assertions cover the furthest elements that are read and written.
        unsafe {
            let at = self.sums.as_mut_ptr().add(n * self.padded + row);
            for r in 0..R {
                for c in 0..C {
                    if inputs.start > 0 {
                        sums[r][c] = s.load(at.add(r * self.padded + c * S::LANES));
                    }
                }
            }
            let (panel, x) = (panel.as_ptr(), x.as_ptr());
            let mut next = self.next;
            for first in (0..inputs.len()).step_by(STEP) {
                next.step(s);
                for i in first..inputs.len().min(first + STEP) {
                    let mut v = [s.splat(0.0); C];
                    for c in 0..C {
                        let at = x.add(c * tile + i * S::LANES);
                        s.prefetch(at.wrapping_byte_add(X_AHEAD));
                        v[c] = s.load(at);
                    }
                    for r in 0..R {
                        let w = s.splat(*panel.add(r * PANEL_STRIDE + i));
                        for c in 0..C {
                            sums[r][c] = s.fma(w, v[c], sums[r][c]);
                        }
                    }
                }
            }
            self.next = next;
            for r in 0..R {
                for c in 0..C {
                    s.store(at.add(r * self.padded + c * S::LANES), sums[r][c]);
                }
            }
        }
    }
}
