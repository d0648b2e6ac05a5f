//! The kernels with outputs in new memory, which is not zeroed first.
#![allow(unsafe_code, reason = "kernels write every element of their outputs")]

use crate::buffer::Unwritten;
use crate::norm::{RotationTable, norm_rotate_to, rms_norm_to};
use crate::product::{Activations, WeightRef, project_gated_to, project_to};

/// [`project`](crate::project), one output for each of `weights`.
///
/// # Panics
/// `in_features` is 0, or a length does not fit the others.
pub fn project<const N: usize>(
    x: &[f32],
    in_features: usize,
    activations: Activations,
    weights: &[WeightRef<'_>; N],
) -> [Vec<f32>; N] {
    let mut outputs = weights
        .each_ref()
        .map(|weight| output(x, in_features, weight));
    let shared = outputs.iter_mut().map(Unwritten::shared).collect();
    project_to(x, in_features, activations, weights, shared);
    // SAFETY: the kernel writes every element of all outputs.
    outputs.map(|output| unsafe { output.written() })
}

/// [`project_gated`](crate::project_gated).
///
/// # Panics
/// `in_features` is 0, the weights differ in shape, or a length does not fit the others.
pub fn project_gated(
    x: &[f32],
    in_features: usize,
    activations: Activations,
    weights: &[WeightRef<'_>; 2],
) -> Vec<f32> {
    let mut output = output(x, in_features, &weights[1]);
    project_gated_to(x, in_features, activations, weights, output.shared());
    // SAFETY: the kernel writes every element.
    unsafe { output.written() }
}

/// Room for the product of `x` with a weight.
fn output(x: &[f32], in_features: usize, weight: &WeightRef<'_>) -> Unwritten {
    assert_ne!(in_features, 0, "`in_features` is 0");
    let out = weight.data.out_features(in_features);
    let out = out.expect("a weight is a whole number of rows");
    Unwritten::new(x.len() / in_features * out)
}

/// [`rms_norm`](crate::rms_norm).
///
/// # Panics
/// `weight` is empty, or the lengths do not fit each other.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, residual: Option<&[f32]>) -> Vec<f32> {
    let mut out = Unwritten::new(x.len());
    rms_norm_to(x, weight, eps, residual, out.shared());
    // SAFETY: the kernel writes every element.
    unsafe { out.written() }
}

/// [`norm_rotate`](crate::norm_rotate).
///
/// # Panics
/// `weight` is empty or no multiple of `head_dim`, `head_dim` is odd, or the lengths do not fit
/// each other.
pub fn norm_rotate(x: &[f32], weight: &[f32], eps: f32, table: &RotationTable<'_>) -> Vec<f32> {
    let mut out = Unwritten::new(x.len());
    norm_rotate_to(x, weight, eps, table, out.shared());
    // SAFETY: the kernel writes every element.
    unsafe { out.written() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::with_level;
    use crate::product::WeightData;
    use crate::product::tests::{levels, noise};
    use crate::quant::{Q8, blocks, quantize_q8};
    use half::{bf16, f16};

    /// New memory starts as NaN in tests: an element that is not written shows.
    #[test]
    fn new_outputs_are_those_of_the_kernels_that_fill_slices() {
        let (k, n) = (96, 37);
        let weight = noise(2, n * k);
        let narrow: Vec<bf16> = weight.iter().map(|&w| bf16::from_f32(w)).collect();
        let (mut quants, mut scales) = (vec![0; n * k], vec![f16::ZERO; n * blocks(k)]);
        quantize_q8(&weight, k, &mut quants, &mut scales);
        let q8 = WeightData::Q8(Q8 {
            quants: &quants,
            scales: &scales,
        });
        for rows in [0, 1, 7, 12, 40] {
            let x = noise(1, rows * k);
            for data in [WeightData::F32(&weight), WeightData::Bf16(&narrow), q8] {
                for kind in [Activations::F32, Activations::Bf16] {
                    for level in levels() {
                        let weights = [WeightRef::new(data); 2];
                        let mut right = vec![0.0; rows * n];
                        let run = || {
                            crate::project(&x, k, kind, &weights[..1], &mut [&mut right]);
                            project(&x, k, kind, &weights)
                        };
                        let outputs = with_level(level, run).unwrap();
                        assert_eq!(outputs, [right.clone(), right.clone()]);
                        let run = || {
                            crate::project_gated(&x, k, kind, &weights, &mut right);
                            project_gated(&x, k, kind, &weights)
                        };
                        assert_eq!(with_level(level, run).unwrap(), right);
                    }
                }
            }
        }
    }

    #[test]
    fn new_rows_are_those_of_the_kernels_that_fill_slices() {
        let k = 96;
        let weight = noise(2, k);
        for rows in [0, 1, 7, 40] {
            let x = noise(1, rows * k);
            let mut right = vec![0.0; x.len()];
            crate::rms_norm(&x, &weight, 1e-6, Some(&x), &mut right);
            assert_eq!(rms_norm(&x, &weight, 1e-6, Some(&x)), right);
            let table = RotationTable {
                cos: &weight[..32],
                sin: &weight[32..64],
                head_dim: 32,
            };
            crate::norm_rotate(&x, &weight, 1e-6, &table, &mut right);
            assert_eq!(norm_rotate(&x, &weight, 1e-6, &table), right);
        }
    }
}
