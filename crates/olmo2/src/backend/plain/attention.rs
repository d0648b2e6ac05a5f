//! Scaled dot-product attention in burn's operations, runs of one length at a time.
//!
//! burn's `module::attention` is left aside: its fallback takes the softmax in the model's dtype.

use burn::prelude::*;
use burn::tensor::{DType, activation::softmax};

use crate::backend::norm_rotate;
use crate::backend::request::{Attention, MaskOf};
use crate::cache::{KEY_BUCKET, KvStorage, LayerStorage, Run};

pub(in crate::backend) fn attention<B: Backend>(
    attention: Attention<'_, B>,
    storage: &mut Option<&mut LayerStorage<B>>,
) -> Tensor<B, 3> {
    let Attention {
        q,
        k,
        v,
        q_norm,
        k_norm,
        shape,
        rotation,
        runs,
        window: _,
        mask,
    } = attention;
    let [_, tokens, _] = v.dims();
    let rotated = |x: Tensor<B, 3>, norm| norm_rotate(&x, norm, rotation);
    let (q, k) = (rotated(q, &q_norm), rotated(k, &k_norm));
    let v = v.reshape([1, tokens, shape.kv_heads, shape.head_dim]);
    if groups(runs).count() == 1 {
        let qkv = [q, k, v].map(|x| of_runs(x, runs));
        return attend_group(mask, runs, qkv, storage.as_deref_mut());
    }
    let outputs = groups(runs).map(|runs| {
        let qkv = [&q, &k, &v].map(|x| of_runs(x.clone(), runs));
        attend_group(mask, runs, qkv, storage.as_deref_mut())
    });
    Tensor::cat(outputs.collect(), 1)
}

/// Neighbors of one length, whose attention is one batch.
fn groups(runs: &[Run]) -> impl Iterator<Item = &[Run]> {
    runs.chunk_by(|a, b| a.tokens == b.tokens)
}

/// The rows of a group, `[1, tokens, heads, head_dim]` to `[runs, tokens of a run, heads, head_dim]`.
fn of_runs<B: Backend>(x: Tensor<B, 4>, runs: &[Run]) -> Tensor<B, 4> {
    let [_, tokens, heads, dim] = x.dims();
    let (start, len) = (runs[0].row, runs[0].tokens * runs.len());
    let x = match len == tokens {
        true => x,
        false => x.slice([0..1, start..start + len, 0..heads, 0..dim]),
    };
    x.reshape([runs.len(), runs[0].tokens, heads, dim])
}

/// Attention of runs of one length, `[1, tokens, heads * head_dim]`.
fn attend_group<B: Backend>(
    mask: &MaskOf<'_, B>,
    runs: &[Run],
    [q, k, v]: [Tensor<B, 4>; 3],
    storage: Option<&mut LayerStorage<B>>,
) -> Tensor<B, 3> {
    let [k, v] = [k, v].map(|x| x.swap_dims(1, 2));
    let [k, v] = match storage {
        Some(storage) => {
            write(&mut storage.k, runs, k);
            write(&mut storage.v, runs, v);
            [&storage.k, &storage.v].map(|x| read(x, runs))
        }
        None => [k, v].map(pad_keys),
    };
    let mask = mask(runs, k.dims()[2]);
    let out = scaled_dot_product(q, k, v, mask);
    let [runs, seq, width] = out.dims();
    out.reshape([1, runs * seq, width])
}

/// Keys or values `[runs, kv_heads, len, head_dim]`, padded with zeros to a multiple of the bucket.
fn pad_keys<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    let len = x.dims()[2];
    match len.next_multiple_of(KEY_BUCKET) - len {
        0 => x,
        missing => x.pad([(0, missing), (0, 0)], 0.0),
    }
}

/// Whether the runs lie in neighboring slots, in order.
fn in_order(runs: &[Run]) -> bool {
    let first = runs[0].slot;
    let mut runs = runs.iter().enumerate();
    runs.all(|(i, run)| run.slot == first + i)
}

