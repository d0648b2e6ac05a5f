//! Attention against sums in f64, and bit for bit against itself.

use super::*;
use crate::level::{Level, with_level};
use crate::product::tests::noise;
use crate::reference;

struct Case {
    shape: AttentionShape,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl Case {
    /// Queries that make scores of some size, so that the softmax is not flat.
    fn new(
        heads: usize,
        kv_heads: usize,
        head_dim: usize,
        capacity: usize,
        queries: usize,
    ) -> Self {
        let scale = 1.0 / (head_dim as f32).sqrt();
        let shape = AttentionShape {
            heads,
            kv_heads,
            head_dim,
            capacity,
            scale,
        };
        let cache = kv_heads * capacity * head_dim;
        let mut q = noise(1, queries * heads * head_dim);
        q.iter_mut().for_each(|x| *x *= 8.0);
        Self {
            shape,
            q,
            k: noise(2, cache),
            v: noise(3, cache),
        }
    }

    fn step(&self, offset: usize, first: usize) -> AttentionStep<'_> {
        AttentionStep {
            q: &self.q,
            k: &self.k,
            v: &self.v,
            offset,
            first,
        }
    }

    fn run(&self, level: Level, offset: usize, first: usize) -> Vec<f32> {
        let mut out = vec![f32::NAN; self.q.len()];
        let step = self.step(offset, first);
        with_level(level, || attend(&self.shape, &[step], &mut [&mut out])).unwrap();
        out
    }
}

fn levels() -> impl Iterator<Item = Level> {
    Level::ALL.into_iter().filter(|level| level.is_available())
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn attention_matches_sums_in_f64() {
    // Scores reach about 20, with errors of some epsilons times that, which the softmax passes
    // on relatively; values are below 1.
    let bound = 60.0 * f64::from(f32::EPSILON);
    for head_dim in [2, 16, 18, 32, 64, 80, 128] {
        for (heads, kv_heads) in [(2, 2), (6, 2), (5, 1)] {
            for (queries, offset, first) in [
                (1, 0, 0),
                (1, 129, 0),
                (1, 63, 5),
                (7, 3, 2),
                (70, 0, 0),
                (65, 60, 9),
                (5, 0, 3),
            ] {
                let case = Case::new(heads, kv_heads, head_dim, 140, queries);
                let right = reference::attend(&case.shape, &case.step(offset, first));
                for level in levels() {
                    let out = case.run(level, offset, first);
                    for (i, (&y, right)) in out.iter().zip(&right).enumerate() {
                        let error = (f64::from(y) - right).abs();
                        assert!(
                            error <= bound,
                            "{level} {:?} {queries} {offset} {first}, output {i}: {error}",
                            case.shape
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn threads_and_company_do_not_change_bits() {
    let cases = [Case::new(4, 2, 32, 300, 1), Case::new(4, 2, 32, 300, 150)];
    for level in levels() {
        let alone: Vec<_> = cases
            .iter()
            .map(|case| bits(&case.run(level, 140, 7)))
            .collect();
        for threads in [1, 2, 3] {
            pool::set_threads(threads);
            let mut outputs = cases.each_ref().map(|case| vec![0.0; case.q.len()]);
            let steps = cases.each_ref().map(|case| case.step(140, 7));
            let [a, b] = &mut outputs;
            with_level(level, || attend(&cases[0].shape, &steps, &mut [a, b])).unwrap();
            assert!(
                outputs
                    .iter()
                    .zip(&alone)
                    .all(|(out, alone)| bits(out) == *alone)
            );
        }
    }
    pool::set_threads(0);
}

#[test]
fn padding_before_the_first_key_does_not_change_bits() {
    for queries in [1, 40] {
        let case = Case::new(2, 1, 16, 200, queries);
        let mut padded = Case::new(2, 1, 16, 200, queries);
        let pad = 37 * 16;
        padded.k[pad..].copy_from_slice(&case.k[..case.k.len() - pad]);
        padded.v[pad..].copy_from_slice(&case.v[..case.v.len() - pad]);
        padded.k[..pad].fill(f32::NAN);
        for level in levels() {
            assert_eq!(
                bits(&case.run(level, 90, 0)),
                bits(&padded.run(level, 127, 37))
            );
        }
    }
}

#[test]
fn a_prefill_in_chunks_has_the_same_bits() {
    let case = Case::new(2, 2, 32, 150, 150);
    for level in levels() {
        let whole = case.run(level, 0, 0);
        for chunk in [60..130, 3..5, 128..150] {
            let range = chunk.start * 64..chunk.end * 64;
            let q = &case.q[range.clone()];
            let step = AttentionStep {
                q,
                ..case.step(chunk.start, 0)
            };
            let mut out = vec![0.0; q.len()];
            with_level(level, || attend(&case.shape, &[step], &mut [&mut out])).unwrap();
            assert_eq!(bits(&out), bits(&whole[range]));
        }
    }
}

#[test]
fn a_query_before_the_first_key_gives_zeros() {
    for queries in [1, 3] {
        let case = Case::new(1, 1, 16, 8, queries);
        let out = case.run(level::level(), 0, 3);
        assert!(out.iter().all(|&y| y == 0.0));
    }
}

#[test]
fn what_lies_beyond_the_queries_is_not_read() {
    let mut case = Case::new(1, 1, 16, 100, 70);
    case.k[80 * 16..].fill(f32::NAN);
    case.v[80 * 16..].fill(f32::NAN);
    assert!(
        case.run(level::level(), 10, 0)
            .iter()
            .all(|y| y.is_finite())
    );
}

#[test]
#[should_panic(expected = "beyond 8")]
fn queries_beyond_the_capacity_panic() {
    Case::new(1, 1, 16, 8, 3).run(level::level(), 6, 0);
}
