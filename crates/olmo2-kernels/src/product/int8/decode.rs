//! Few rows of activations, lanes along `in`: a step takes `LANES` blocks of one or two rows of
//! weights, in the [`Order`] that the CPU reads fastest, and prefetches into the second-level
//! cache. One row with 8-bit weights has a kernel of its own, [`single`].

use super::activations::{Extent, PackRow, Row};
use super::format::{Format, Tail};
use super::{Blocks, single};
use crate::buffer::{Scratch, SharedMut, with_scratch};
use crate::level::Level;
use crate::pool;
use crate::product::{Input, Matmul, pieces};
use crate::quant::BLOCK;
use crate::simd::{Int8, Kernel, dispatch};
use std::array::from_mut;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;

/// Activations below which a second thread costs more than it saves.
const VALUES_PER_THREAD: usize = 8192;

/// The order in which a thread reads the rows of weights.
trait Order {
    /// Distance in bytes of quants of the prefetches.
    const AHEAD: usize;
    /// The features of a group, and their number.
    fn group(matmul: &Matmul<'_>, group: usize) -> ([usize; 4], usize);
    /// The blocks that [`AHEAD`](Self::AHEAD) counts from while blocks `at` of rows that begin at
    /// `starts` are read.
    fn base<S: Int8, const R: usize>(at: [usize; R], starts: [usize; R]) -> [usize; R];
}

/// Adjacent rows: one stream in the order of addresses, prefetched far ahead.
struct Near;

impl Order for Near {
    const AHEAD: usize = 16384;

    #[inline(always)]
    fn group(matmul: &Matmul<'_>, group: usize) -> ([usize; 4], usize) {
        matmul.near_group(group)
    }
    #[inline(always)]
    fn base<S: Int8, const R: usize>(at: [usize; R], starts: [usize; R]) -> [usize; R] {
        let mut base = starts;
        for r in 0..R {
            base[r] = starts[0] + R * (at[0] - starts[0]) + r * S::LANES;
        }
        base
    }
}

/// Rows of far-apart quarters, one or two at a time: four streams, which CPUs with AMX read faster.
struct Far;

impl Order for Far {
    const AHEAD: usize = 2048;

    #[inline(always)]
    fn group(matmul: &Matmul<'_>, group: usize) -> ([usize; 4], usize) {
        matmul.far_group(group)
    }
    #[inline(always)]
    fn base<S: Int8, const R: usize>(at: [usize; R], _: [usize; R]) -> [usize; R] {
        at
    }
}

thread_local! {
    static PACKED: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
}

pub(super) fn matmul(input: &Input<'_>, matmuls: &[Matmul<'_>]) {
    let extent = Extent::new(input.blocks());
    with_scratch(&PACKED, input.rows * extent.words(), |packed| {
        pack(input, extent, packed);
        let packed = &*packed;
        let groups = matmuls.iter().map(Matmul::groups);
        pieces::run(input.parts, groups, |i, groups| {
            let matmul = &matmuls[i];
            match Blocks::of(matmul) {
                Blocks::Q8(format) if input.rows == 1 => {
                    let row = Row::at(extent, packed.as_ptr());
                    single::run(input, row, format, matmul, groups);
                }
                Blocks::Q8(format) => run(input, packed, format, matmul, groups),
                Blocks::Q4(format) => run(input, packed, format, matmul, groups),
            }
        });
    });
}

/// Packs all rows; on one thread if there are few.
fn pack(input: &Input<'_>, extent: Extent, packed: &mut [f32]) {
    let to = SharedMut::new(packed);
    let parts = input.parts.min(input.x.len().div_ceil(VALUES_PER_THREAD));
    pool::run(parts, |part| {
        for row in pool::share(input.rows, 1, parts, part) {
            let row = PackRow {
                x: &input.x[row * input.in_features..][..input.in_features],
                extent,
                words: to.part(row * extent.words(), extent.words()),
            };
            dispatch(input.level, row);
        }
    });
}

fn run<F: Format>(
    input: &Input<'_>,
    packed: &[f32],
    format: F,
    matmul: &Matmul<'_>,
    groups: Range<usize>,
) {
    match input.level {
        Level::Amx => run_in::<F, Far>(input, packed, format, matmul, groups),
        _ => run_in::<F, Near>(input, packed, format, matmul, groups),
    }
}