/// Writes each run's tokens behind those of its slot, `new` being `[runs, kv_heads, tokens,
/// head_dim]`; one operation where all runs start alike in neighboring slots.
fn write<B: Backend>(storage: &mut KvStorage<B>, runs: &[Run], new: Tensor<B, 4>) {
    let [count, heads, _, dim] = new.dims();
    let first = &runs[0];
    let alike = in_order(runs) && runs.iter().all(|run| run.start == first.start);
    storage.update_float(|cached| {
        let new = new.cast(cached.dtype());
        let place = |run: &Run, slots: usize| {
            let slots = run.slot..run.slot + slots;
            [slots, 0..heads, run.start..run.end(), 0..dim]
        };
        if alike {
            return cached.slice_assign(place(first, count), new);
        }
        runs.iter().enumerate().fold(cached, |cached, (i, run)| {
            let tokens = new.clone().narrow(0, i, 1);
            cached.slice_assign(place(run, 1), tokens)
        })
    });
}

/// Keys or values of the runs' slots, `[runs, kv_heads, keys, head_dim]`: a multiple of the bucket
/// that holds all of them. The room ends the keys only in f16 on flex, where burn's operations
/// attend over a capacity that is not rounded up.
fn read<B: Backend>(storage: &KvStorage<B>, runs: &[Run]) -> Tensor<B, 4> {
    let x = storage.float();
    let [_, heads, room, dim] = x.dims();
    let longest = runs.iter().map(Run::end).max().unwrap_or(0);
    let keys = longest.next_multiple_of(KEY_BUCKET).min(room);
    let first = runs[0].slot;
    let (x, first) = match in_order(runs) {
        true => (x, first),
        false => {
            let slots = runs.iter().map(|run| run.slot as i32).collect::<Vec<_>>();
            let device = x.device();
            let x = x.narrow(2, 0, keys);
            (x.select(0, Tensor::from_data(slots.as_slice(), &device)), 0)
        }
    };
    x.slice([first..first + runs.len(), 0..heads, 0..keys, 0..dim])
}

/// `softmax(q k^T / sqrt(head_dim)) v`, the softmax in f32; heads of a group share keys and values
/// without a copy of them.
///
/// # Shapes
/// - `q`: `[batch, seq, heads, head_dim]`
/// - `k`, `v`: `[batch, kv_heads, keys, head_dim]`
/// - `mask`: `[batch or 1, 1, seq, keys]`, true where a key is hidden
/// - returns: `[batch, seq, heads * head_dim]`
fn scaled_dot_product<B: Backend>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    mask: Option<Tensor<B, 4, Bool>>,
) -> Tensor<B, 3> {
    let dtype = q.dtype();
    let [batch, seq, heads, head_dim] = q.dims();
    let [_, kv_heads, keys, _] = k.dims();
    let rows = heads / kv_heads * seq;
    let (k, v) = (k.cast(dtype), v.cast(dtype));

    let q = q.swap_dims(1, 2);
    let q = q.reshape([batch, kv_heads, rows, head_dim]);
    // Fewer dimensions, so that fusion does not join the matmul with what follows: see `apart` of
    // the module `matmul`.
    let scores = q.matmul(k.swap_dims(2, 3));
    let scores = scores.reshape([batch * kv_heads, rows, keys]);
    let scores = scores.cast(DType::F32) * (head_dim as f64).powf(-0.5);
    let scores = scores.reshape([batch, heads, seq, keys]);
    let scores = match mask {
        Some(mask) => scores.mask_fill(mask.expand([batch, heads, seq, keys]), f32::MIN),
        None => scores,
    };
    let weights = softmax(scores, 3).cast(dtype);

    let mixed = weights.reshape([batch, kv_heads, rows, keys]).matmul(v);
    let mixed = mixed.reshape([batch, heads, seq, head_dim]);
    mixed
        .swap_dims(1, 2)
        .reshape([batch, seq, heads * head_dim])
}
