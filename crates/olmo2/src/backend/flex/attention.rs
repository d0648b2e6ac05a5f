//! burn-flex: attention over a cache that kernels write in place and read as it is stored.

use std::ops::Range;

use burn::prelude::*;
use burn::tensor::DType;
use burn_flex::FlexTensor;
use half::bf16;
use olmo2_kernels::attention::cache_blocks;
use olmo2_kernels::{AttentionShape, AttentionStep, CacheMut, CacheRef};

use super::matmul::{contiguous, f32s, from_flex, from_vec, reads_in_place, same, to_flex};
use crate::cache::{KvCache, LayerCache, Stored};
use crate::forward::batch::Row;

/// Writes keys and values into the cache in place and attends over it, in f32; `None` where the
/// cache is one that kernels do not read.
///
/// burn's `slice_assign` on Flex copies the whole cache each time.
///
/// # Shapes
/// - `q`: `[batch, seq, heads, head_dim]`; `k`, `v`: `[batch, seq, kv_heads, head_dim]`
/// - returns: `[batch, seq, heads * head_dim]` in the dtype of `q`, zero in padding
pub(crate) fn attend<B: Backend>(
    cache: &mut KvCache<B>,
    layer: usize,
    rows: &[Row],
    [q, k, v]: [&Tensor<B, 4>; 3],
) -> Option<Tensor<B, 3>> {
    if !reads_in_place::<B>() || !cache.holds(layer, is_read_by_kernels) {
        return None;
    }
    let [batch, seq, heads, head_dim] = q.dims();
    let shape = AttentionShape {
        heads,
        kv_heads: k.dims()[2],
        head_dim,
        capacity: cache.allocated(),
        scale: (head_dim as f32).powf(-0.5),
    };
    let dtype = q.dtype();
    let [q, k, v] = [q, k, v].map(|x| contiguous(&x.clone().cast(DType::F32)));
    let cached = cache.take(layer);
    let (mut keys, mut values) = (Held::new(cached.k), Held::new(cached.v));
    keys.write(&shape, rows, seq, f32s(&k));
    values.write(&shape, rows, seq, f32s(&v));
    let mut out = vec![0.0; batch * seq * heads * head_dim];
    read(&shape, rows, f32s(&q), [&keys, &values], &mut out);
    let (k, v) = (keys.into_stored(), values.into_stored());
    cache.put(layer, LayerCache { k, v });
    Some(from_vec(out, [batch, seq, heads * head_dim]).cast(dtype))
}

fn is_read_by_kernels<B: Backend>(stored: &Stored<B>) -> bool {
    match stored {
        Stored::Float(x) => matches!(x.dtype(), DType::F32 | DType::BF16),
        Stored::Q8 { .. } => true,
    }
}

/// Keys or values of one layer, of all slots.
enum Held {
    F32(FlexTensor),
    Bf16(FlexTensor),
    Q8 {
        quants: FlexTensor,
        scales: FlexTensor,
    },
}

impl Held {
    /// # Panics
    /// If the backend is not Flex, or no kernel reads this.
    fn new<B: Backend>(stored: Stored<B>) -> Self {
        match stored {
            Stored::Float(x) if x.dtype() == DType::BF16 => Self::Bf16(to_flex(x)),
            Stored::Float(x) => Self::F32(to_flex(x)),
            Stored::Q8 { quants, scales } => Self::Q8 {
                quants: same(quants.into_primitive()),
                scales: to_flex(scales),
            },
        }
    }

    fn into_stored<B: Backend>(self) -> Stored<B> {
        match self {
            Self::F32(x) | Self::Bf16(x) => Stored::Float(from_flex(x)),
            Self::Q8 { quants, scales } => Stored::Q8 {
                quants: Tensor::from_primitive(same(quants)),
                scales: from_flex(scales),
            },
        }
    }

    /// Writes each row's tokens, `[seq, kv_heads, head_dim]`, behind those of its slot.
    ///
    /// A clone of the cache shares its memory, which is copied here before the first write.
    fn write(&mut self, shape: &AttentionShape, rows: &[Row], seq: usize, new: &[f32]) {
        let width = shape.kv_heads * shape.head_dim;
        for (row, new) in rows.iter().zip(new.chunks_exact(seq * width)) {
            let [of_elements, of_scales] = slot_ranges(shape, row.slot);
            let slot = match self {
                Self::F32(x) => CacheMut::F32(&mut x.storage_mut()[of_elements]),
                Self::Bf16(x) => CacheMut::Bf16(&mut x.storage_mut()[of_elements]),
                Self::Q8 { quants, scales } => CacheMut::Q8 {
                    quants: &mut quants.storage_mut()[of_elements],
                    scales: &mut scales.storage_mut()[of_scales],
                },
            };
            olmo2_kernels::store(shape, row.start, &new[row.padding * width..], slot);
        }
    }

    fn slot(&self, shape: &AttentionShape, slot: usize) -> CacheRef<'_> {
        let [of_elements, of_scales] = slot_ranges(shape, slot);
        match self {
            Self::F32(x) => CacheRef::F32(&x.storage()[of_elements]),
            Self::Bf16(x) => CacheRef::Bf16(&x.storage::<bf16>()[of_elements]),
            Self::Q8 { quants, scales } => CacheRef::Q8 {
                quants: &quants.storage::<i8>()[of_elements],
                scales: &scales.storage::<bf16>()[of_scales],
            },
        }
    }
}

/// Where a slot's elements and its scales lie.
fn slot_ranges(shape: &AttentionShape, slot: usize) -> [Range<usize>; 2] {
    let positions = shape.kv_heads * shape.capacity;
    [shape.head_dim, cache_blocks(shape.head_dim)]
        .map(|width| slot * positions * width..(slot + 1) * positions * width)
}

/// Attends each row over its slot.
fn read(
    shape: &AttentionShape,
    rows: &[Row],
    q: &[f32],
    [keys, values]: [&Held; 2],
    out: &mut [f32],
) {
    let width = shape.heads * shape.head_dim;
    let row_len = q.len() / rows.len();
    let steps: Vec<_> = rows
        .iter()
        .zip(q.chunks_exact(row_len))
        .map(|(row, q)| AttentionStep {
            q: &q[row.padding * width..],
            k: keys.slot(shape, row.slot),
            v: values.slot(shape, row.slot),
            offset: row.start,
            first: 0,
        })
        .collect();
    let outputs = rows.iter().zip(out.chunks_exact_mut(row_len));
    let mut outputs: Vec<_> = outputs
        .map(|(row, out)| &mut out[row.padding * width..])
        .collect();
    olmo2_kernels::attend(shape, &steps, &mut outputs);
}
