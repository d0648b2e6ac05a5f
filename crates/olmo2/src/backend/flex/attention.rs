//! Attention over a cache that kernels write in place and read as it is stored.
//!
//! burn's `slice_assign` on Flex copies the whole cache each time.

use std::ops::Range;

use burn::prelude::*;
use burn::tensor::DType;
use burn_flex::FlexTensor;
use half::bf16;
use olmo2_kernels::{AttentionShape, AttentionStep, CacheMut, CacheRef, NO_WINDOW, cache_blocks};

use super::norm::normed_and_rotated;
use super::tensor::{as_flex, contiguous, f32s, from_vec};
use crate::backend::plain;
use crate::backend::request::{Attention, Norm};
use crate::backend::rotation::Rotation;
use crate::cache::{KvStorage, LayerStorage, Run};

/// Declines without a cache, and over a cache that the kernels do not read. Computes in f32 whatever
/// the dtype of activations.
pub(in crate::backend) fn attention<B: Backend>(
    attention: &Attention<'_, B>,
    storage: &mut Option<&mut LayerStorage<B>>,
) -> Option<Tensor<B, 3>> {
    let Attention { runs, shape, .. } = attention;
    let storage = storage.as_deref_mut()?;
    let mut keys = FlexCache::new(&mut storage.k)?;
    let mut values = FlexCache::new(&mut storage.v)?;
    let shape = AttentionShape {
        heads: shape.heads,
        kv_heads: shape.kv_heads,
        head_dim: shape.head_dim,
        capacity: keys.capacity(),
        scale: (shape.head_dim as f32).powf(-0.5),
    };
    let rotated = |x, norm| rotated(x, norm, attention.rotation);
    keys.write(&shape, runs, &rotated(&attention.k, &attention.k_norm));
    let v = contiguous(&attention.v.clone().cast(DType::F32));
    values.write(&shape, runs, f32s(&v));
    let q = rotated(&attention.q, &attention.q_norm);
    let window = attention.window.unwrap_or(NO_WINDOW);
    let out = attend(&shape, (runs, window), &q, [&keys, &values]);
    let out = from_vec(out, attention.q.dims());
    Some(out.cast(attention.q.dtype()))
}

/// Queries or keys, normed and rotated: `[tokens, heads, head_dim]`.
fn rotated<B: Backend>(x: &Tensor<B, 3>, norm: &Norm<B>, rotation: &Rotation<B>) -> Vec<f32> {
    normed_and_rotated(x, norm, rotation).unwrap_or_else(|| {
        let rotated = plain::norm_rotate(x, norm, rotation).cast(DType::F32);
        f32s(&contiguous(&rotated)).to_vec()
    })
}

/// Keys or values of one layer, of all slots, `[slots, kv_heads, capacity, head_dim]`.
enum FlexCache<'a> {
    F32(&'a mut FlexTensor),
    Bf16(&'a mut FlexTensor),
    Q8 {
        quants: &'a mut FlexTensor,
        scales: &'a mut FlexTensor,
    },
}

impl<'a> FlexCache<'a> {
    /// `None` for a type that the kernels do not read.
    fn new<B: Backend>(storage: &'a mut KvStorage<B>) -> Option<Self> {
        match storage {
            KvStorage::Float(x) => {
                let x = as_flex(x.as_mut()?)?;
                match x.dtype() {
                    DType::F32 => Some(Self::F32(x)),
                    DType::BF16 => Some(Self::Bf16(x)),
                    _ => None,
                }
            }
            KvStorage::Q8 { quants, scales } => Some(Self::Q8 {
                quants: as_flex(quants)?,
                scales: as_flex(scales.as_mut()?)?,
            }),
        }
    }

    /// Positions that a slot has room for.
    fn capacity(&self) -> usize {
        let (Self::F32(x) | Self::Bf16(x) | Self::Q8 { quants: x, .. }) = self;
        x.layout().shape()[2]
    }

    /// Writes each run's tokens, `[tokens, kv_heads, head_dim]`, behind those of its slot.
    ///
    /// A clone of the cache shares its memory, which is copied here before the first write.
    fn write(&mut self, shape: &AttentionShape, runs: &[Run], new: &[f32]) {
        let width = shape.kv_heads * shape.head_dim;
        for run in runs {
            let [of_elements, of_scales] = slot_ranges(shape, run.slot);
            let slot = match self {
                Self::F32(x) => CacheMut::F32(&mut x.storage_mut()[of_elements]),
                Self::Bf16(x) => CacheMut::Bf16(&mut x.storage_mut()[of_elements]),
                Self::Q8 { quants, scales } => CacheMut::Q8 {
                    quants: &mut quants.storage_mut()[of_elements],
                    scales: &mut scales.storage_mut()[of_scales],
                },
            };
            let new = &new[run.row * width..][..run.tokens * width];
            olmo2_kernels::store(shape, run.start, new, slot);
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

/// Attends each run over its slot, all in one parallel region; `[tokens, heads, head_dim]`.
fn attend(
    shape: &AttentionShape,
    (runs, window): (&[Run], usize),
    q: &[f32],
    [keys, values]: [&FlexCache<'_>; 2],
) -> Vec<f32> {
    let width = shape.heads * shape.head_dim;
    let steps: Vec<_> = runs
        .iter()
        .map(|run| AttentionStep {
            q: &q[run.row * width..][..run.tokens * width],
            k: keys.slot(shape, run.slot),
            v: values.slot(shape, run.slot),
            offset: run.start,
            window,
        })
        .collect();
    // The runs' rows lie one after the other, and so do the outputs.
    olmo2_kernels::attend(shape, &steps)
}
