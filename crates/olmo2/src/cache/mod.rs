//! The KV cache: slots, one for each sequence, that grow together in buckets.

mod dtype;
mod run;
mod size;
mod storage;

pub use dtype::{CacheDtype, CacheDtypeError};
pub(crate) use run::Run;
pub(crate) use storage::{Allocator, KvStorage, LayerStorage};

use burn::prelude::*;
use burn::tensor::DType;

use crate::config::Olmo2Config;

/// A cache is allocated, and attended over in burn's operations, in multiples of this many
/// positions.
///
/// Shapes repeat, and with them compiled kernels. Some matmuls of cubek 0.2, which burn 0.21 is
/// bound to, are right only where a sum has an even number of stages (ARCHITECTURE.md); stages are
/// powers of two, at most 128.
pub(crate) const KEY_BUCKET: usize = 256;

/// Size and number of the sequences that a cache holds, and what in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheOptions {
    /// Sequences held at once.
    pub slots: usize,
    /// Positions of each at most. Memory is taken as they fill, in powers of two from 256 up to the
    /// capacity, which is rounded up to a multiple of 256 where burn's operations attend.
    pub capacity: usize,
    /// What keys and values are stored in; `None` takes the model's default, which
    /// [`Capabilities::default_cache`](crate::Capabilities::default_cache) describes. A pass over a
    /// cache that the backend does not have is refused;
    /// [`Capabilities::check_cache`](crate::Capabilities::check_cache) tells beforehand.
    pub dtype: Option<CacheDtype>,
}

impl Default for CacheOptions {
    /// One sequence of 4096 positions, OLMo 2's trained length, in the model's default type.
    fn default() -> Self {
        Self {
            slots: 1,
            capacity: 4096,
            dtype: None,
        }
    }
}

/// What is known of one sequence.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    len: usize,
    /// Longest length so far, under dynamic rope; 0 under any other.
    rope_len: usize,
}

/// What a backend decides of a cache.
#[derive(Debug)]
pub(crate) struct CacheSetup<B: Backend> {
    /// Whether the backend has such a cache; a pass over one that it does not have is refused.
    pub(crate) check: Result<(), CacheDtypeError>,
    /// The dtype of activations, which [`CacheDtype::F32`] stands for.
    pub(crate) activations: DType,
    /// The capacity is rounded up to a multiple of this many positions.
    pub(crate) bucket: usize,
    /// Makes the tensors.
    pub(crate) allocator: Allocator<B>,
}

/// Keys (normed and rotated) and values of sequences.
///
/// A failed pass leaves lengths as they were.
#[derive(Debug, Clone)]
pub struct KvCache<B: Backend> {
    layers: Vec<LayerStorage<B>>,
    num_layers: usize,
    slots: Vec<Slot>,
    capacity: usize,
    /// Positions that the tensors have room for.
    allocated: usize,
    kv_heads: usize,
    head_dim: usize,
    dtype: CacheDtype,
    setup: CacheSetup<B>,
    device: B::Device,
}

impl<B: Backend> KvCache<B> {
    pub(crate) fn new(
        config: &Olmo2Config,
        options: CacheOptions,
        dtype: CacheDtype,
        setup: CacheSetup<B>,
        device: &B::Device,
    ) -> Self {
        Self {
            layers: Vec::new(),
            num_layers: config.num_hidden_layers,
            slots: vec![Slot::default(); options.slots],
            capacity: options.capacity,
            allocated: 0,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            dtype,
            setup,
            device: device.clone(),
        }
    }

    /// Number of slots.
    pub fn num_slots(&self) -> usize {
        self.slots.len()
    }

