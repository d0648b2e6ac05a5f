//! The contents of a cache: one sequence's keys or values, in f32, bf16 or 8 bits.

use super::AttentionShape;
use half::bf16;

/// Elements of a head that share a scale in an 8-bit cache; the last block of a head may be
/// shorter.
///
/// Trained keys have channels that are far larger than the rest. With blocks, such a channel
/// reduces the precision of its neighbors only, not of the whole head. On the demo model, blocks of
/// 32 have two thirds of the KL divergence of one scale for each head of 64, for 0.25 bits more,
/// and the kernels still read them at memory bandwidth.
pub const CACHE_BLOCK: usize = 32;

/// Scales of one head of one position.
pub const fn cache_blocks(head_dim: usize) -> usize {
    head_dim.div_ceil(CACHE_BLOCK)
}

/// Keys or values of one sequence, `[kv_heads, capacity, head_dim]`.
#[derive(Clone, Copy, Debug)]
pub enum CacheRef<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// bfloat16, rounded to nearest.
    Bf16(&'a [bf16]),
    /// Bytes with a scale for each block of [`CACHE_BLOCK`]: `x = scale * quant`, 8.5 bits.
    Q8 {
        /// `[kv_heads, capacity, head_dim]`, in -127 ..= 127.
        quants: &'a [i8],
        /// `[kv_heads, capacity, cache_blocks(head_dim)]`. bf16, because it has the range of the
        /// stored values; an f16 would lose small ones.
        scales: &'a [bf16],
    },
}

/// As [`CacheRef`], for writing.
#[derive(Debug)]
pub enum CacheMut<'a> {
    /// 32-bit floats.
    F32(&'a mut [f32]),
    /// bfloat16.
    Bf16(&'a mut [bf16]),
    /// Bytes and their scales.
    Q8 {
        /// As [`CacheRef::Q8`]'s.
        quants: &'a mut [i8],
        /// As [`CacheRef::Q8`]'s.
        scales: &'a mut [bf16],
    },
}

impl CacheRef<'_> {
    /// Writes one head of one position to `out` in f32: row `head * capacity + position`,
    /// `head_dim` long.
    ///
    /// # Panics
    /// The cache has no such row.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        let range = row * out.len()..(row + 1) * out.len();
        match self {
            Self::F32(data) => out.copy_from_slice(&data[range]),
            Self::Bf16(data) => {
                let pairs = out.iter_mut().zip(&data[range]);
                pairs.for_each(|(out, x)| *out = x.to_f32());
            }
            Self::Q8 { quants, scales } => {
                let blocks = cache_blocks(out.len());
                let scales = &scales[row * blocks..][..blocks];
                let pairs = out.iter_mut().zip(&quants[range]).enumerate();
                pairs.for_each(|(i, (out, &quant))| {
                    *out = scales[i / CACHE_BLOCK].to_f32() * f32::from(quant);
                });
            }
        }
    }

    /// # Panics
    /// The lengths do not fit the shape.
    pub(super) fn check(&self, name: &str, shape: &AttentionShape) {
        let (data, scales) = match self {
            Self::F32(data) => (data.len(), None),
            Self::Bf16(data) => (data.len(), None),
            Self::Q8 { quants, scales } => (quants.len(), Some(scales.len())),
        };
        check(name, shape, data, scales);
    }

    pub(super) fn is_alike(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl CacheMut<'_> {
    /// # Panics
    /// The lengths do not fit the shape.
    pub(super) fn check(&self, shape: &AttentionShape) {
        let (data, scales) = match self {
            Self::F32(data) => (data.len(), None),
            Self::Bf16(data) => (data.len(), None),
            Self::Q8 { quants, scales } => (quants.len(), Some(scales.len())),
        };
        check("cache", shape, data, scales);
    }
}

fn check(name: &str, shape: &AttentionShape, data: usize, scales: Option<usize>) {
    let positions = shape.kv_heads * shape.capacity;
    assert_eq!(
        data,
        positions * shape.head_dim,
        "`{name}` is not [kv_heads, capacity, head_dim]"
    );
    if let Some(scales) = scales {
        assert_eq!(
            scales,
            positions * cache_blocks(shape.head_dim),
            "the scales of `{name}` are not [kv_heads, capacity, blocks]"
        );
    }
}
