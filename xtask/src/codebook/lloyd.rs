//! Lloyd's iteration: from one table to 128, then to whole numbers.

use rayon::prelude::*;

use super::samples::{Block, Random};
use super::search::{Search, normalize};
use super::{LARGEST, TABLES, Table};

/// Steps after each doubling of the tables.
const GROWING: usize = 20;
/// Steps over all blocks with all tables.
const SETTLING: usize = 50;
/// Blocks that one task takes: sums are taken in this order, however many threads there are.
const CHUNK: usize = 500;

/// What a step learns of a table.
#[derive(Clone)]
struct Sums {
    /// For each number, over the weights that took it: what the block counts times its scale times
    /// the weight, and what the block counts times its scale squared.
    products: [f64; 16],
    squares: [f64; 16],
    error: f64,
    blocks: usize,
}

const NOTHING: Sums = Sums {
    products: [0.0; 16],
    squares: [0.0; 16],
    error: 0.0,
    blocks: 0,
};

/// The tables that quantize `blocks` best, whole numbers. `report` gets each stage and the
/// root of its mean squared error.
pub(super) fn train(
    seed: u64,
    blocks: &[Block],
    mut report: impl FnMut(&str, f64),
) -> Vec<[i8; 16]> {
    let mut random = Random::new(seed ^ 1);
    let grown = blocks.len() / 4;
    let mut tables = grow(seed, &blocks[..grown], TABLES, &mut report);
    for step in 0..SETTLING {
        let sums = measure(&tables, blocks);
        report(
            &format!("step {} of {SETTLING}", step + 1),
            error(&sums, blocks),
        );
        tables = update(&tables, &sums);
        if step + 4 < SETTLING {
            reseed(&mut tables, &sums, blocks.len(), &mut random);
        }
    }
    let sums = measure(&tables, blocks);
    let costs = tables
        .iter()
        .zip(&sums)
        .map(|(table, sums)| (*table, sums.squares));
    let whole = whole(&costs.collect::<Vec<_>>());
    let rounded: Vec<Table> = whole.iter().map(|table| table.map(f32::from)).collect();
    report("rounded", error(&measure(&rounded, blocks), blocks));
    whole
}

/// `count` tables, a power of two, by splitting.
pub(super) fn grow(
    seed: u64,
    blocks: &[Block],
    count: usize,
    report: &mut dyn FnMut(&str, f64),
) -> Vec<Table> {
    let mut random = Random::new(seed ^ 2);
    let mut tables = vec![normalize(std::array::from_fn(|k| k as f32 - 7.4))];
    loop {
        let mut last = 0.0;
        for _ in 0..GROWING {
            let sums = measure(&tables, blocks);
            last = error(&sums, blocks);
            tables = update(&tables, &sums);
            reseed(&mut tables, &sums, blocks.len(), &mut random);
        }
        report(&format!("{} tables", tables.len()), last);
        if tables.len() >= count {
            return tables;
        }
        let twins: Vec<Table> = tables
            .iter()
            .map(|table| nudge(table, &mut random))
            .collect();
        tables.extend(twins);
    }
}

/// Gives each block its best table, and sums up.
fn measure(tables: &[Table], blocks: &[Block]) -> Vec<Sums> {
    let search = Search::new(tables);
    let chunks: Vec<Vec<Sums>> = blocks
        .par_chunks(CHUNK)
        .map(|blocks| {
            let mut sums = vec![NOTHING; tables.len()];
            for block in blocks {
                let fit = search.best(block);
                let sums = &mut sums[fit.table];
                sums.blocks += 1;
                sums.error += f64::from(fit.error) * f64::from(block.weight);
                let square = f64::from(fit.scale * fit.scale * block.weight);
                for (&code, &x) in fit.codes.iter().zip(&block.x) {
                    let k = usize::from(if fit.mirrored { 15 - code } else { code });
                    let x = if fit.mirrored { -x } else { x };
                    sums.products[k] += f64::from(x * fit.scale * block.weight);
                    sums.squares[k] += square;
                }
            }
            sums
        })
        .collect();
    chunks
        .into_iter()
        .fold(vec![NOTHING; tables.len()], |mut total, chunk| {
            for (total, sums) in total.iter_mut().zip(chunk) {
                for k in 0..16 {
                    total.products[k] += sums.products[k];
                    total.squares[k] += sums.squares[k];
                }
                total.error += sums.error;
                total.blocks += sums.blocks;
            }
            total
        })
}

