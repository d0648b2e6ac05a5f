//! The search for the table and the scale with the smallest error for a block. An estimate of each
//! table's error selects the most promising tables; these are fitted, and the best of them are
//! tried at the available scales.

use crate::quant::{BLOCK, codebook::TABLES};
use std::sync::LazyLock;

/// The value that a block's largest magnitude is mapped to: the search uses integers up to this.
/// Neighboring codes are about two thousand apart, and sums of products fit 32 bits.
const ONE: i16 = 1 << 14;
/// Intervals of a weight within which its error is assumed constant: 512 units each, and one more
/// for `ONE`, which every block has.
const BINS: usize = 2 * ONE as usize / 512 + 1;
/// Estimates of a table's error are made for these multiples of the scale that maps `ONE` to the
/// table's last value.
const SHARES: [f32; 2] = [0.92, 1.0];
/// Weights are compared with a table's values in this fraction of one.
const FINE: i16 = 256;
/// Number of tables that are fitted.
const FITTED: usize = 16;
/// Number of fitted tables that are tried at the available scales.
const TRIED: usize = 2;

/// A block in integers.
pub(super) struct Target {
    weights: [i16; BLOCK],
    /// The same values as floats.
    floats: [f32; BLOCK],
    /// Whether the weights were negated, so that the largest magnitude is positive.
    pub(super) flipped: bool,
    /// Units per 1.0.
    units: f32,
}

impl Target {
    /// `max_abs` is the largest magnitude in `block`.
    #[inline(always)]
    pub(super) fn new(block: &[f32; BLOCK], max_abs: f32) -> Self {
        let units = f32::from(ONE) / max_abs;
        let (mut weights, mut min, mut max) = ([0; BLOCK], 0, 0);
        for j in 0..BLOCK {
            weights[j] = whole(block[j] * units);
            min = weights[j].min(min);
            max = weights[j].max(max);
        }
        let flipped = -min > max;
        let sign = if flipped { -1 } else { 1 };
        let mut floats = [0.0; BLOCK];
        for j in 0..BLOCK {
            weights[j] *= sign;
            floats[j] = f32::from(weights[j]);
        }
        Self {
            weights,
            floats,
            flipped,
            units,
        }
    }

    /// A scale in units.
    #[inline(always)]
    pub(super) fn units(&self, scale: f32) -> f32 {
        scale * self.units
    }

    /// The weights divided by a scale in units, in `FINE`; clipped beyond all tables.
    #[inline(always)]
    fn over(&self, scale: f32) -> [i16; BLOCK] {
        const LIMIT: f32 = 127.0 * FINE as f32;
        let inverse = f32::from(FINE) / scale;
        let mut over = [0; BLOCK];
        for j in 0..BLOCK {
            let x = self.floats[j] * inverse;
            let x = if x < LIMIT { x } else { LIMIT };
            over[j] = whole(if x > -LIMIT { x } else { -LIMIT });
        }
        over
    }
}

/// The nearest integer within 16 bits.
#[inline(always)]
fn whole(x: f32) -> i16 {
    /// Adding it leaves that integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    (x + ROUND).to_bits() as i16
}

/// A table, prepared for quantizing.
struct Shape {
    first: i16,
    /// The differences between neighboring values.
    steps: [i16; 15],
    /// The midpoints between neighboring values, in `FINE`.
    middles: [i16; 15],
    last: f32,
}

/// All tables, and the error of each for a weight.
pub(super) struct Search {
    shapes: Vec<Shape>,
    /// `[BINS]`: the squared error of each table at the first of `SHARES`, then at the second.
    errors: Vec<[u16; 512]>,
}

/// A table at its best scale, in units.
#[derive(Clone, Copy, Default)]
struct Fit {
    table: u8,
    scale: f32,
    /// The amount by which the sum of squares falls.
    gain: f64,
}

/// For each table: the sum of errors, the index of its share, and the table.
struct Estimates([u32; 256]);

impl Estimates {
    /// Takes the table with the smallest sum, with its share; the next call takes the next one.
    #[inline(always)]
    fn take_least(&mut self) -> (u8, f32) {
        let mut least = u32::MAX;
        for i in 0..256 {
            least = least.min(self.0[i]);
        }
        self.0[usize::from(least as u8)] = u32::MAX;
        (least as u8, SHARES[(least >> 8 & 1) as usize])
    }
}

