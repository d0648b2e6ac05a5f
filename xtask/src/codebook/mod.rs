//! `cargo xtask codebook`: trains the 128 tables of the 4-bit format. Mirrored (negated and
//! reversed) they are 256, and a block of 32 weights picks the one that fits it best.
//!
//! Lloyd's iteration over random blocks: each block takes its best table, either way round, and
//! its best scale; each number of a table moves to where its weights have their mean. Tables grow
//! from one by splitting. Only operations that every machine rounds alike, in a fixed order, so a
//! seed gives the same file everywhere.

mod lloyd;
mod samples;
mod search;

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// Flags of `codebook`.
#[derive(Debug, clap::Args)]
pub(crate) struct CodebookArgs {
    /// Seed of the blocks to train on
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the tables go
    #[arg(
        short,
        long,
        default_value = "crates/olmo2-kernels/src/quant/codebook.csv"
    )]
    output: PathBuf,
}

/// A table in training: ascending, within -63 ..= 63 (7 bits: products of two bytes can then be
/// summed in 16 bits).
type Table = [f32; 16];

/// The largest magnitude in a table.
const LARGEST: f32 = 63.0;
/// Tables to train.
const TABLES: usize = 128;
/// Blocks that the last steps see; the growth makes do with a quarter.
const BLOCKS: usize = 240_000;

/// Runs the command.
pub(crate) fn run(args: &CodebookArgs) -> Result<()> {
    let blocks = samples::draw(args.seed, BLOCKS);
    let tables = lloyd::train(args.seed, &blocks, |stage, error| {
        println!("{stage}: {:.4} %", 100.0 * error);
    });
    std::fs::write(&args.output, csv(args.seed, &tables))
        .with_context(|| format!("cannot write {}", args.output.display()))
}

/// A table a line, beneath the command that made it.
fn csv(seed: u64, tables: &[[i8; 16]]) -> String {
    let mut text = format!("# cargo xtask codebook --seed {seed}\n");
    for table in tables {
        let numbers = table.map(|x| x.to_string());
        let _ = writeln!(text, "{}", numbers.join(","));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_file_and_more_tables_less_error() {
        let train = || {
            let mut errors = Vec::new();
            let blocks = samples::draw(7, 2000);
            let tables = lloyd::grow(7, &blocks, 4, &mut |_, error| errors.push(error));
            (tables, errors)
        };
        let (tables, errors) = train();
        assert_eq!((&tables, &errors), (&train().0, &train().1));
        // One table: a Lloyd-Max quantizer with 16 levels and a scale for each block.
        assert!((0.072..0.082).contains(&errors[0]), "{errors:?}");
        assert!(
            errors.windows(2).all(|pair| pair[1] < pair[0]),
            "{errors:?}"
        );
    }

    #[test]
    fn whole_numbers_stay_ascending_and_one_is_zero() {
        let table: Table = std::array::from_fn(|k| k as f32 * 8.3 - 62.1);
        let tables = lloyd::whole(&[(table, [1.0; 16]), (table.map(|t| t * 0.01), [1.0; 16])]);
        for table in &tables {
            assert!(table.windows(2).all(|pair| pair[0] < pair[1]), "{table:?}");
            assert!(table.iter().all(|t| (-63..=63).contains(t)));
        }
        assert!(tables.iter().flatten().any(|&t| t == 0));
        assert!(
            csv(1, &tables)
                .lines()
                .all(|line| line.starts_with('#') || line.split(',').count() == 16)
        );
    }
}
