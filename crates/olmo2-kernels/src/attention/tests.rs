//! Attention against sums in f64, and bit for bit against itself.

use super::*;
use crate::level::with_level;
use crate::product::tests::noise;
use crate::reference;
use half::bf16;
use proptest::prelude::*;

/// The storage type of a test's cache.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    F32,
    Bf16,
    Q8,
}

const KINDS: [Kind; 3] = [Kind::F32, Kind::Bf16, Kind::Q8];

/// Keys or values of one sequence.
#[derive(Clone)]
enum Cache {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
    Q8(Vec<i8>, Vec<bf16>),
}

impl Cache {
    /// Filled with values that would show if they were read.
    fn new(kind: Kind, shape: &AttentionShape) -> Self {
        let rows = shape.kv_heads * shape.capacity;
        let (len, scales) = (rows * shape.head_dim, rows * cache_blocks(shape.head_dim));
        match kind {
            Kind::F32 => Self::F32(vec![f32::NAN; len]),
            Kind::Bf16 => Self::Bf16(vec![bf16::NAN; len]),
            Kind::Q8 => Self::Q8(vec![1; len], vec![bf16::NAN; scales]),
        }
    }

    fn as_mut(&mut self) -> CacheMut<'_> {
        match self {
            Self::F32(data) => CacheMut::F32(data),
            Self::Bf16(data) => CacheMut::Bf16(data),
            Self::Q8(quants, scales) => CacheMut::Q8 { quants, scales },
        }
    }

    fn as_ref(&self) -> CacheRef<'_> {
        match self {
            Self::F32(data) => CacheRef::F32(data),
            Self::Bf16(data) => CacheRef::Bf16(data),
            Self::Q8(quants, scales) => CacheRef::Q8 { quants, scales },
        }
    }

    /// One head of one position.
    fn row(&self, shape: &AttentionShape, head: usize, position: usize) -> Vec<f32> {
        let mut out = vec![0.0; shape.head_dim];
        self.as_ref()
            .row(head * shape.capacity + position, &mut out);
        out
    }
}

struct Case {
    shape: AttentionShape,
    q: Vec<f32>,
    k: Cache,
    v: Cache,
}

impl Case {
    /// Queries that make scores of some size, so that the softmax is not flat; keys and values in
    /// all positions.
    fn new(
        kind: Kind,
        [heads, kv_heads, head_dim]: [usize; 3],
        capacity: usize,
        queries: usize,
    ) -> Self {
        Self::filled(
            kind,
            [heads, kv_heads, head_dim],
            capacity,
            queries,
            0..capacity,
        )
    }

    /// As [`new`](Self::new), with tokens in these positions alone.
    fn filled(
        kind: Kind,
        [heads, kv_heads, head_dim]: [usize; 3],
        capacity: usize,
        queries: usize,
        positions: Range<usize>,
    ) -> Self {
        let scale = 1.0 / (head_dim as f32).sqrt();
        let shape = AttentionShape {
            heads,
            kv_heads,
            head_dim,
            capacity,
            scale,
        };
        let mut q = noise(1, queries * heads * head_dim);
        q.iter_mut().for_each(|x| *x *= 8.0);
        let [k, v] = [2, 3].map(|seed| {
            let tokens = noise(seed, positions.len() * kv_heads * head_dim);
            let mut cache = Cache::new(kind, &shape);
            store(&shape, positions.start, &tokens, cache.as_mut());
            cache
        });
        Self { shape, q, k, v }
    }

    fn step(&self, offset: usize, window: usize) -> AttentionStep<'_> {
        AttentionStep {
            q: &self.q,
            k: self.k.as_ref(),
            v: self.v.as_ref(),
            offset,
            window,
        }
    }

    fn run(&self, level: Level, offset: usize, window: usize) -> Vec<f32> {
        let step = self.step(offset, window);
        with_level(level, || attend(&self.shape, &[step])).unwrap()
    }
}

