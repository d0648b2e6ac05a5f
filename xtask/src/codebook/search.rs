//! The best of all tables, either way round, for a block: an estimate from a table of errors
//! picks a few, which are then fitted.

use super::samples::{BLOCK, Block};
use super::{LARGEST, Table};

/// Intervals between -1 and 1 in which a number's error is taken to be the same; 1 itself, which
/// each block has, is one more.
const BINS: usize = 64;
/// Scales to estimate with, as shares of the one that takes a block's 1 to a table's last number.
const SHARES: [f32; 2] = [0.92, 1.0];
/// Tables that are fitted.
const FITTED: usize = 6;

/// Tables and what they cost.
pub(super) struct Search {
    /// Each table, then each mirrored.
    tables: Vec<Table>,
    /// `[BINS + 1][tables, first share; then the second]`.
    errors: Vec<Vec<f32>>,
}

/// A block's best.
pub(super) struct Fit {
    pub(super) table: usize,
    pub(super) mirrored: bool,
    pub(super) scale: f32,
    /// Indices into the table as it stands, mirrored or not.
    pub(super) codes: [u8; BLOCK],
    /// The sum of squares that is left.
    pub(super) error: f32,
}

impl Search {
    pub(super) fn new(tables: &[Table]) -> Self {
        let both: Vec<Table> = tables
            .iter()
            .copied()
            .chain(tables.iter().map(mirror))
            .collect();
        let error = |bin: usize, share: f32, table: &Table| {
            let x = if bin == BINS {
                1.0
            } else {
                (bin as f32 + 0.5) * 2.0 / BINS as f32 - 1.0
            };
            let scale = share / table[15];
            let off = x - scale * table[usize::from(nearest(table, x / scale))];
            off * off
        };
        let row = |bin| {
            let of = |share: f32| both.iter().map(move |table| error(bin, share, table));
            SHARES.into_iter().flat_map(of).collect()
        };
        Self {
            errors: (0..=BINS).map(row).collect(),
            tables: both,
        }
    }

    pub(super) fn best(&self, block: &Block) -> Fit {
        let mut sums = vec![0.0; SHARES.len() * self.tables.len()];
        for &x in &block.x {
            let bin = ((x + 1.0) * (BINS / 2) as f32) as usize;
            for (sum, error) in sums.iter_mut().zip(&self.errors[bin]) {
                *sum += error;
            }
        }
        let mut best: Option<Fit> = None;
        for _ in 0..FITTED {
            let (at, _) = sums
                .iter()
                .enumerate()
                .fold((0, f32::INFINITY), |least, (i, &sum)| {
                    if sum < least.1 { (i, sum) } else { least }
                });
            sums[at] = f32::INFINITY;
            let fit = self.fit(
                block,
                at % self.tables.len(),
                SHARES[at / self.tables.len()],
            );
            if best.as_ref().is_none_or(|best| fit.error < best.error) {
                best = Some(fit);
            }
        }
        best.unwrap_or_else(|| unreachable!("some tables were fitted"))
    }

    /// Codes for a scale and the scale for the codes, in turn.
    fn fit(&self, block: &Block, at: usize, share: f32) -> Fit {
        let (table, count) = (&self.tables[at], self.tables.len() / 2);
        let mut fit = Fit {
            table: at % count,
            mirrored: at >= count,
            scale: share / table[15],
            codes: [0; BLOCK],
            error: 0.0,
        };
        let squares: f32 = block.x.iter().map(|x| x * x).sum();
        for _ in 0..3 {
            let inverse = 1.0 / fit.scale;
            let (mut product, mut square) = (0.0, 0.0);
            for (code, &x) in fit.codes.iter_mut().zip(&block.x) {
                *code = nearest(table, x * inverse);
                let t = table[usize::from(*code)];
                product += x * t;
                square += t * t;
            }
            fit.scale = product / square;
            fit.error = squares - product * product / square;
        }
        fit
    }
}

/// A table negated and reversed.
pub(super) fn mirror(table: &Table) -> Table {
    std::array::from_fn(|k| -table[15 - k])
}

/// The index of the number nearest to `x`.
fn nearest(table: &Table, x: f32) -> u8 {
    let mut at = 0;
    for step in [8, 4, 2, 1] {
        let next = at + step;
        if x + x > table[next - 1] + table[next] {
            at = next;
        }
    }
    at as u8
}

/// Ascending, with the largest magnitude at its limit, or as near as the last number's being
/// positive allows.
pub(super) fn normalize(mut table: Table) -> Table {
    table.sort_by(f32::total_cmp);
    let largest = table.iter().fold(0.0_f32, |m, t| m.max(t.abs()));
    table.map(|t| t * (LARGEST / largest))
}