    /// Positions that a slot can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Positions that `slot` holds.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn len(&self, slot: usize) -> usize {
        self.slots[slot].len
    }

    /// Whether `slot` holds nothing.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn is_empty(&self, slot: usize) -> bool {
        self.len(slot) == 0
    }

    /// Bytes that are allocated for keys and values.
    pub fn size_bytes(&self) -> usize {
        let positions = self.layers.len() * self.slots.len() * self.allocated;
        let head = self.dtype.head_bytes(self.head_dim, self.setup.activations);
        2 * positions * self.kv_heads * head
    }

    /// Forgets what follows the first `len` positions of `slot`.
    ///
    /// With dynamic rope the kept keys keep the rotation that they got.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn truncate(&mut self, slot: usize, len: usize) {
        let slot = &mut self.slots[slot];
        slot.len = slot.len.min(len);
        if slot.len == 0 {
            slot.rope_len = 0;
        }
    }

    /// Empties every slot; memory is kept.
    pub fn clear(&mut self) {
        self.slots.fill(Slot::default());
    }

    /// Makes the first `len` positions of slot `to` those of slot `from`.
    ///
    /// # Panics
    /// If there is no such slot, or `from` holds fewer positions.
    pub fn copy_prefix(&mut self, from: usize, to: usize, len: usize) {
        assert!(
            len <= self.slots[from].len,
            "slot {from} holds fewer than {len} positions"
        );
        assert!(to < self.slots.len(), "no slot {to}");
        if from == to || len == 0 {
            return self.truncate(to, len);
        }
        for layer in &mut self.layers {
            layer.copy_prefix(from, to, len);
        }
        self.slots[to] = Slot {
            len,
            ..self.slots[from]
        };
    }

    /// What keys and values are stored in.
    pub fn dtype(&self) -> CacheDtype {
        self.dtype
    }

    /// # Errors
    /// The backend has no such cache.
    pub(crate) fn check(&self) -> Result<(), CacheDtypeError> {
        self.setup.check.clone()
    }

    /// Layers, heads and their width: what a model must share with its cache.
    pub(crate) fn geometry(&self) -> [usize; 3] {
        [self.num_layers, self.kv_heads, self.head_dim]
    }

    /// Longest length of `slot` so far, under dynamic rope.
    pub(crate) fn rope_len(&self, slot: usize) -> usize {
        self.slots[slot].rope_len
    }

    /// Notes that a pass is done.
    pub(crate) fn advance(&mut self, runs: &[Run]) {
        for run in runs {
            self.slots[run.slot] = Slot {
                len: run.end(),
                rope_len: run.rope_len,
            };
        }
    }

    /// Positions allocated for `len`: a power of two from [`KEY_BUCKET`], so that shapes, and with
    /// them compiled kernels, repeat; at most the capacity, rounded up as the backend wants it.
    fn allocation_for(&self, len: usize) -> usize {
        let max = self.capacity.next_multiple_of(self.setup.bucket);
        len.next_power_of_two().max(KEY_BUCKET).min(max)
    }

    /// Makes room for `len` positions, layer by layer, so that no more than one layer is held
    /// twice.
    pub(crate) fn reserve(&mut self, len: usize) {
        let wanted = self.allocation_for(len);
        if wanted <= self.allocated {
            return;
        }
        let (activations, allocator) = (self.setup.activations, self.setup.allocator);
        for layer in &mut self.layers {
            layer.grow(wanted, allocator);
        }
        let shape = [self.slots.len(), self.kv_heads, wanted, self.head_dim];
        let device = &self.device;
        let zeros = || KvStorage::zeros(shape, self.dtype, activations, allocator, device);
        self.layers.resize_with(self.num_layers, || LayerStorage {
            k: zeros(),
            v: zeros(),
        });
        self.allocated = wanted;
    }

    /// Keys and values of a layer.
    ///
    /// # Panics
    /// Before [`reserve`](Self::reserve).
    pub(crate) fn layer_mut(&mut self, layer: usize) -> &mut LayerStorage<B> {
        &mut self.layers[layer]
    }
}

impl<B: Backend> Clone for CacheSetup<B> {
    fn clone(&self) -> Self {
        Self {
            check: self.check.clone(),
            ..*self
        }
    }
}
