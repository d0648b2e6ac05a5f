//! Products with quantised weights.

use super::{Input, Product};

pub(super) fn project(input: &Input<'_>, products: &[Product<'_>]) {
    let k = input.in_features;
    let mut weight = vec![0.0; k];
    for product in products {
        for n in 0..product.out_features {
            product.data.row(n, &mut weight);
            for (m, x) in input.x.chunks_exact(k).enumerate() {
                let sum: f32 = x.iter().zip(&weight).map(|(x, w)| x * w).sum();
                let sum = product.bias.map_or(sum, |bias| sum + bias[n]);
                // SAFETY: inside the output; one thread writes.
                unsafe { *product.out.at(m * product.out_features + n, 1) = sum };
            }
        }
    }
}
