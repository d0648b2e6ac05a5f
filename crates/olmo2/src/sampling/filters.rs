//! The steps between logits and token, each a pure function on a row of scores (`[vocab]`, f32,
//! no NaN, at least one above -inf). A filter drops a token by setting its score to -inf.
//!
//! Semantics are those of transformers 5.23, `generation/logits_process.py`.

use super::SamplingError;

const DROPPED: f32 = f32::NEG_INFINITY;

/// The id of the largest score, the lowest one between equals.
///
/// # Errors
/// NaN or +inf anywhere, or nothing above -inf.
pub(super) fn argmax(scores: &[f32]) -> Result<u32, SamplingError> {
    let mut best = (0, f32::NEG_INFINITY);
    for (id, &score) in (0u32..).zip(scores) {
        if score.is_nan() || score == f32::INFINITY {
            return Err(SamplingError::NotFinite { id, found: score });
        }
        if score > best.1 {
            best = (id, score);
        }
    }
    if best.1 == f32::NEG_INFINITY {
        let candidates = scores.len();
        return Err(SamplingError::NothingToSample { candidates });
    }
    Ok(best.0)
}

/// Adds each bias to its id's score.
pub(super) fn logit_bias(scores: &mut [f32], biases: &[(u32, f32)]) {
    for &(id, bias) in biases {
        if let Some(score) = scores.get_mut(id as usize) {
            *score += bias;
        }
    }
}

/// Makes ids (each given once) less likely: positive scores are divided, negative multiplied.
pub(super) fn repetition_penalty(
    scores: &mut [f32],
    seen: impl Iterator<Item = u32>,
    penalty: f32,
) {
    if penalty == 1.0 {
        return;
    }
    for id in seen {
        if let Some(score) = scores.get_mut(id as usize) {
            *score = if *score < 0.0 {
                *score * penalty
            } else {
                *score / penalty
            };
        }
    }
}

/// Subtracts `presence + count * frequency` from the score of each `(id, count)`, an id given
/// once; ids with count 0 are of the prompt and left alone. The formula is OpenAI's.
pub(super) fn output_penalties(
    scores: &mut [f32],
    output: impl Iterator<Item = (u32, u32)>,
    presence: f32,
    frequency: f32,
) {
    if presence == 0.0 && frequency == 0.0 {
        return;
    }
    for (id, count) in output.filter(|(_, count)| *count > 0) {
        if let Some(score) = scores.get_mut(id as usize) {
            *score -= presence + count as f32 * frequency;
        }
    }
}

/// Divides by the temperature (above 0). The largest score, that of `best`, becomes 0: a shift
/// does not change softmax, and without it a tiny temperature would overflow.
pub(super) fn temperature(scores: &mut [f32], best: u32, temperature: f32) {
    let max = scores[best as usize];
    for score in scores {
        *score = (*score - max) / temperature;
    }
}

/// Drops scores below the `k`th largest; scores equal to it stay. 0 drops nothing.
pub(super) fn top_k(scores: &mut [f32], k: usize) {
    if k == 0 || k >= scores.len() {
        return;
    }
    let mut order = scores.to_vec();
    let (_, &mut threshold, _) = order.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    for score in scores {
        if *score < threshold {
            *score = DROPPED;
        }
    }
}

/// Keeps a token while the tokens before it, most likely first, sum to less than `p` (so the one
/// that crosses `p` stays), and always the first. Between equals the lower id comes first.
pub(super) fn top_p(scores: &mut [f32], p: f32) {
    if p >= 1.0 {
        return;
    }
    let max = max_score(scores);
    let weight = |score: f32| f64::from((score - max).exp());
    let total: f64 = scores.iter().map(|&score| weight(score)).sum();
    let budget = f64::from(p) * total;

    let mut ranks = ranks(scores);
    let mut before = 0.0;
    let mut done = 0;
    // The tokens that matter are few: bring them to the front in growing blocks, not all at once.
    let mut block = 256;
    while done < ranks.len() {
        let end = done + block.min(ranks.len() - done);
        sort_front(&mut ranks[done..], end - done);
        for i in done..end {
            if i > 0 && before >= budget {
                ranks[i..]
                    .iter()
                    .for_each(|&rank| scores[id(rank)] = DROPPED);
                return;
            }
            before += weight(scores[id(ranks[i])]);
        }
        done = end;
        block *= 8;
    }
}

/// Drops tokens less likely than `p` times the most likely one: scores below `max + ln p`.
pub(super) fn min_p(scores: &mut [f32], p: f32) {
    let max = max_score(scores);
    let threshold = f64::from(p).ln();
    for score in scores {
        if f64::from(*score - max) < threshold {
            *score = DROPPED;
        }
    }
}