impl Search {
    pub(super) fn of_the_codebook() -> &'static Self {
        static SEARCH: LazyLock<Search> = LazyLock::new(|| Search::new(&TABLES));
        &SEARCH
    }

    fn new(tables: &[[i8; 16]; 256]) -> Self {
        let shape = |table: &[i8; 16]| Shape {
            first: table[0].into(),
            steps: std::array::from_fn(|k| i16::from(table[k + 1]) - i16::from(table[k])),
            middles: std::array::from_fn(|k| {
                (i16::from(table[k]) + i16::from(table[k + 1])) * (FINE / 2)
            }),
            last: table[15].into(),
        };
        let row = |bin| std::array::from_fn(|i| estimate(bin, SHARES[i / 256], &tables[i % 256]));
        Self {
            shapes: tables.iter().map(shape).collect(),
            errors: (0..BINS).map(row).collect(),
        }
    }

    /// The scale and table with the smallest error. Tables apply to the target, flipped as it is.
    #[inline(always)]
    pub(super) fn best(&self, target: &Target, steps: &[f32; 256]) -> (u8, u8) {
        let mut fits = [Fit::default(); TRIED];
        let mut estimates = self.estimates(target);
        for _ in 0..FITTED {
            let (table, share) = estimates.take_least();
            let mut fit = self.fit(target, table, share);
            for best in &mut fits {
                if fit.gain > best.gain {
                    std::mem::swap(best, &mut fit);
                }
            }
        }
        let (mut max_gain, mut best) = (f64::NEG_INFINITY, (255, fits[0].table));
        for fit in fits {
            let scale = fit.scale / target.units;
            let below = steps.partition_point(|&step| step > scale).clamp(1, 255);
            for at in [below - 1, below] {
                let gain = self.gain(target, fit.table, target.units(steps[at]));
                if gain > max_gain {
                    (max_gain, best) = (gain, (at as u8, fit.table));
                }
            }
        }
        best
    }

    /// The table with the smallest error at a scale in units.
    #[inline(always)]
    pub(super) fn best_at(&self, target: &Target, scale: f32) -> u8 {
        let (mut max_gain, mut best) = (f64::NEG_INFINITY, 0);
        for table in 0..=255 {
            let gain = self.gain(target, table, scale);
            if gain > max_gain {
                (max_gain, best) = (gain, table);
            }
        }
        best
    }

    /// The indices of the nearest values of the table, at a scale in units.
    #[inline(always)]
    pub(super) fn codes(&self, target: &Target, table: u8, scale: f32) -> [u8; BLOCK] {
        let (over, middles) = (target.over(scale), &self.shapes[usize::from(table)].middles);
        let mut codes = [0; BLOCK];
        for j in 0..BLOCK {
            let mut code = 0_i16;
            for k in 0..15 {
                code += i16::from(over[j] > middles[k]);
            }
            codes[j] = code as u8;
        }
        codes
    }

    /// Estimates of the errors of all tables.
    #[inline(always)]
    fn estimates(&self, target: &Target) -> Estimates {
        let mut rows = [&self.errors[0]; BLOCK];
        for j in 0..BLOCK {
            rows[j] = &self.errors[target.weights[j].wrapping_add(ONE) as u16 as usize >> 9];
        }
        let mut sums = [0_u16; 512];
        for rows in rows.chunks_exact(8) {
            for i in 0..512 {
                let mut sum = sums[i];
                for j in 0..8 {
                    sum = sum.saturating_add(rows[j][i]);
                }
                sums[i] = sum;
            }
        }
        let (low, high) = sums.split_at(256);
        let mut keys = [0; 256];
        for i in 0..256 {
            keys[i] =
                u32::from(low[i].min(high[i])) << 9 | u32::from(high[i] < low[i]) << 8 | i as u32;
        }
        Estimates(keys)
    }

    /// Quantizes twice, each time with the best scale for the codes before.
    #[inline(always)]
    fn fit(&self, target: &Target, table: u8, share: f32) -> Fit {
        let shape = &self.shapes[usize::from(table)];
        let mut fit = Fit {
            table,
            scale: f32::from(ONE) * share / shape.last,
            gain: 0.0,
        };
        for _ in 0..2 {
            let (product, square) = sums(target, shape, fit.scale);
            let (product, square) = (f64::from(product), f64::from(square));
            fit.scale = (product / square) as f32;
            fit.gain = product * product / square;
        }
        fit
    }

    /// The amount by which the sum of squares falls at a scale in units.
    #[inline(always)]
    fn gain(&self, target: &Target, table: u8, scale: f32) -> f64 {
        let (product, square) = sums(target, &self.shapes[usize::from(table)], scale);
        let scale = f64::from(scale);
        scale * (2.0 * f64::from(product) - scale * f64::from(square))
    }
}

/// The sum of weight times code, and of the codes' squares, if each weight takes the nearest code.
#[inline(always)]
fn sums(target: &Target, shape: &Shape, scale: f32) -> (i32, i32) {
    let over = target.over(scale);
    let mut codes = [0_i16; BLOCK];
    for j in 0..BLOCK {
        let mut code = shape.first;
        for k in 0..15 {
            // A mask, because compilers turn the alternative into branches.
            code += -i16::from(over[j] > shape.middles[k]) & shape.steps[k];
        }
        codes[j] = code;
    }
    let (mut product, mut square) = (0, 0);
    for j in 0..BLOCK {
        product += i32::from(target.weights[j]) * i32::from(codes[j]);
        square += i32::from(codes[j]) * i32::from(codes[j]);
    }
    (product, square)
}

/// The squared error of a weight in the middle of a bin, in units of 2^-18 of `ONE` squared. The
/// sum over a block is about a tenth of the range of 16 bits if the table fits.
fn estimate(bin: usize, share: f32, table: &[i8; 16]) -> u16 {
    let x = match bin + 1 == BINS {
        true => 1.0,
        false => (bin as f32 + 0.5) * 2.0 / (BINS - 1) as f32 - 1.0,
    };
    // Tables whose last value is small or negative cannot represent a positive largest weight.
    let scale = share / f32::from(table[15]).max(1.0);
    let off = |&t: &i8| (x - scale * f32::from(t)) * (x - scale * f32::from(t));
    let least = table.iter().map(off).fold(f32::INFINITY, f32::min);
    (least * 262_144.0) as u16
}
