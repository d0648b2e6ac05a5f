//! Matmuls of quantized weights with activations in 8 bits, by exact integer dot products of blocks
//! of 32.
//!
//! Up to 16 rows of activations, an output is `LANES` partial sums in f32. Partial sum `i` adds the
//! terms of blocks `i`, `i + LANES` and so on, in order. For few rows the lanes run along `in`
//! ([`decode`], and [`single`] for one row with 8-bit weights), for more rows the lanes are rows
//! ([`wide`]), with the same bits. Beyond 16 rows ([`prefill`]) there is one sum over the blocks in
//! order. With AMX the last two multiply tiles, again with the same bits.

mod activations;
mod decode;
mod eight;
mod format;
mod four;
mod prefill;
mod single;
#[cfg(test)]
pub(super) mod tests;
#[cfg(target_arch = "x86_64")]
mod tiles;
mod wide;
mod wide_features;
#[cfg(target_arch = "x86_64")]
mod wide_tiles;

use super::{DECODE_ROWS, Input, Matmul, WeightData};
use crate::level::Level;
use crate::quant::blocks;
use eight::Q8Blocks;
use four::Q4Blocks;

/// Up to this many rows, lanes along `in` are faster than lanes of rows.
fn narrow_rows(level: Level) -> usize {
    match level {
        Level::Avx2 => 6,
        _ => 8,
    }
}

pub(super) fn matmul(input: &Input<'_>, matmuls: &[Matmul<'_>]) {
    if input.rows <= narrow_rows(input.level) {
        decode::matmul(input, matmuls);
    } else if input.rows <= DECODE_ROWS {
        wide::matmul(input, matmuls);
    } else {
        prefill::matmul(input, matmuls);
    }
}

/// The blocks of a quantized weight.
#[derive(Clone, Copy)]
enum Blocks<'a> {
    Q8(Q8Blocks),
    Q4(Q4Blocks<'a>),
}

impl<'a> Blocks<'a> {
    fn of(matmul: &'a Matmul<'_>) -> Self {
        match (&matmul.data, &matmul.q4_scales) {
            (WeightData::Q4(q4), Some(scales)) => Self::Q4(Q4Blocks::new(q4, scales)),
            (WeightData::Q8(q8), _) => Self::Q8(Q8Blocks::new(q8)),
            _ => unreachable!("float weights have kernels of their own"),
        }
    }
}

impl Input<'_> {
    fn blocks(&self) -> usize {
        blocks(self.in_features)
    }
}