/// The root of the mean squared error over that of the numbers.
fn error(sums: &[Sums], blocks: &[Block]) -> f64 {
    let square =
        |block: &Block| f64::from(block.x.iter().map(|x| x * x).sum::<f32>() * block.weight);
    let squares: f64 = blocks.iter().map(square).sum();
    (sums.iter().map(|sums| sums.error).sum::<f64>() / squares).sqrt()
}

/// Moves each number to the mean of the weights that chose it.
fn update(tables: &[Table], sums: &[Sums]) -> Vec<Table> {
    let moved = |(table, sums): (&Table, &Sums)| {
        normalize(std::array::from_fn(|k| match sums.squares[k] > 0.0 {
            true => (sums.products[k] / sums.squares[k]) as f32,
            false => table[k],
        }))
    };
    tables.iter().zip(sums).map(moved).collect()
}

/// Puts tables that hardly any block wants beside those that leave the most error.
fn reseed(tables: &mut [Table], sums: &[Sums], blocks: usize, random: &mut Random) {
    let few = blocks / tables.len() / 8;
    let mut errors: Vec<f64> = sums.iter().map(|sums| sums.error).collect();
    for dead in (0..tables.len()).filter(|&i| sums[i].blocks < few) {
        let worst = (0..tables.len()).fold(
            0,
            |worst, i| if errors[i] > errors[worst] { i } else { worst },
        );
        errors[worst] *= 0.5;
        tables[dead] = nudge(&tables[worst], random);
    }
}

/// A table near another: bent by a random cubic, so that neighbors move together.
fn nudge(table: &Table, random: &mut Random) -> Table {
    let bend: [f32; 4] = std::array::from_fn(|_| (random.uniform() - 0.5) as f32 * 0.06);
    let bent = table.map(|t| {
        let u = t / LARGEST;
        t + LARGEST * (bend[0] + u * (bend[1] + u * (bend[2] + u * bend[3])))
    });
    normalize(bent)
}

/// Tables of whole numbers from tables and what an error in each number costs. A block's scale
/// makes up for a table's, so each is first shrunk to where rounding costs least.
pub(super) fn whole(tables: &[(Table, [f64; 16])]) -> Vec<[i8; 16]> {
    let mut whole: Vec<[i8; 16]> = tables
        .iter()
        .map(|(table, costs)| round(table, costs))
        .collect();
    // Blocks of zeros need a table that has one.
    let smallest = |table: &[i8; 16]| table.iter().map(|t| t.unsigned_abs()).min();
    if let Some(table) = whole.iter_mut().min_by_key(|table| smallest(table))
        && let Some(number) = table.iter_mut().min_by_key(|t| t.unsigned_abs())
    {
        *number = 0;
    }
    whole
}

fn round(table: &Table, costs: &[f64; 16]) -> [i8; 16] {
    let mut best = (f64::INFINITY, [0; 16]);
    for thousandth in 0..=300 {
        let share = 1.0 - thousandth as f32 * 1e-3;
        let mut rounded = table.map(|t| (t * share).round_ties_even() as i8);
        for k in 1..16 {
            rounded[k] = rounded[k].max(rounded[k - 1] + 1);
        }
        let cost = |k: usize| {
            let off = f64::from(f32::from(rounded[k]) / share - table[k]);
            off * off * costs[k]
        };
        let cost = (0..16).map(cost).sum();
        if cost < best.0 && rounded[15] <= LARGEST as i8 {
            best = (cost, rounded);
        }
    }
    best.1
}
