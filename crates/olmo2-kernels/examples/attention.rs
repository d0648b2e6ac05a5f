//! Speed of attention at OLMo 2 1B's shape, with each kind of cache, beside a plain read of the
//! same bytes: `cargo run --release -p olmo2-kernels --example attention [-- THREADS]`.
//!
//! Eight layers pass through the CPU's caches, as in a real model. Shares are medians of runs that
//! alternate with the read.

use half::bf16;
use olmo2_kernels::{
    AttentionShape, AttentionStep, CacheMut, CacheRef, NO_WINDOW, attend, cache_blocks,
    keep_freed_memory, level, pool, store,
};
use std::hint::black_box;
use std::time::Instant;

const LAYERS: usize = 8;
const CAPACITY: usize = 4096;
const SHAPE: AttentionShape = AttentionShape {
    heads: 16,
    kv_heads: 16,
    head_dim: 128,
    capacity: CAPACITY,
    scale: 0.088,
};
const POSITION: usize = 16 * 128;

enum Cache {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
    Q8(Vec<i8>, Vec<bf16>),
}

impl Cache {
    fn new(kind: &str) -> Self {
        let len = CAPACITY * POSITION;
        match kind {
            "f32" => Self::F32(vec![0.0; len]),
            "bf16" => Self::Bf16(vec![bf16::ZERO; len]),
            _ => Self::Q8(
                vec![0; len],
                vec![bf16::ZERO; len / SHAPE.head_dim * cache_blocks(SHAPE.head_dim)],
            ),
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

    /// Bytes of an element, without scales.
    fn size(&self) -> usize {
        match self {
            Self::F32(_) => 4,
            Self::Bf16(_) => 2,
            Self::Q8(..) => 1,
        }
    }

    /// Reads the first positions of every head with all threads, and does nothing else.
    fn read(&self, positions: usize) {
        let parts = pool::threads();
        let heads = |part: usize| part * 16 / parts..(part + 1) * 16 / parts;
        pool::run(parts, |part| {
            for head in heads(part) {
                let (at, len) = (head * CAPACITY * 128, positions * 128);
                match self {
                    Self::F32(x) => sum(&x[at..at + len], 0, |a, x| a ^ x.to_bits()),
                    Self::Bf16(x) => sum(&x[at..at + len], 0, |a, x| a ^ x.to_bits()),
                    Self::Q8(x, scales) => {
                        sum(&x[at..at + len], 0, |a, x| a ^ x);
                        sum(&scales[at / 32..(at + len) / 32], 0, |a, x| a ^ x.to_bits());
                    }
                }
            }
        });
    }
}

fn sum<T: Copy, A: Copy>(data: &[T], zero: A, add: impl Fn(A, T) -> A) {
    let mut sums = [zero; 64];
    for chunk in data.as_chunks::<64>().0 {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum = add(*sum, *x);
        }
    }
    black_box(sums);
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn noise(len: usize) -> Vec<f32> {
    (0..len)
        .map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.0)
        .collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn decode(caches: &[[Cache; 2]], kind: &str) {
    let q = noise(POSITION);
    for positions in [512, 2048, 4096] {
        let (mut shares, mut best) = (Vec::new(), f64::INFINITY);
        for _ in 0..31 {
            let limit = seconds(|| caches.iter().flatten().for_each(|x| x.read(positions)));
            let ours = seconds(|| {
                for [k, v] in caches {
                    let step = AttentionStep {
                        q: &q,
                        k: k.as_ref(),
                        v: v.as_ref(),
                        offset: positions - 1,
                        window: NO_WINDOW,
                    };
                    drop(black_box(attend(&SHAPE, &[step])));
                }
            });
            shares.push(limit / ours);
            best = best.min(ours);
        }
        let bytes = LAYERS * 2 * positions * POSITION * caches[0][0].size();
        println!(
            "{kind}: one query over {positions}: best {:.1} GB/s, share of a plain read {:.2}",
            bytes as f64 / best / 1e9,
            median(shares)
        );
    }
}

fn prefill([k, v]: &mut [Cache; 2], kind: &str) {
    for queries in [512, 2048] {
        let x = noise(queries * POSITION);
        let write = median(
            (0..7)
                .map(|_| seconds(|| store(&SHAPE, 0, &x, k.as_mut())))
                .collect(),
        );
        let attend = || {
            let step = AttentionStep {
                q: &x,
                k: k.as_ref(),
                v: v.as_ref(),
                offset: 0,
                window: NO_WINDOW,
            };
            seconds(|| drop(black_box(attend(&SHAPE, &[step]))))
        };
        let times: Vec<_> = std::iter::repeat_with(attend)
            .take(if queries == 512 { 61 } else { 15 })
            .collect();
        let best = times.iter().copied().fold(f64::INFINITY, f64::min);
        let read = median(times);
        let work = 4.0 * (queries * (queries + 1) / 2 * POSITION) as f64;
        println!(
            "{kind}: {queries} queries: {:.0} GFLOP/s, best {:.0}; keys written in {:.2} ms",
            work / read / 1e9,
            work / best / 1e9,
            write * 1e3
        );
    }
}

fn main() {
    keep_freed_memory();
    let threads = std::env::args().nth(1).map(|arg| arg.parse());
    pool::set_threads(threads.transpose().expect("a number").unwrap_or(0));
    println!("{} threads, {}", pool::threads(), level::level());
    for kind in ["f32", "bf16", "q8"] {
        let mut caches: Vec<_> = (0..LAYERS)
            .map(|_| [Cache::new(kind), Cache::new(kind)])
            .collect();
        let x = noise(CAPACITY * POSITION);
        for cache in caches.iter_mut().flatten() {
            store(&SHAPE, 0, &x, cache.as_mut());
        }
        decode(&caches, kind);
        prefill(&mut caches[0], kind);
    }
}