fn levels() -> impl Iterator<Item = Level> {
    Level::ALL.into_iter().filter(|level| level.is_available())
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Asserts that all outputs are near sums in f64 over the cache's contents.
#[track_caller]
fn assert_right(case: &Case, level: Level, offset: usize, window: usize) {
    // Scores reach about 20, with errors of some epsilons times that, which the softmax passes on
    // as relative errors; values are below 1.
    let bound = 60.0 * f64::from(f32::EPSILON);
    let right = reference::attend(&case.shape, &case.step(offset, window));
    for (i, (&y, right)) in case
        .run(level, offset, window)
        .iter()
        .zip(&right)
        .enumerate()
    {
        let error = (f64::from(y) - right).abs();
        assert!(
            error <= bound,
            "{level} {:?} at {offset} in {window}, output {i}: {error}",
            case.shape
        );
    }
}

#[test]
fn attention_matches_sums_in_f64() {
    for kind in KINDS {
        for head_dim in [2, 16, 18, 32, 64, 80, 128] {
            for (heads, kv_heads) in [(2, 2), (6, 2), (5, 1)] {
                for (queries, offset, window) in [
                    (1, 0, NO_WINDOW),
                    (1, 129, NO_WINDOW),
                    (1, 63, 59),
                    (7, 3, 2),
                    (70, 0, NO_WINDOW),
                    (70, 0, 1),
                    (65, 60, 100),
                    (70, 70, 9),
                ] {
                    let case = Case::new(kind, [heads, kv_heads, head_dim], 140, queries);
                    levels().for_each(|level| assert_right(&case, level, offset, window));
                }
            }
        }
    }
}

#[test]
fn more_heads_than_usual_may_share_keys() {
    for kind in KINDS {
        let case = Case::new(kind, [40, 2, 16], 20, 1);
        levels().for_each(|level| assert_right(&case, level, 19, NO_WINDOW));
    }
}

#[test]
fn chunks_of_a_long_cache_are_put_together() {
    for kind in KINDS {
        let case = Case::new(kind, [4, 2, 32], 3 * CHUNK, 1);
        for (offset, window) in [
            (CHUNK - 1, NO_WINDOW),
            (CHUNK, NO_WINDOW),
            (3 * CHUNK - 1, NO_WINDOW),
            (2500, 2400),
            (2500, CHUNK),
        ] {
            levels().for_each(|level| assert_right(&case, level, offset, window));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Any shape, with NaN in every position that must not be read.
    #[test]
    fn attention_of_any_shape_is_right(
        (group, kv_heads, head_dim) in (1_usize..7, 1_usize..4, 1_usize..140),
        (queries, offset, window) in (1_usize..90, 0_usize..150, 1_usize..200),
        kind in prop::sample::select(&KINDS[..]),
    ) {
        let queries = if queries > 70 { 1 } else { queries };
        let (first, end) = ((offset + 1).saturating_sub(window), offset + queries);
        let sizes = [group * kv_heads, kv_heads, head_dim];
        let case = Case::filled(kind, sizes, end + 3, queries, first..end);
        levels().for_each(|level| assert_right(&case, level, offset, window));
    }

    /// Stored values are near the originals, and depend on their own block alone.
    #[test]
    fn stored_rows_are_near_and_alone(
        (tokens, kv_heads, head_dim) in (1_usize..30, 1_usize..4, 1_usize..140),
        position in 0_usize..20,
        exponent in -30_i32..30,
    ) {
        let shape = AttentionShape {
            heads: kv_heads,
            kv_heads,
            head_dim,
            capacity: 50,
            scale: 1.0,
        };
        let mut x = noise(7, tokens * kv_heads * head_dim);
        x.iter_mut().for_each(|x| *x *= (exponent as f32).exp2());
        for (kind, level) in KINDS.into_iter().flat_map(|kind| levels().map(move |l| (kind, l))) {
            let mut cache = Cache::new(kind, &shape);
            with_level(level, || store(&shape, position, &x, cache.as_mut())).unwrap();
            for (i, row) in x.chunks_exact(head_dim).enumerate() {
                let (token, head) = (i / kv_heads, i % kv_heads);
                let found = cache.row(&shape, head, position + token);
                for (d, (&found, &x)) in found.iter().zip(row).enumerate() {
                    let block = d / CACHE_BLOCK * CACHE_BLOCK;
                    let block = &row[block..head_dim.min(block + CACHE_BLOCK)];
                    let max = block.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
                    let bound = match kind {
                        Kind::F32 => 0.0,
                        Kind::Bf16 => x.abs() / 256.0,
                        Kind::Q8 => max / 252.0,
                    };
                    prop_assert!((found - x).abs() <= bound, "{kind:?} {level} {i} {d}");
                }
            }
            let last = (tokens - 1) * kv_heads * head_dim;
            let mut alone = Cache::new(kind, &shape);
            store(&shape, position + tokens - 1, &x[last..], alone.as_mut());
            for head in 0..kv_heads {
                let at = position + tokens - 1;
                let rows = [&cache, &alone].map(|cache| bits(&cache.row(&shape, head, at)));
                prop_assert_eq!(&rows[0], &rows[1]);
                let before = cache.row(&shape, head, position + tokens);
                prop_assert!(before.iter().all(|x| x.is_nan()), "more than the tokens was written");
            }
        }
    }
}

#[test]
fn what_is_not_finite_shows_in_every_cache() {
    let shape = AttentionShape {
        heads: 1,
        kv_heads: 1,
        head_dim: 40,
        capacity: 1,
        scale: 1.0,
    };
    for (kind, bad) in KINDS
        .into_iter()
        .flat_map(|k| [f32::NAN, f32::INFINITY].map(|x| (k, x)))
    {
        let mut x = noise(5, 40);
        x[3] = bad;
        let mut cache = Cache::new(kind, &shape);
        store(&shape, 0, &x, cache.as_mut());
        let found = cache.row(&shape, 0, 0);
        assert!(!found[3].is_finite(), "{kind:?}");
        assert!(found[32..].iter().all(|x| x.is_finite()), "{kind:?}");
    }
    for x in [0.0, 1e-42] {
        let mut cache = Cache::new(Kind::Q8, &shape);
        store(&shape, 0, &[x; 40], cache.as_mut());
        assert!(cache.row(&shape, 0, 0).iter().all(|y| (x - y).abs() <= x));
    }
}

#[test]
fn threads_and_company_do_not_change_bits() {
    for kind in KINDS {
        let cases = [1, 150].map(|queries| Case::new(kind, [4, 2, 32], CHUNK + 400, queries));
        let offset = CHUNK + 200;
        for level in levels() {
            let alone = cases
                .each_ref()
                .map(|case| bits(&case.run(level, offset, 900)));
            for threads in [1, 2, 3] {
                pool::set_threads(threads);
                let steps = cases.each_ref().map(|case| case.step(offset, 900));
                let out = with_level(level, || attend(&cases[0].shape, &steps)).unwrap();
                assert_eq!(bits(&out), alone.concat(), "{kind:?} {level}");
            }
        }
    }
    pool::set_threads(0);
}

#[test]
fn the_place_in_the_cache_does_not_change_bits() {
    for (kind, queries) in KINDS.into_iter().flat_map(|kind| [(kind, 1), (kind, 40)]) {
        let case = Case::filled(kind, [2, 1, 16], 200, queries, 0..163);
        let moved = Case::filled(kind, [2, 1, 16], 200, queries, 37..200);
        for level in levels() {
            assert_eq!(
                bits(&case.run(level, 90, 50)),
                bits(&moved.run(level, 127, 50))
            );
        }
    }
}

#[test]
fn a_prefill_in_chunks_has_the_same_bits() {
    for kind in KINDS {
        let case = Case::new(kind, [2, 2, 32], 150, 150);
        for level in levels() {
            let whole = case.run(level, 0, NO_WINDOW);
            for chunk in [60..130, 3..5, 128..150] {
                let range = chunk.start * 64..chunk.end * 64;
                let q = &case.q[range.clone()];
                let step = AttentionStep {
                    q,
                    ..case.step(chunk.start, NO_WINDOW)
                };
                let out = with_level(level, || attend(&case.shape, &[step])).unwrap();
                assert_eq!(bits(&out), bits(&whole[range]));
            }
        }
    }
}

#[test]
fn what_lies_beyond_the_queries_is_not_read() {
    for kind in KINDS {
        let case = Case::filled(kind, [1, 1, 16], 100, 70, 0..80);
        for level in levels() {
            assert!(case.run(level, 10, NO_WINDOW).iter().all(|y| y.is_finite()));
        }
    }
}

#[test]
#[should_panic(expected = "beyond 8")]
fn queries_beyond_the_capacity_panic() {
    Case::new(Kind::F32, [1, 1, 16], 8, 3).run(level::level(), 6, NO_WINDOW);
}

#[test]
#[should_panic(expected = "the window is 0")]
fn a_window_without_keys_panics() {
    Case::new(Kind::F32, [1, 1, 16], 8, 1).run(level::level(), 0, 0);
}

#[test]
#[should_panic(expected = "stored differently")]
fn keys_and_values_of_two_kinds_panic() {
    let mut case = Case::new(Kind::F32, [1, 1, 16], 8, 1);
    case.v = Cache::new(Kind::Bf16, &case.shape);
    case.run(level::level(), 0, NO_WINDOW);
}