fn run_in<F: Format, O: Order>(
    input: &Input<'_>,
    packed: &[f32],
    format: F,
    matmul: &Matmul<'_>,
    groups: Range<usize>,
) {
    let extent = Extent::new(input.blocks());
    assert_eq!(packed.len(), input.rows * extent.words());
    let tiles = DecodeFew::<F, O> {
        format,
        packed: packed.as_ptr(),
        extent,
        rows: input.rows,
        blocks: input.blocks(),
        groups,
        matmul,
        order: PhantomData,
    };
    dispatch(input.level, tiles);
}

/// The outputs of some groups. `format` has `blocks` blocks of each row of weights, `packed` has
/// `rows` [`Row`]s.
struct DecodeFew<'a, F, O> {
    format: F,
    packed: *const f32,
    extent: Extent,
    rows: usize,
    blocks: usize,
    groups: Range<usize>,
    matmul: &'a Matmul<'a>,
    order: PhantomData<O>,
}

impl<F: Format, O: Order> Kernel for DecodeFew<'_, F, O> {
    #[inline(always)]
    fn run<S: Int8>(self, s: S) {
        for group in self.groups.clone() {
            let (features, count) = O::group(self.matmul, group);
            self.outputs(s, &features[..count]);
        }
    }
}

impl<F: Format, O: Order> DecodeFew<'_, F, O> {
    /// The outputs of some features for all rows of activations.
    #[inline(always)]
    fn outputs<S: Int8>(&self, s: S, features: &[usize]) {
        let mut row = 0;
        while S::INT8_DECODE_TILE >= 4 && self.rows - row >= 4 {
            self.tiles::<S, 1, 4>(s, features, row);
            row += 4;
        }
        if S::INT8_DECODE_TILE >= 4 && self.rows - row == 3 {
            self.tiles::<S, 1, 3>(s, features, row);
            row += 3;
        }
        while self.rows - row >= 2 {
            self.tiles::<S, 1, 2>(s, features, row);
            row += 2;
        }
        if self.rows - row == 1 {
            // Two rows of weights would spill where a level has 16 registers.
            match S::INT8_DECODE_TILE >= 4 {
                true => self.tiles::<S, 2, 1>(s, features, row),
                false => self.tiles::<S, 1, 1>(s, features, row),
            }
        }
    }

    /// As [`outputs`](Self::outputs) for `M` rows of activations from `row`, `R` features at a
    /// time.
    #[inline(always)]
    fn tiles<S: Int8, const R: usize, const M: usize>(&self, s: S, features: &[usize], row: usize) {
        let (tiles, rest) = features.as_chunks::<R>();
        for &features in tiles {
            self.tile::<S, R, M>(s, features, row);
        }
        for &feature in rest {
            self.tile::<S, 1, M>(s, [feature], row);
        }
    }

    /// The outputs of `R` features.
    #[inline(always)]
    fn tile<S: Int8, const R: usize, const M: usize>(
        &self,
        s: S,
        features: [usize; R],
        row: usize,
    ) {
        let mut rows = [Row::at(self.extent, self.packed); M];
        for m in 0..M {
            let words = self.packed.wrapping_add((row + m) * self.extent.words());
            rows[m] = Row::at(self.extent, words);
        }
        let whole = self.blocks - self.blocks % S::LANES;
        let mut starts = features;
        for r in 0..R {
            starts[r] *= self.blocks;
        }
        let mut sums = [[s.splat(0.0); M]; R];
        for b in (0..whole).step_by(S::LANES) {
            let mut at = starts;
            for r in 0..R {
                at[r] += b;
            }
            let base = Some(O::base::<S, R>(at, starts));
            // SAFETY: each feature's row has blocks `b` to `b + LANES`.
            unsafe { step::<S, F, O, R, M>(s, &self.format, at, &rows, b, &mut sums, base) };
        }
        for r in 0..R {
            if whole < self.blocks {
                let mut tail = Tail::ZERO;
                let at = starts[r] + whole;
                // SAFETY: the last blocks of each row exist; activations are padded to a whole
                // step.
                unsafe {
                    let last = self.format.tail(at, self.blocks - whole, &mut tail);
                    let sums = from_mut(&mut sums[r]);
                    step::<S, F, O, 1, M>(s, &last, [0], &rows, whole, sums, None);
                }
            }
            for m in 0..M {
                self.matmul.set(row + m, features[r], s.sum(sums[r][m]));
            }
        }
    }
}

