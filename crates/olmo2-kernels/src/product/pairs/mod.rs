//! Matmuls of bf16 weights and activations rounded to bf16, by the CPU's bf16 dot instruction.
//!
//! The kernels are those of f32 weights, with a pair of bf16 in place of each f32: an output is one
//! accumulator for each lane, or for each row, that adds its terms in order. On CPUs with AMX a
//! prefill multiplies its panels by tiles (`tiles`), which take 16 pairs at a time and have a
//! rounding order of their own.

mod decode;
mod prefill;
#[cfg(target_arch = "x86_64")]
mod tiles;

use super::{DECODE_ROWS, Input, Matmul};

/// bf16 values in a vector of the level that has the instruction.
const VALUES: usize = 32;

pub(super) fn matmul(input: &Input<'_>, matmuls: &[Matmul<'_>]) {
    if input.rows <= DECODE_ROWS {
        decode::matmul(input, matmuls);
    } else {
        prefill::matmul(input, matmuls);
    }
}
