//! The first half of a feed-forward block: `silu(x gate^T) * (x up^T)`.

use super::{Activations, DECODE_ROWS, Matmul, WeightRef, multiply, out_features, rows_of};
use crate::activation;
use crate::buffer::{Scratch, SharedMut, Unwritten, with_scratch};
use std::cell::RefCell;

thread_local! {
    static UP: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
}

/// `silu(x gate^T + bias) * (x up^T + bias)`, `[rows, out]`, with `weights` `[gate, up]`. The bits
/// are those of [`matmul`](super::matmul) followed by [`silu_mul`](crate::silu_mul).
///
/// If both weights have one format, a prefill multiplies while the sums are in the cache, and
/// writes neither matmul to memory.
///
/// # Panics
/// `in_features` is 0, the weights differ in shape, or a length does not fit the others.
pub fn matmul_gated(
    x: &[f32],
    in_features: usize,
    activations: Activations,
    weights: &[WeightRef<'_>; 2],
) -> Vec<f32> {
    let rows = rows_of(x, in_features);
    let [gate, up] = weights.each_ref().map(|w| out_features(w, in_features));
    assert_eq!(gate, up, "the weights differ in shape");
    let mut output = Unwritten::new(rows * up);
    let out = output.shared();
    let multiply = |outputs: [SharedMut<'_>; 2], gated| {
        let matmul = |i: usize| Matmul::new(&weights[i], in_features, outputs[i]);
        multiply(x, in_features, activations, [0, 1].map(matmul), gated);
    };
    let [gate, up] = weights.map(|weight| std::mem::discriminant(&weight.data));
    if rows > DECODE_ROWS && gate == up {
        // Both have one output; of a gated pair only the second is written, as `jobs` says.
        multiply([out, out], true);
    } else {
        with_scratch(&UP, out.len(), |up| {
            multiply([out, SharedMut::new(up)], false);
            activation::silu_mul_to(out, up);
        });
    }
    // SAFETY: the kernels write every element.
    unsafe { output.written() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::with_level;
    use crate::pool;
    use crate::product::tests::{Weights, levels, noise, same_bits};
    use crate::product::{WeightData, int8, matmul};

    /// Asserts the bits of two matmuls followed by `silu_mul`, at every level.
    fn assert_gated(x: &[f32], k: usize, kind: Activations, weights: &[WeightRef<'_>; 2]) {
        for level in levels() {
            let both = with_level(level, || matmul(x, k, kind, weights)).unwrap();
            let [mut right, up] = both;
            with_level(level, || crate::silu_mul(&mut right, &up)).unwrap();
            let out = with_level(level, || matmul_gated(x, k, kind, weights)).unwrap();
            assert!(same_bits(&out, &right), "{level} {kind:?} {weights:?}");
        }
    }

    #[test]
    fn a_gated_product_has_the_bits_of_two_products() {
        for (k, n) in [(33, 9), (100, 100), (2080, 200)] {
            let floats = [1, 2].map(|seed| Weights::new(seed, n * k));
            let blocks = [1, 2].map(|seed| int8::tests::Weights::new(seed, n, k));
            let bias = [3, 4].map(|seed| noise(seed, n));
            let formats = |i: usize| floats[i].all().into_iter().chain(blocks[i].all());
            let pairs: Vec<[WeightData<'_>; 2]> =
                formats(0).zip(formats(1)).map(Into::into).collect();
            for m in [0, 1, 16, 17, 50] {
                let x = noise(m as u64, m * k);
                for pair in &pairs {
                    let [gate, up] = pair.map(WeightRef::new);
                    let biased = [gate.with_bias(&bias[0]), up.with_bias(&bias[1])];
                    for weights in [[gate, up], biased, [gate, biased[1]], [biased[0], up]] {
                        for kind in [Activations::F32, Activations::Bf16] {
                            assert_gated(&x, k, kind, &weights);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn formats_may_differ_and_rows_be_more_than_are_packed_at_a_time() {
        let (k, n) = (64, 100);
        let (floats, blocks) = (Weights::new(1, n * k), int8::tests::Weights::new(2, n, k));
        let ([f32, bf16, _], [q8, q4]) = (floats.all(), blocks.all());
        for m in [20, 530] {
            let x = noise(5, m * k);
            for pair in [[f32, bf16], [q8, q4], [bf16, q8], [q4, q4], [bf16, bf16]] {
                assert_gated(&x, k, Activations::Bf16, &pair.map(WeightRef::new));
            }
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let (k, n, m) = (96, 1000, 40);
        let (blocks, x) = (int8::tests::Weights::new(2, n, k), noise(5, m * k));
        for threads in [1, 2, 3] {
            pool::set_threads(threads);
            for data in blocks.all() {
                assert_gated(&x, k, Activations::F32, &[WeightRef::new(data); 2]);
            }
        }
        pool::set_threads(0);
    }

    #[test]
    #[should_panic(expected = "the weights differ in shape")]
    fn weights_of_two_shapes_panic() {
        let weights = [&[1.0; 8][..], &[1.0; 12]].map(|data| WeightRef::new(WeightData::F32(data)));
        matmul_gated(&[], 4, Activations::F32, &weights);
    }
}