/// The first id at which the running sum of `exp(score)` exceeds `uniform` (in `[0, 1)`) times
/// the total. Turns the scores into these weights. `None` if all scores are -inf.
pub(super) fn draw(scores: &mut [f32], uniform: f64) -> Option<u32> {
    let max = max_score(scores);
    let mut total = 0.0;
    for score in scores.iter_mut() {
        // exp(-inf) is 0, but most scores are -inf, and a comparison is faster.
        *score = if *score > DROPPED {
            (*score - max).exp()
        } else {
            0.0
        };
        total += f64::from(*score);
    }
    let target = uniform * total;
    let mut sum = 0.0;
    let mut last = None;
    for (id, &weight) in (0u32..).zip(scores.iter()) {
        if weight > 0.0 {
            sum += f64::from(weight);
            last = Some(id);
            if sum > target {
                break;
            }
        }
    }
    // `target` may round up to the total: then the last token with any weight is the answer.
    last
}

/// A number for each score above -inf, smaller for a larger score and, between equals, for a
/// lower id: plain integers sort several times faster than ids by the scores they point to.
pub(super) fn ranks(scores: &[f32]) -> Vec<u64> {
    let rank = |id: u32, score: f32| {
        // `+ 0.0` makes -0.0 a 0.0. Flipped like this, the bits of floats sort as the floats do.
        let bits = (score + 0.0).to_bits();
        let ascending = if bits >> 31 == 1 {
            !bits
        } else {
            bits | 1 << 31
        };
        u64::from(!ascending) << 32 | u64::from(id)
    };
    (0u32..)
        .zip(scores)
        .filter(|(_, score)| **score > DROPPED)
        .map(|(id, &score)| rank(id, score))
        .collect()
}

/// The id in a rank.
pub(super) fn id(rank: u64) -> usize {
    (rank & u64::from(u32::MAX)) as usize
}

/// Brings the `n` smallest (at most all) to the front, sorted.
pub(super) fn sort_front(ranks: &mut [u64], n: usize) {
    if 0 < n && n < ranks.len() {
        ranks.select_nth_unstable(n - 1);
    }
    ranks[..n].sort_unstable();
}