/// Adds the terms of `LANES` blocks, `at` in the weights and `b` in the activations, and prefetches
/// as many blocks, [`Order::AHEAD`] beyond those of `base`.
///
/// # Safety
/// Both have the blocks.
#[inline(always)]
unsafe fn step<S: Int8, F: Format, O: Order, const R: usize, const M: usize>(
    s: S,
    format: &F,
    at: [usize; R],
    rows: &[Row; M],
    b: usize,
    sums: &mut [[S::V; M]; R],
    base: Option<[usize; R]>,
) {
    let mut dots = [[[s.zero_ints(); 4]; M]; R];
    // SAFETY: the caller promises the blocks, and a step of activations is complete.
    unsafe {
        for i in 0..4 {
            for r in 0..R {
                let (lower, upper) = format.halves(s, at[r] + i * S::GROUPS);
                // One prefetch for each cache line.
                let fresh = (i * S::GROUPS * F::BYTES).is_multiple_of(64);
                if let Some(base) = base.filter(|_| fresh) {
                    format.prefetch_quants(s, base[r] + i * S::GROUPS, S::GROUPS, O::AHEAD);
                }
                for m in 0..M {
                    let quants = rows[m].quants.add((b + i * S::GROUPS) * BLOCK);
                    let dot = F::dot(s, dots[r][m][i], lower, s.load_bytes(quants));
                    let quants = quants.add(16 * S::GROUPS);
                    dots[r][m][i] = F::dot(s, dot, upper, s.load_bytes(quants));
                }
            }
        }
        for r in 0..R {
            let weight_scales = format.scales(s, at[r]);
            if let Some(base) = base {
                format.prefetch_scales(s, base[r], O::AHEAD);
            }
            for m in 0..M {
                let mut terms = s.reduce(dots[r][m]);
                if F::is_biased::<S>() {
                    terms = s.add_ints(terms, s.load_ints(rows[m].sums.add(b)));
                }
                let scales = s.mul(weight_scales, s.load(rows[m].scales.add(b)));
                sums[r][m] = s.fma(s.to_floats(terms), scales, sums[r][m]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Weights;
    use super::*;
    use crate::product::WeightRef;
    use crate::product::tests::{levels, noise, same_bits};

    /// Computes one weight's outputs at a level, read in the given order.
    fn outputs<O: Order>(level: Level, x: &[f32], k: usize, matmul: &Matmul<'_>) {
        let input = Input {
            x,
            rows: x.len() / k,
            in_features: k,
            level,
            parts: 1,
            gated: false,
        };
        let extent = Extent::new(input.blocks());
        let mut packed = Scratch::new();
        let packed = packed.get(input.rows * extent.words());
        pack(&input, extent, packed);
        let groups = 0..matmul.groups();
        match Blocks::of(matmul) {
            Blocks::Q8(format) => run_in::<_, O>(&input, packed, format, matmul, groups),
            Blocks::Q4(format) => run_in::<_, O>(&input, packed, format, matmul, groups),
        }
    }

    /// A level uses one of the orders, so this tests both on any machine.
    #[test]
    fn both_orders_give_the_same_bits() {
        for (k, n) in [(33, 9), (2048, 7), (100, 101)] {
            let weights = Weights::new(3, n, k);
            for (data, m) in weights
                .all()
                .into_iter()
                .flat_map(|d| [(d, 1), (d, 3), (d, 7)])
            {
                let x = noise(m as u64, m * k);
                for level in levels() {
                    let (mut near, mut far) = (vec![f32::NAN; m * n], vec![0.0; m * n]);
                    let weight = WeightRef::new(data);
                    let matmul = |out| Matmul::new(&weight, k, SharedMut::new(out));
                    outputs::<Near>(level, &x, k, &matmul(&mut near));
                    outputs::<Far>(level, &x, k, &matmul(&mut far));
                    assert!(same_bits(&near, &far), "{level} {m} rows of {k} by {n}");
                }
            }
        }
    }
}
