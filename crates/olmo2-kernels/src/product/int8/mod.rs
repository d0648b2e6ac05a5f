//! Products of quantized weights with activations in 8 bits, by exact integer dot products of
//! blocks of 32.
//!
//! Up to 16 rows of activations an output is `LANES` partial sums in f32, one for the blocks
//! that leave the same rest, each taking its blocks in order: for few rows lanes run along `in`
//! ([`decode`], and [`single`] for one row with 8 bits), for more they are rows ([`wide`]), with the
//! same bits. Beyond 16 rows ([`prefill`]) there is one sum, over blocks in order. With AMX the last
//! two multiply tiles, to the same bits again.

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

use super::{DECODE_ROWS, Input, Product, WeightData};
use crate::level::Level;
use crate::quant::{Q4Scales, blocks};
use eight::Eight;
use four::Four;

/// Most rows for which lanes along `in` win; on AVX2 as a Zen 3 measured.
fn narrow_rows(level: Level) -> usize {
    match level {
        Level::Avx2 => 6,
        _ => 8,
    }
}

pub(super) fn project(input: &Input<'_>, products: &[Product<'_>]) {
    let steps: Vec<_> = products.iter().map(steps).collect();
    let matrices: Vec<_> = products.iter().zip(&steps).map(matrix).collect();
    if input.rows <= narrow_rows(input.level) {
        decode::project(input, &matrices);
    } else if input.rows <= DECODE_ROWS {
        wide::project(input, &matrices);
    } else {
        prefill::project(input, &matrices);
    }
}

/// A weight with its output.
struct Matrix<'a> {
    data: Data<'a>,
    product: &'a Product<'a>,
}

#[derive(Clone, Copy)]
enum Data<'a> {
    Eight(Eight),
    Four(Four<'a>),
}

fn steps(product: &Product<'_>) -> Option<Q4Scales> {
    match product.data {
        WeightData::Q4(q4) => Some(Q4Scales::new(q4.top)),
        _ => None,
    }
}

fn matrix<'a>((product, steps): (&'a Product<'a>, &'a Option<Q4Scales>)) -> Matrix<'a> {
    let data = match (product.data, steps) {
        (WeightData::Q4(q4), Some(steps)) => Data::Four(Four::new(&q4, steps)),
        (WeightData::Q8(q8), _) => Data::Eight(Eight::new(&q8)),
        _ => unreachable!("float weights have kernels of their own"),
    };
    Matrix { data, product }
}

impl Input<'_> {
    fn blocks(&self) -> usize {
        blocks(self.in_features)
    }
}
