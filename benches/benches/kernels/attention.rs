//! Attention over a cache of each kind.

use divan::{Bencher, black_box};
use half::bf16;
use olmo2_benches::{f32s, sized};
use olmo2_kernels::{
    AttentionShape, AttentionStep, CacheMut, CacheRef, NO_WINDOW, attend, cache_blocks, store,
};

/// 16 heads of 128, one query or a chunk of a prompt, over so many keys, in each kind of cache.
#[divan::bench(args = [(1, 512), (1, 4096), (512, 512)], consts = [32, 16, 8])]
fn over_cache<const BITS: usize>(bencher: Bencher<'_, '_>, (queries, keys): (usize, usize)) {
    let (heads, head_dim) = (sized(16, 4), sized(128, 16));
    let (queries, keys) = (sized(queries, queries.min(5)), sized(keys, keys.min(9)));
    let width = heads * head_dim;
    let shape = AttentionShape {
        heads,
        kv_heads: heads,
        head_dim,
        capacity: keys,
        scale: (head_dim as f32).powf(-0.5),
    };
    let q = f32s(queries * width);
    let [k, v] = [0, 1].map(|_| Cache::of::<BITS>(&shape, &f32s(keys * width)));
    let step = AttentionStep {
        q: &q,
        k: k.as_ref(),
        v: v.as_ref(),
        offset: keys - queries,
        window: NO_WINDOW,
    };
    bencher.bench_local(|| drop(black_box(attend(&shape, &[black_box(step)]))));
}

/// Keys or values of one sequence.
enum Cache {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
    Q8(Vec<i8>, Vec<bf16>),
}

impl Cache {
    fn of<const BITS: usize>(shape: &AttentionShape, tokens: &[f32]) -> Self {
        let len = tokens.len();
        let scales = len / shape.head_dim * cache_blocks(shape.head_dim);
        let mut cache = match BITS {
            32 => Self::F32(vec![0.0; len]),
            16 => Self::Bf16(vec![bf16::ZERO; len]),
            _ => Self::Q8(vec![0; len], vec![bf16::ZERO; scales]),
        };
        let to = match &mut cache {
            Self::F32(data) => CacheMut::F32(data),
            Self::Bf16(data) => CacheMut::Bf16(data),
            Self::Q8(quants, scales) => CacheMut::Q8 { quants, scales },
        };
        store(shape, 0, tokens, to);
        cache
    }

    fn as_ref(&self) -> CacheRef<'_> {
        match self {
            Self::F32(data) => CacheRef::F32(data),
            Self::Bf16(data) => CacheRef::Bf16(data),
            Self::Q8(quants, scales) => CacheRef::Q8 { quants, scales },
        }
    }
}
