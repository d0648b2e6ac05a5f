//! What one layer's keys and values lie in: the backend's own tensors, which kernels write in place.

use burn::prelude::*;
use burn::tensor::{DType, Numeric, TensorPrimitive};
use olmo2_kernels::cache_blocks;

use super::dtype::CacheDtype;
use super::span::Move;

/// Keys and values of one layer.
#[derive(Debug, Clone)]
pub(crate) struct LayerStorage<B: Backend> {
    pub(crate) k: KvStorage<B>,
    pub(crate) v: KvStorage<B>,
}

/// Keys or values of one layer, `[slots, kv_heads, positions, head_dim]`.
///
/// Primitives, not [`Tensor`]s: a backend's kernels get at them by `&mut`.
#[derive(Debug, Clone)]
pub(crate) enum KvStorage<B: Backend> {
    /// Floats; `None` only while they are replaced.
    Float(Option<B::FloatTensorPrimitive>),
    /// Written and read by own kernels alone.
    Q8 {
        /// I8.
        quants: B::IntTensorPrimitive,
        /// BF16, `[slots, kv_heads, positions, blocks of 32]`.
        scales: Option<B::FloatTensorPrimitive>,
    },
}

/// Makes zeros of a shape and type.
type Zeros<B, K> =
    fn([usize; 4], DType, &<B as burn::tensor::backend::BackendTypes>::Device) -> Tensor<B, 4, K>;

/// How a backend makes the tensors of a cache.
#[derive(Debug)]
pub(crate) struct Allocator<B: Backend> {
    /// Zeros of a float type.
    pub(crate) floats: Zeros<B, Float>,
    /// Zeros of an integer type.
    pub(crate) ints: Zeros<B, Int>,
}

impl<B: Backend> Clone for Allocator<B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for Allocator<B> {}

impl<B: Backend> LayerStorage<B> {
    /// Makes room for `positions` in each slot.
    pub(super) fn grow(&mut self, positions: usize, allocator: Allocator<B>) {
        for storage in [&mut self.k, &mut self.v] {
            storage.grow(positions, allocator);
        }
    }

    /// Makes the first `len` positions of slot `to` those of slot `from`.
    pub(super) fn copy_prefix(&mut self, from: usize, to: usize, len: usize) {
        let copied = Copied {
            from: [from, 0],
            to,
            len,
        };
        for storage in [&mut self.k, &mut self.v] {
            storage.copy(copied);
        }
    }

    /// Moves positions of a slot to its beginning.
    pub(super) fn move_down(&mut self, Move { slot, from, len }: Move) {
        let copied = Copied {
            from: [slot, from],
            to: slot,
            len,
        };
        for storage in [&mut self.k, &mut self.v] {
            storage.copy(copied);
        }
    }
}

impl<B: Backend> KvStorage<B> {
    /// Zeros of `shape`.
    pub(super) fn zeros(
        shape: [usize; 4],
        dtype: CacheDtype,
        activations: DType,
        allocator: Allocator<B>,
        device: &B::Device,
    ) -> Self {
        let float = |shape, dtype| primitive((allocator.floats)(shape, dtype, device));
        match dtype {
            CacheDtype::F32 => Self::Float(Some(float(shape, activations))),
            CacheDtype::Bf16 => Self::Float(Some(float(shape, DType::BF16))),
            CacheDtype::Q8 => {
                let [slots, heads, positions, dim] = shape;
                let blocks = [slots, heads, positions, cache_blocks(dim)];
                Self::Q8 {
                    quants: (allocator.ints)(shape, DType::I8, device).into_primitive(),
                    scales: Some(float(blocks, DType::BF16)),
                }
            }
        }
    }

    fn grow(&mut self, positions: usize, allocator: Allocator<B>) {
        match self {
            Self::Float(x) => update::<B>(x, |x| grown(x, positions, allocator.floats)),
            Self::Q8 { quants, scales } => {
                update_ints::<B>(quants, |x| grown(x, positions, allocator.ints));
                update::<B>(scales, |x| grown(x, positions, allocator.floats));
            }
        }
    }

    fn copy(&mut self, copied: Copied) {
        match self {
            Self::Float(x) => update::<B>(x, |x| with_copied(x, copied)),
            Self::Q8 { quants, scales } => {
                update_ints::<B>(quants, |x| with_copied(x, copied));
                update::<B>(scales, |x| with_copied(x, copied));
            }
        }
    }

    /// The floats, `[slots, kv_heads, positions, head_dim]`.
    ///
    /// # Panics
    /// In 8 bits, which no backend has but those whose own kernels read them.
    pub(crate) fn float(&self) -> Tensor<B, 4> {
        match self {
            Self::Float(x) => tensor(x.clone().expect("it is not being replaced")),
            Self::Q8 { .. } => panic!("own kernels alone read an 8-bit cache"),
        }
    }

    /// Replaces the floats by what `f` makes of them; they have one owner meanwhile, so that a
    /// backend that can writes in place.
    ///
    /// # Panics
    /// As [`float`](Self::float).
    pub(crate) fn update_float(&mut self, f: impl FnOnce(Tensor<B, 4>) -> Tensor<B, 4>) {
        match self {
            Self::Float(x) => update::<B>(x, f),
            Self::Q8 { .. } => panic!("own kernels alone write an 8-bit cache"),
        }
    }
}

fn tensor<B: Backend>(primitive: B::FloatTensorPrimitive) -> Tensor<B, 4> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

fn primitive<B: Backend>(tensor: Tensor<B, 4>) -> B::FloatTensorPrimitive {
    tensor.into_primitive().tensor()
}

fn update<B: Backend>(
    x: &mut Option<B::FloatTensorPrimitive>,
    f: impl FnOnce(Tensor<B, 4>) -> Tensor<B, 4>,
) {
    *x = x.take().map(|owned| primitive(f(tensor(owned))));
}

fn update_ints<B: Backend>(
    x: &mut B::IntTensorPrimitive,
    f: impl FnOnce(Tensor<B, 4, Int>) -> Tensor<B, 4, Int>,
) {
    let owned = Tensor::<B, 4, Int>::from_primitive(x.clone());
    *x = f(owned).into_primitive();
}

fn grown<B: Backend, K: Numeric<B>>(
    old: Tensor<B, 4, K>,
    positions: usize,
    zeros: impl Fn([usize; 4], DType, &B::Device) -> Tensor<B, 4, K>,
) -> Tensor<B, 4, K> {
    let [slots, heads, len, dim] = old.dims();
    let new = zeros([slots, heads, positions, dim], old.dtype(), &old.device());
    new.slice_assign([0..slots, 0..heads, 0..len, 0..dim], old)
}

/// Positions that are copied to the beginning of a slot.
#[derive(Debug, Clone, Copy)]
struct Copied {
    /// Slot and first position.
    from: [usize; 2],
    /// Slot.
    to: usize,
    len: usize,
}

fn with_copied<B: Backend, K: Numeric<B>>(x: Tensor<B, 4, K>, copied: Copied) -> Tensor<B, 4, K> {
    let [_, heads, _, dim] = x.dims();
    let Copied {
        from: [slot, start],
        to,
        len,
    } = copied;
    let part = x
        .clone()
        .slice([slot..slot + 1, 0..heads, start..start + len, 0..dim]);
    x.slice_assign([to..to + 1, 0..heads, 0..len, 0..dim], part)
}
