//! Scalar versions of the kernels with sums in f64, which tests compare the fast ones with.

use crate::attention::{AttentionShape, AttentionStep};
use crate::product::WeightData;

/// `y[m][out] = sum of x[m][in] * w[out][in], plus bias`, each with the sum of its terms'
/// magnitudes, to which error bounds are proportional.
pub fn matmul(
    x: &[f32],
    in_features: usize,
    data: WeightData<'_>,
    bias: Option<&[f32]>,
) -> Vec<(f64, f64)> {
    let out_features = data.out_features(in_features).expect("whole rows");
    let mut weight = vec![0.0; in_features];
    let mut out = vec![(0.0, 0.0); x.len() / in_features * out_features];
    for n in 0..out_features {
        data.row(n, &mut weight);
        let start = bias.map_or(0.0, |bias| f64::from(bias[n]));
        for (row, out) in x
            .chunks_exact(in_features)
            .zip(out.chunks_exact_mut(out_features))
        {
            let terms = row
                .iter()
                .zip(&weight)
                .map(|(&x, &w)| f64::from(x) * f64::from(w));
            out[n] = terms.fold((start, start.abs()), |(sum, size), term| {
                (sum + term, size + term.abs())
            });
        }
    }
    out
}

/// `softmax(q k^T * scale) v` of one step, in the layout of [`crate::attend`]'s output.
pub fn attend(shape: &AttentionShape, step: &AttentionStep<'_>) -> Vec<f64> {
    let &AttentionShape {
        heads,
        kv_heads,
        head_dim,
        capacity,
        scale,
    } = shape;
    let mut out = vec![0.0; step.q.len()];
    for (row, out) in out.chunks_exact_mut(head_dim).enumerate() {
        let (i, head) = (row / heads, row % heads);
        let kv = head / (heads / kv_heads) * capacity;
        let q = &step.q[row * head_dim..][..head_dim];
        let end = step.offset + i + 1;
        let visible = end.saturating_sub(step.window)..end;
        let mut stored = vec![0.0; head_dim];
        let mut score = |j| {
            step.k.row(kv + j, &mut stored);
            let terms = q.iter().zip(&stored);
            terms
                .map(|(&q, &k)| f64::from(q) * f64::from(k))
                .sum::<f64>()
        };
        let scores: Vec<f64> = visible
            .clone()
            .map(|j| score(j) * f64::from(scale))
            .collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
        let total: f64 = weights.iter().sum();
        for (weight, j) in weights.iter().zip(visible) {
            step.v.row(kv + j, &mut stored);
            for (out, &v) in out.iter_mut().zip(&stored) {
                *out += weight / total * f64::from(v);
            }
        }
    }
    out
}

/// `silu(gate) * up`.
pub fn silu_mul(gate: &[f32], up: &[f32]) -> Vec<f64> {
    let silu = |x: f64| x / (1.0 + (-x).exp());
    let pairs = gate.iter().zip(up);
    pairs
        .map(|(&gate, &up)| silu(f64::from(gate)) * f64::from(up))
        .collect()
}
