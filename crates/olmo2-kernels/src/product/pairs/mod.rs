//! Products of bf16 weights and activations rounded to bf16, by the CPU's dot matmuls of pairs.
//!
//! The kernels are those of f32 weights, with a pair of numbers where those have one: an output
//! is one accumulator for each lane, or for each row, that takes its terms in order. Where the CPU
//! has AMX, a prefill's panels are multiplied by its tiles (`tiles`), which take 16 pairs at a time
//! and round in an order of their own.

mod decode;
mod prefill;
#[cfg(target_arch = "x86_64")]
mod tiles;

use super::{DECODE_ROWS, Input, Matmul};

/// Numbers of a vector of the level that has the instruction.
const VALUES: usize = 32;

pub(super) fn matmul(input: &Input<'_>, matmuls: &[Matmul<'_>]) {
    if input.rows <= DECODE_ROWS {
        decode::matmul(input, matmuls);
    } else {
        prefill::matmul(input, matmuls);
    }
}
