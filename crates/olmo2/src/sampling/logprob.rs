//! Log probabilities of a row of logits, for `logprobs` and perplexity.

use super::filters::{self, max_score, ranks, sort_front};

/// One token and its natural log probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub id: u32,
    /// Its log probability, 0 or less.
    pub logprob: f64,
}

/// The natural log probability that softmax over `logits` (`[vocab]`, f32) gives to `id`, summed
/// in f64. -inf for an id that the row does not have; NaN if a logit is NaN or +inf, or all are
/// -inf.
pub fn log_prob(logits: &[f32], id: u32) -> f64 {
    logits.get(id as usize).map_or(f64::NEG_INFINITY, |&logit| {
        f64::from(logit) - log_sum_exp(logits)
    })
}

/// The `n` most likely tokens of a row of logits, best first, the lower id first between equals,
/// with log probabilities as [`log_prob`] has them. Fewer if fewer logits are above -inf.
pub fn top_logprobs(logits: &[f32], n: usize) -> Vec<TokenLogprob> {
    let mut ranks = ranks(logits);
    let n = n.min(ranks.len());
    sort_front(&mut ranks, n);
    let norm = log_sum_exp(logits);
    ranks[..n]
        .iter()
        .map(|&rank| filters::id(rank))
        .map(|id| TokenLogprob {
            id: id as u32,
            logprob: f64::from(logits[id]) - norm,
        })
        .collect()
}

/// Kullback-Leibler divergence, in nats, of the distribution that softmax gives over `found` from
/// that over `expected`: 0 where they are equal. Both are rows of logits, `[vocab]`, f32; sums are
/// in f64.
pub fn kl_divergence(expected: &[f32], found: &[f32]) -> f64 {
    let (p_norm, q_norm) = (log_sum_exp(expected), log_sum_exp(found));
    let terms = expected.iter().zip(found).map(|(&p, &q)| {
        let (p, q) = (f64::from(p) - p_norm, f64::from(q) - q_norm);
        p.exp() * (p - q)
    });
    terms.sum()
}

/// `ln(sum(exp(logits)))`, shifted by the largest logit so that nothing overflows.
fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = f64::from(max_score(logits));
    let sum: f64 = logits
        .iter()
        .map(|&logit| (f64::from(logit) - max).exp())
        .sum();
    max + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// exp gives 8, 4, 2, 2: probabilities 1/2, 1/4, 1/8, 1/8.
    fn eighths() -> Vec<f32> {
        [8f32, 4.0, 2.0, 2.0].map(f32::ln).to_vec()
    }

    #[test]
    fn log_prob_is_the_logarithm_of_the_probability() {
        for (id, p) in [(0, 0.5), (1, 0.25), (2, 0.125), (3, 0.125f64)] {
            assert!((log_prob(&eighths(), id) - p.ln()).abs() < 1e-7);
        }
    }

    #[test]
    fn log_prob_survives_large_logits_and_sums_in_f64() {
        assert!((log_prob(&[1e4, 1e4], 0) + 2f64.ln()).abs() < 1e-12);
        // 2^24 equal logits: an f32 sum of ones would stop growing there.
        let equal = vec![-3.0f32; (1 << 24) + 4096];
        let expected = -(equal.len() as f64).ln();
        assert!((log_prob(&equal, 7) - expected).abs() < 1e-9);
    }

    #[test]
    fn log_prob_of_what_is_not_there_is_no_number_to_trust() {
        assert_eq!(log_prob(&eighths(), 4), f64::NEG_INFINITY);
        assert_eq!(log_prob(&[0.0, f32::NEG_INFINITY], 1), f64::NEG_INFINITY);
        assert!(log_prob(&[0.0, f32::NAN], 0).is_nan());
        assert!(log_prob(&[0.0, f32::INFINITY], 1).is_nan());
        assert!(log_prob(&[f32::NEG_INFINITY], 0).is_nan());
    }

    /// Probabilities 1/4, 3/4 against 1/2, 1/2: 1/4 ln(1/2) + 3/4 ln(3/2).
    #[test]
    fn kl_divergence_is_that_of_the_definition() {
        let expected = [0.0, 3f32.ln()];
        let divergence = 0.25 * 0.5f64.ln() + 0.75 * 1.5f64.ln();
        assert!((kl_divergence(&expected, &[1.0, 1.0]) - divergence).abs() < 1e-7);
        assert_eq!(kl_divergence(&expected, &expected), 0.0);
    }

    #[test]
    fn top_logprobs_are_sorted_and_ties_go_to_the_lower_id() {
        let row = [2f32, 8.0, 2.0, 4.0].map(f32::ln);
        let ids = |n| -> Vec<u32> { top_logprobs(&row, n).iter().map(|t| t.id).collect() };
        assert_eq!(ids(0), [] as [u32; 0]);
        assert_eq!(ids(3), [1, 3, 0]);
        assert_eq!(ids(9), [1, 3, 0, 2]);
        let zeros = top_logprobs(&[-0.0, 0.0, f32::NEG_INFINITY], 3);
        assert_eq!(zeros.iter().map(|t| t.id).collect::<Vec<_>>(), [0, 1]);
        for token in top_logprobs(&row, 4) {
            assert_eq!(token.logprob, log_prob(&row, token.id));
        }
    }
}