/// The largest score, -inf for none.
pub(super) fn max_score(scores: &[f32]) -> f32 {
    scores.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INF: f32 = f32::INFINITY;

    /// exp gives 8, 4, 2, 1, 1: probabilities 1/2, 1/4, 1/8, 1/16, 1/16, out of order.
    fn sixteenths() -> Vec<f32> {
        [1f32, 4.0, 1.0, 8.0, 2.0].map(f32::ln).to_vec()
    }

    fn kept(scores: &[f32]) -> Vec<usize> {
        (0..scores.len()).filter(|&i| scores[i] > -INF).collect()
    }

    #[test]
    fn argmax_takes_the_lowest_id_between_equals() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0, -INF]), Ok(1));
        assert_eq!(argmax(&[0.0, -0.0]), Ok(0));
        assert_eq!(argmax(&[-0.0, 0.0]), Ok(0));
    }

    #[test]
    fn argmax_refuses_what_an_overflow_leaves() {
        let not_finite = |id, found| SamplingError::NotFinite { id, found };
        assert_eq!(argmax(&[0.0, INF]), Err(not_finite(1, INF)));
        let nan = argmax(&[0.0, 1.0, f32::NAN]);
        assert!(matches!(nan, Err(SamplingError::NotFinite { id: 2, found }) if found.is_nan()));
        let nothing = |candidates| SamplingError::NothingToSample { candidates };
        assert_eq!(argmax(&[-INF, -INF]), Err(nothing(2)));
        assert_eq!(argmax(&[]), Err(nothing(0)));
    }

    #[test]
    fn biases_add_up() {
        let mut scores = [1.0, 2.0, 3.0];
        logit_bias(&mut scores, &[(2, -5.0), (0, 0.5), (2, 1.0)]);
        assert_eq!(scores, [1.5, 2.0, -1.0]);
    }

    #[test]
    fn repetition_penalty_divides_positive_and_multiplies_negative_scores() {
        let mut scores = [3.0, -3.0, 4.0, 0.0];
        repetition_penalty(&mut scores, [0, 1, 3].into_iter(), 1.5);
        assert_eq!(scores, [2.0, -4.5, 4.0, 0.0]);
    }

    #[test]
    fn output_penalties_count_the_output_and_not_the_prompt() {
        let mut scores = [1.0, 1.0, 1.0];
        let counts = [(0, 0), (1, 1), (2, 3)];
        output_penalties(&mut scores, counts.into_iter(), 0.5, 0.25);
        assert_eq!(scores, [1.0, 0.25, -0.25]);
    }

    #[test]
    fn temperature_scales_the_distance_to_the_max_score() {
        let mut scores = [1.0, 3.0, -INF];
        temperature(&mut scores, 1, 0.5);
        assert_eq!(scores, [-4.0, 0.0, -INF]);
        let mut scores = [1e5, -1e5];
        temperature(&mut scores, 0, f32::MIN_POSITIVE);
        assert_eq!(scores, [0.0, -INF]);
    }

    #[test]
    fn top_k_keeps_ties_with_the_last_one() {
        let filtered = |k| {
            let mut scores = sixteenths();
            top_k(&mut scores, k);
            kept(&scores)
        };
        assert_eq!(filtered(1), [3]);
        assert_eq!(filtered(3), [1, 3, 4]);
        assert_eq!(filtered(4), [0, 1, 2, 3, 4]);
        assert_eq!(filtered(0), [0, 1, 2, 3, 4]);
        assert_eq!(filtered(99), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn top_p_keeps_the_token_that_crosses_the_threshold() {
        let filtered = |p| {
            let mut scores = sixteenths();
            top_p(&mut scores, p);
            kept(&scores)
        };
        assert_eq!(filtered(0.0), [3]);
        assert_eq!(filtered(0.49), [3]);
        assert_eq!(filtered(0.6), [1, 3]);
        assert_eq!(filtered(0.8), [1, 3, 4]);
        assert_eq!(filtered(0.93), [0, 1, 3, 4]);
        assert_eq!(filtered(0.99), [0, 1, 2, 3, 4]);
        assert_eq!(filtered(1.0), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn min_p_is_relative_to_the_most_likely() {
        let filtered = |p| {
            let mut scores = sixteenths();
            min_p(&mut scores, p);
            kept(&scores)
        };
        assert_eq!(filtered(0.0), [0, 1, 2, 3, 4]);
        assert_eq!(filtered(0.2), [1, 3, 4]);
        assert_eq!(filtered(0.3), [1, 3]);
        assert_eq!(filtered(1.0), [3]);
    }

    #[test]
    fn draw_walks_the_weights_in_order_of_id() {
        // Running sums of 1, 4, 1, 8, 2 over 16.
        for (uniform, id) in [
            (0.0, 0),
            (0.06, 0),
            (0.07, 1),
            (0.32, 2),
            (0.38, 3),
            (0.88, 4),
        ] {
            assert_eq!(draw(&mut sixteenths(), uniform), Some(id), "{uniform}");
        }
        let below_one = 1.0 - f64::EPSILON / 2.0;
        assert_eq!(draw(&mut [0.0, 0.0, -INF], below_one), Some(1));
        assert_eq!(draw(&mut [-INF, 0.0], 0.0), Some(1));
    }

    /// Rows with many equal scores and some already dropped.
    fn rows() -> impl Strategy<Value = Vec<f32>> {
        let score = prop_oneof![
            8 => (-20i32..4).prop_map(|x| x as f32 * 0.5),
            1 => Just(-INF),
            4 => -9.0f32..9.0,
        ];
        prop::collection::vec(score, 1..1500).prop_filter("one is kept", |row| argmax(row).is_ok())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn top_p_equals_a_full_sort(row in rows(), p in 0f32..1.0) {
            let mut ids: Vec<usize> = (0..row.len()).collect();
            // Stable: equals stay in order of id.
            ids.sort_by(|&a, &b| row[b].partial_cmp(&row[a]).expect("no NaN"));
            let weight = |id: usize| f64::from((row[id] - max_score(&row)).exp());
            let total: f64 = (0..row.len()).map(weight).sum();
            let mut before = 0.0;
            let mut expected = vec![DROPPED; row.len()];
            for (i, &id) in ids.iter().enumerate() {
                if i == 0 || before < f64::from(p) * total {
                    expected[id] = row[id];
                }
                before += weight(id);
            }
            let mut scores = row.clone();
            top_p(&mut scores, p);
            prop_assert_eq!(scores, expected);
        }

        #[test]
        fn top_k_equals_a_full_sort(row in rows(), k in 1usize..200) {
            let mut sorted = row.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            let threshold = sorted[k.min(row.len()) - 1];
            let mut scores = row.clone();
            top_k(&mut scores, k);
            for (score, before) in scores.iter().zip(&row) {
                prop_assert_eq!(*score, if *before < threshold { DROPPED } else { *before });
            }
        }

        #[test]
        fn draw_never_takes_a_dropped_token(row in rows(), uniform in 0f64..1.0) {
            let id = draw(&mut row.clone(), uniform);
            prop_assert!(id.is_some_and(|id| row[id as usize] > DROPPED));
        }
    }
}
