//! How far two sets of logits lie apart.

/// How far two sets of logits lie apart.
pub(super) struct Distance {
    /// Root mean square of the difference, over that of the logits.
    pub(super) error: f64,
    /// Kullback-Leibler divergence of the next token's distribution, mean over positions.
    pub(super) divergence: f64,
    /// Share of positions with the same most likely token.
    pub(super) agreement: f64,
}

impl Distance {
    pub(super) fn between(found: &[f32], expected: &[f32], vocab: usize) -> Self {
        let [mut error, mut size, mut divergence, mut same] = [0.0; 4];
        let positions = expected.len() / vocab;
        for (found, expected) in found.chunks_exact(vocab).zip(expected.chunks_exact(vocab)) {
            let (p, q) = (log_softmax(expected), log_softmax(found));
            divergence += p
                .iter()
                .zip(&q)
                .map(|(p, q)| p.exp() * (p - q))
                .sum::<f64>();
            same += f64::from(u8::from(most_likely(found) == most_likely(expected)));
            for (found, expected) in found.iter().zip(expected) {
                error += f64::from(found - expected).powi(2);
                size += f64::from(*expected).powi(2);
            }
        }
        Self {
            error: (error / size).sqrt(),
            divergence: divergence / positions as f64,
            agreement: same / positions as f64,
        }
    }
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shifted = || logits.iter().map(|x| f64::from(x - largest));
    let total = shifted().map(f64::exp).sum::<f64>().ln();
    shifted().map(|x| x - total).collect()
}

fn most_likely(logits: &[f32]) -> Option<usize> {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probabilities 1/4, 3/4 against 1/2, 1/2: 1/4 ln(1/2) + 3/4 ln(3/2).
    #[test]
    fn distances_are_those_of_the_definition() {
        let expected = [0.0, 3.0_f32.ln()];
        let distance = Distance::between(&[1.0, 1.0], &expected, 2);
        let divergence = 0.25 * 0.5_f64.ln() + 0.75 * 1.5_f64.ln();
        assert!((distance.divergence - divergence).abs() < 1e-7);
        let same = Distance::between(&expected, &expected, 2);
        assert_eq!(
            (same.error, same.divergence, same.agreement),
            (0.0, 0.0, 1.0)
        );
        let error = (1.0 + (3.0_f64.ln() - 1.0).powi(2)).sqrt() / 3.0_f64.ln();
        assert!((distance.error - error).abs() < 1e-6);
    }
}
