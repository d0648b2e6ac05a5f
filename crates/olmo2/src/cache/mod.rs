//! The KV cache: slots, one for each sequence, that grow together in buckets.

mod dtype;
mod stored;

pub use dtype::{CacheDtype, CacheDtypeError};
pub(crate) use stored::Stored;

use burn::prelude::*;
use burn::tensor::DType;

use crate::backend;
use crate::backend::plain::attention::{KEY_BUCKET, attended_keys};
use crate::config::Olmo2Config;
use crate::forward::batch::Row;

/// Size and number of the sequences that a cache holds, and what in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheOptions {
    /// Sequences held at once.
    pub slots: usize,
    /// Positions of each at most. Memory is taken as they fill, in powers of two from 256 up to the
    /// capacity, which is rounded up to a multiple of 256 where burn's operations attend.
    pub capacity: usize,
    /// What keys and values are stored in. A pass over a cache that the backend does not have is
    /// refused; [`CacheDtype::check`] asks beforehand.
    pub dtype: CacheDtype,
}

impl Default for CacheOptions {
    /// One sequence of 4096 positions, OLMo 2's trained length, in f32.
    fn default() -> Self {
        Self {
            slots: 1,
            capacity: 4096,
            dtype: CacheDtype::F32,
        }
    }
}

/// What is known of one sequence.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    len: usize,
    /// Longest length so far, of dynamic rope alone.
    longest: usize,
}

/// Keys and values of one layer, `[slots, kv_heads, allocated, head_dim]`.
#[derive(Debug, Clone)]
pub(crate) struct LayerCache<B: Backend> {
    pub(crate) k: Stored<B>,
    pub(crate) v: Stored<B>,
}

impl<B: Backend> LayerCache<B> {
    fn map(self, of: impl Fn(Stored<B>) -> Stored<B>) -> Self {
        Self {
            k: of(self.k),
            v: of(self.v),
        }
    }
}

/// Keys (normed and rotated) and values of sequences.
///
/// A failed pass leaves lengths as they were.
#[derive(Debug, Clone)]
pub struct KvCache<B: Backend> {
    layers: Vec<Option<LayerCache<B>>>,
    slots: Vec<Slot>,
    capacity: usize,
    allocated: usize,
    kv_heads: usize,
    head_dim: usize,
    dtype: CacheDtype,
    activations: DType,
    device: B::Device,
}

