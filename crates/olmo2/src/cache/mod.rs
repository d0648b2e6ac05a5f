//! The KV cache: slots, one for each sequence, that grow together in buckets.

mod dtype;
mod run;
mod size;
mod span;
mod storage;

pub use dtype::{CacheDtype, CacheDtypeError};
pub(crate) use run::Run;
pub(crate) use storage::{Allocator, KvStorage, LayerStorage};

use burn::prelude::*;
use burn::tensor::DType;

use crate::config::Olmo2Config;
use span::Span;

/// A cache is allocated, and attended over in burn's operations, in multiples of this many
/// positions.
///
/// Shapes repeat, and with them compiled kernels. Some matmuls of cubek 0.2, which burn 0.21 is
/// bound to, are right only where a sum has an even number of stages (ARCHITECTURE.md); stages are
/// powers of two, at most 128.
pub(crate) const KEY_BUCKET: usize = 256;

/// Tokens of a prompt that go through the model at once: enough to use the machine, few enough
/// that the scores of attention stay small.
pub const PREFILL_CHUNK: usize = 512;

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
    /// Maximum number of tokens of a run over sliding layers, which keep their window and this many
    /// positions. Without sliding layers runs may be longer.
    pub chunk: usize,
}

impl Default for CacheOptions {
    /// One sequence of 4096 positions, OLMo 2's trained length, in the model's default type.
    fn default() -> Self {
        Self {
            slots: 1,
            capacity: 4096,
            dtype: None,
            chunk: PREFILL_CHUNK,
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
    /// One for all layers that keep the same positions.
    spans: Vec<Span>,
    span_of_layer: Vec<usize>,
    slots: Vec<Slot>,
    capacity: usize,
    chunk: usize,
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
        let (mut spans, mut span_of_layer) = (Vec::<Span>::new(), Vec::new());
        for window in (0..config.num_hidden_layers).map(|layer| config.window(layer)) {
            let known = spans.iter().position(|span| span.window == window);
            span_of_layer.push(known.unwrap_or(spans.len()));
            if known.is_none() {
                spans.push(Span::new(window, options.slots));
            }
        }
        Self {
            layers: Vec::new(),
            spans,
            span_of_layer,
            slots: vec![Slot::default(); options.slots],
            capacity: options.capacity,
            chunk: options.chunk.max(1),
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
        let layers = self.layers.iter().zip(&self.span_of_layer);
        let positions: usize = layers.map(|(_, &span)| self.spans[span].allocated).sum();
        let head = self.dtype.head_bytes(self.head_dim, self.setup.activations);
        2 * positions * self.slots.len() * self.kv_heads * head
    }

    /// Forgets what follows the first `len` positions of `slot`; returns how many it then holds.
    ///
    /// That is 0 where sliding layers no longer have the window before `len`: the sequence must be
    /// run again from its beginning. With dynamic rope the kept keys keep the rotation that they
    /// got.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn truncate(&mut self, slot: usize, len: usize) -> usize {
        let len = self.slots[slot].len.min(len);
        if len == 0 || !self.can_continue(slot, len) {
            self.slots[slot] = Slot::default();
            self.spans.iter_mut().for_each(|span| span.clear(slot));
            return 0;
        }
        self.slots[slot].len = len;
        len
    }

    /// Whether all layers have what a token at position `len` of `slot` sees.
    fn can_continue(&self, slot: usize, len: usize) -> bool {
        self.spans.iter().all(|span| span.can_continue(slot, len))
    }

    /// Empties every slot; memory is kept.
    pub fn clear(&mut self) {
        for slot in 0..self.slots.len() {
            self.truncate(slot, 0);
        }
    }

    /// Makes the first `len` positions of slot `to` those of slot `from`; returns how many `to` then
    /// holds.
    ///
    /// That is 0 where sliding layers of `from` no longer have the window before `len`.
    ///
    /// # Panics
    /// If there is no such slot, or `from` holds fewer positions.
    pub fn copy_prefix(&mut self, from: usize, to: usize, len: usize) -> usize {
        assert!(
            len <= self.slots[from].len,
            "slot {from} holds fewer than {len} positions"
        );
        assert!(to < self.slots.len(), "no slot {to}");
        if from == to {
            return self.truncate(to, len);
        }
        if len == 0 || !self.can_continue(from, len) {
            return self.truncate(to, 0);
        }
        for (layer, &span) in self.layers.iter_mut().zip(&self.span_of_layer) {
            layer.copy_prefix(from, to, self.spans[span].kept(from, len));
        }
        self.spans.iter_mut().for_each(|span| span.copy(from, to));
        self.slots[to] = Slot {
            len,
            ..self.slots[from]
        };
        len
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
        [self.span_of_layer.len(), self.kv_heads, self.head_dim]
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

    /// Positions that a layer keeps for its attention; `None` for all.
    pub(crate) fn window(&self, layer: usize) -> Option<usize> {
        self.spans[self.span_of_layer[layer]].window
    }

    /// Maximum number of tokens of a run; `None` without sliding layers.
    pub(crate) fn chunk(&self) -> Option<usize> {
        let slides = self.spans.iter().any(|span| span.window.is_some());
        slides.then_some(self.chunk)
    }

    /// Makes room for the runs: drops what no window reaches any more, and grows.
    pub(crate) fn reserve(&mut self, runs: &[Run]) {
        let (capacity, chunk) = (self.capacity, self.chunk);
        for index in 0..self.spans.len() {
            let span = &mut self.spans[index];
            let max = span.max_positions(capacity, chunk);
            let max = max.next_multiple_of(self.setup.bucket);
            let moves = span.make_room(runs, max);
            let allocated = span.allocated;
            span.allocated = allocation_for(span.needed(runs), max).max(allocated);
            let (wanted, allocator) = (span.allocated, self.setup.allocator);
            let layers = self.layers.iter_mut().zip(&self.span_of_layer);
            for (layer, _) in layers.filter(|(_, span)| **span == index) {
                moves.iter().for_each(|&moved| layer.move_down(moved));
                if wanted > allocated {
                    layer.grow(wanted, allocator);
                }
            }
        }
        if self.layers.is_empty() {
            self.allocate();
        }
    }

    fn allocate(&mut self) {
        let zeros = |positions| {
            let shape = [self.slots.len(), self.kv_heads, positions, self.head_dim];
            let CacheSetup {
                activations,
                allocator,
                ..
            } = self.setup;
            KvStorage::zeros(shape, self.dtype, activations, allocator, &self.device)
        };
        let layer = |&span: &usize| {
            let positions = self.spans[span].allocated;
            LayerStorage {
                k: zeros(positions),
                v: zeros(positions),
            }
        };
        self.layers = self.span_of_layer.iter().map(layer).collect();
    }

    /// The runs as they lie in the memory of a layer.
    pub(crate) fn placed(&self, layer: usize, runs: &[Run]) -> Vec<Run> {
        self.spans[self.span_of_layer[layer]].placed(runs)
    }

    /// Keys and values of a layer.
    ///
    /// # Panics
    /// Before [`reserve`](Self::reserve).
    pub(crate) fn layer_mut(&mut self, layer: usize) -> &mut LayerStorage<B> {
        &mut self.layers[layer]
    }
}

/// Positions allocated for `len`: a power of two from [`KEY_BUCKET`], so that shapes, and with them
/// compiled kernels, repeat; at most `max`.
fn allocation_for(len: usize, max: usize) -> usize {
    len.next_power_of_two().max(KEY_BUCKET).min(max)
}

impl<B: Backend> Clone for CacheSetup<B> {
    fn clone(&self) -> Self {
        Self {
            check: self.check.clone(),
            ..*self
        }
    }
}
