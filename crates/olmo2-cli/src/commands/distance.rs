//! How much two sets of logits differ.

use olmo2::sampling::kl_divergence;

/// The distance of logits from those that are expected.
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
            divergence += kl_divergence(expected, found);
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

fn most_likely(logits: &[f32]) -> Option<usize> {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_definition() {
        let expected = [0.0, 3.0_f32.ln()];
        let distance = Distance::between(&[1.0, 1.0], &expected, 2);
        let same = Distance::between(&expected, &expected, 2);
        assert_eq!(
            (same.error, same.divergence, same.agreement),
            (0.0, 0.0, 1.0)
        );
        let error = (1.0 + (3.0_f64.ln() - 1.0).powi(2)).sqrt() / 3.0_f64.ln();
        assert!((distance.error - error).abs() < 1e-6);
    }
}