impl<B: Backend> KvCache<B> {
    pub(crate) fn new(
        config: &Olmo2Config,
        options: CacheOptions,
        activations: DType,
        device: &B::Device,
    ) -> Self {
        Self {
            layers: vec![None; config.num_hidden_layers],
            slots: vec![Slot::default(); options.slots],
            capacity: options.capacity,
            allocated: 0,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            dtype: options.dtype,
            activations,
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
        let positions = self.layers.iter().flatten().count() * self.slots.len() * self.allocated;
        let head = self.dtype.head_bytes(self.head_dim, self.activations);
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
            slot.longest = 0;
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
            let copied = |layer: LayerCache<B>| layer.map(|x| x.with_prefix(from, to, len));
            *layer = layer.take().map(copied);
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
        self.dtype.check::<B>(&self.device)
    }

    #[cfg(feature = "flex")]
    /// Positions that the tensors have room for now.
    pub(crate) fn allocated(&self) -> usize {
        self.allocated
    }

    /// Layers, heads and their width: what a model must share with its cache.
    pub(crate) fn geometry(&self) -> [usize; 3] {
        [self.layers.len(), self.kv_heads, self.head_dim]
    }

    pub(crate) fn longest(&self, slot: usize) -> usize {
        self.slots[slot].longest
    }

    /// Notes that a pass is done.
    pub(crate) fn advance(&mut self, rows: &[Row]) {
        for row in rows {
            self.slots[row.slot] = Slot {
                len: row.end(),
                longest: row.longest,
            };
        }
    }

    /// Positions allocated for `len`: a power of two from [`KEY_BUCKET`], so that shapes, and with
    /// them compiled kernels, repeat; at most the capacity, which only own kernels need not have
    /// rounded up.
    fn bucket(&self, len: usize) -> usize {
        let most = match backend::reads_in_place::<B>() {
            true => self.capacity,
            false => attended_keys(self.capacity),
        };
        len.next_power_of_two().max(KEY_BUCKET).min(most)
    }

    /// Makes room for `len` positions, layer by layer, so that no more than one layer is held
    /// twice.
    pub(crate) fn reserve(&mut self, len: usize) {
        let wanted = self.bucket(len);
        if wanted <= self.allocated {
            return;
        }
        let shape = [self.slots.len(), self.kv_heads, wanted, self.head_dim];
        let zeros = || Stored::zeros(shape, self.dtype, self.activations, &self.device);
        for layer in &mut self.layers {
            *layer = Some(match layer.take() {
                Some(layer) => layer.map(|x| x.grown(wanted)),
                None => LayerCache {
                    k: zeros(),
                    v: zeros(),
                },
            });
        }
        self.allocated = wanted;
    }

    /// Stores keys and values of new tokens, `[batch, kv_heads, seq, head_dim]`.
    pub(crate) fn write(&mut self, layer: usize, rows: &[Row], k: Tensor<B, 4>, v: Tensor<B, 4>) {
        let cached = self.take(layer);
        let stored = |cached: Stored<B>, new: Tensor<B, 4>| {
            let cached = cached.into_float();
            let new = new.cast(cached.dtype());
            Stored::Float(assign(cached, rows, new))
        };
        self.layers[layer] = Some(LayerCache {
            k: stored(cached.k, k),
            v: stored(cached.v, v),
        });
    }

    /// Keys and values of the rows' slots, `[batch, kv_heads, len, head_dim]`.
    pub(crate) fn read(
        &self,
        layer: usize,
        rows: &[Row],
        len: usize,
    ) -> (Tensor<B, 4>, Tensor<B, 4>) {
        let cached = self.layers[layer]
            .as_ref()
            .expect("reserved before the pass");
        let view = |x: &Stored<B>| {
            let x = x.clone().into_float();
            let x = match in_order(rows) {
                true => x,
                false => {
                    let slots = rows.iter().map(|row| row.slot as i32).collect::<Vec<_>>();
                    x.select(0, Tensor::from_data(slots.as_slice(), &self.device))
                }
            };
            x.slice([0..rows.len(), 0..self.kv_heads, 0..len, 0..self.head_dim])
        };
        (view(&cached.k), view(&cached.v))
    }

    /// How many positions burn's operations attend over. The bound matters in f16 on flex alone, where
    /// they do over a capacity that is not rounded up.
    pub(crate) fn attended(&self, len: usize) -> usize {
        attended_keys(len).min(self.allocated)
    }

    /// Moves a layer's tensors out, so that a backend that can writes into them in place.
    pub(crate) fn take(&mut self, layer: usize) -> LayerCache<B> {
        self.layers[layer].take().expect("reserved before the pass")
    }

    /// Whether `is` holds of a layer's keys.
    #[cfg(feature = "flex")]
    pub(crate) fn holds(&self, layer: usize, is: impl Fn(&Stored<B>) -> bool) -> bool {
        self.layers[layer]
            .as_ref()
            .is_some_and(|layer| is(&layer.k))
    }

    #[cfg(feature = "flex")]
    pub(crate) fn put(&mut self, layer: usize, cached: LayerCache<B>) {
        self.layers[layer] = Some(cached);
    }
}

fn in_order(rows: &[Row]) -> bool {
    rows.iter().enumerate().all(|(i, row)| row.slot == i)
}

/// Writes each row's tokens behind those of its slot; one operation where all rows stand alike.
fn assign<B: Backend>(cached: Tensor<B, 4>, rows: &[Row], new: Tensor<B, 4>) -> Tensor<B, 4> {
    let [batch, heads, seq, dim] = new.dims();
    let first = &rows[0];
    let alike = rows
        .iter()
        .all(|row| row.start == first.start && row.padding == 0);
    if alike && in_order(rows) {
        return cached.slice_assign([0..batch, 0..heads, first.start..first.end(), 0..dim], new);
    }
    rows.iter().enumerate().fold(cached, |cached, (i, row)| {
        let tokens = new
            .clone()
            .slice([i..i + 1, 0..heads, row.padding..seq, 0..dim]);
        let place = [
            row.slot..row.slot + 1,
            0..heads,
            row.start..row.end(),
            0..dim,
        ];
        cached.slice_assign(place, tokens)
    })
}
