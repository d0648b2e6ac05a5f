//! Products of bf16 weights and activations rounded to bf16, by the CPU's dot products of pairs.
//!
//! The kernels are those of f32 weights, with a pair of numbers where those have one: an output
//! is one accumulator for each lane, or for each row, that takes its terms in order. Where the CPU
//! has AMX, a prefill's panels are multiplied by its tiles (`tiles`), which take 16 pairs at a time
//! and round in an order of their own.

mod decode;
mod prefill;
#[cfg(target_arch = "x86_64")]
mod tiles;

use super::{DECODE_ROWS, Input, Product, WeightData};
use half::bf16;

/// Numbers of a vector of the level that has the instruction.
const NUMBERS: usize = 32;

pub(super) fn project(input: &Input<'_>, products: &[Product<'_>]) {
    if input.rows <= DECODE_ROWS {
        decode::project(input, products);
    } else {
        prefill::project(input, products);
    }
}

/// The weights of a product that is known to have them in bf16, as many as its shape says.
fn weights<'a>(input: &Input<'_>, product: &Product<'a>) -> &'a [bf16] {
    let WeightData::Bf16(weights) = product.data else {
        unreachable!("only bf16 weights come here");
    };
    assert_eq!(weights.len(), product.out_features * input.in_features);
    weights
}
