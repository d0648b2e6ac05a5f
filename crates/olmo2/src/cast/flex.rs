//! burn-flex: products, `silu(gate) * up` and attention on the slices that its tensors hold.

use std::any::{Any, TypeId};

use burn::prelude::*;
use burn::tensor::{Bytes, DType, TensorPrimitive};
use burn_flex::{FlexTensor, Layout};
use half::{bf16, f16};
use olmo2_kernels::{Activations, AttentionShape, AttentionStep, WeightData, WeightRef};

use crate::cache::{KvCache, LayerCache};
use crate::linear::{Linear, Weight};
use crate::packed::Packed;
use crate::plan::Row;

/// Whether backend `B` has own kernels that read weights as they are stored.
pub(crate) fn reads_in_place<B: Backend>() -> bool {
    TypeId::of::<B::FloatTensorPrimitive>() == TypeId::of::<FlexTensor>()
}

/// `x` `[rows, in]` times each weight `[out, in]`, in one pass over them; f32 activations only,
/// which products may round.
pub(crate) fn project<B: Backend, const N: usize>(
    x: &Tensor<B, 2>,
    rounding: Activations,
    linears: [&Linear<B>; N],
) -> Option<[Tensor<B, 2>; N]> {
    if !computes(x) {
        return None;
    }
    let [rows, input] = x.dims();
    let x = contiguous(x);
    let held = linears.map(|linear| {
        let bias = linear
            .bias
            .as_ref()
            .map(|bias| contiguous(&bias.val().cast(DType::F32)));
        (Held::new(&linear.weight), bias)
    });
    let weights = held.each_ref().map(|(weight, bias)| WeightRef {
        data: weight.data(),
        bias: bias.as_ref().map(f32s),
    });
    let mut outputs = linears.map(|linear| vec![0.0; rows * linear.weight.dims()[0]]);
    let mut slices = outputs.each_mut().map(Vec::as_mut_slice);
    olmo2_kernels::project(f32s(&x), input, rounding, &weights, &mut slices);
    Some(outputs.map(|values| {
        let out = values.len() / rows;
        from_vec(values, [rows, out])
    }))
}

/// A weight as kernels read it.
enum Held<'a> {
    Float(FlexTensor),
    Packed(&'a Packed),
}

impl<'a> Held<'a> {
    fn new<B: Backend>(weight: &'a Weight<B>) -> Self {
        match weight {
            Weight::Float(param) => Self::Float(contiguous(&param.val())),
            Weight::Packed(packed) => Self::Packed(packed),
        }
    }

    fn data(&self) -> WeightData<'_> {
        match self {
            Self::Float(tensor) => weight_data(tensor),
            Self::Packed(packed) => packed.data(),
        }
    }
}

/// `silu(gate) * up`; f32 only.
pub(crate) fn silu_mul<B: Backend>(gate: &Tensor<B, 3>, up: &Tensor<B, 3>) -> Option<Tensor<B, 3>> {
    if !computes(gate) {
        return None;
    }
    let shape = gate.dims();
    let (gate, up) = (contiguous(gate), contiguous(up));
    let mut out = vec![0.0; shape.iter().product()];
    olmo2_kernels::silu_mul(f32s(&gate), f32s(&up), &mut out);
    Some(from_vec(out, shape))
}

/// Writes keys and values into the cache in place and attends over it; f32 only.
///
/// burn's `slice_assign` on Flex copies the whole cache each time.
///
/// # Shapes
/// - `q`: `[batch, seq, heads, head_dim]`; `k`, `v`: `[batch, seq, kv_heads, head_dim]`
/// - returns: `[batch, seq, heads * head_dim]`, zero in padding
pub(crate) fn attend<B: Backend>(
    cache: &mut KvCache<B>,
    layer: usize,
    rows: &[Row],
    [q, k, v]: [&Tensor<B, 4>; 3],
) -> Option<Tensor<B, 3>> {
    if !computes(q) || cache.dtype() != DType::F32 {
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
    let cached = cache.take(layer);
    let (mut keys, mut values) = (to_flex(cached.k), to_flex(cached.v));
    // A clone of the cache shares its memory, which is copied here before the first write.
    let (k_cache, v_cache) = (keys.storage_mut::<f32>(), values.storage_mut::<f32>());
    write(&shape, rows, seq, f32s(&contiguous(k)), k_cache);
    write(&shape, rows, seq, f32s(&contiguous(v)), v_cache);
    let mut out = vec![0.0; batch * seq * heads * head_dim];
    read(
        &shape,
        rows,
        [f32s(&contiguous(q)), k_cache, v_cache],
        &mut out,
    );
    let (k, v) = (from_flex(keys), from_flex(values));
    cache.put(layer, LayerCache { k, v });
    Some(from_vec(out, [batch, seq, heads * head_dim]))
}

/// Copies each row's tokens, `[seq, kv_heads, head_dim]`, to their positions in
/// `[slots, kv_heads, capacity, head_dim]`.
fn write(shape: &AttentionShape, rows: &[Row], seq: usize, new: &[f32], cache: &mut [f32]) {
    let (heads, capacity, dim) = (shape.kv_heads, shape.capacity, shape.head_dim);
    for (row, new) in rows.iter().zip(new.chunks_exact(seq * heads * dim)) {
        let tokens = new.chunks_exact(heads * dim).skip(row.padding);
        for (position, token) in (row.start..).zip(tokens) {
            for (head, values) in token.chunks_exact(dim).enumerate() {
                let at = ((row.slot * heads + head) * capacity + position) * dim;
                cache[at..at + dim].copy_from_slice(values);
            }
        }
    }
}

/// Attends each row over its slot.
fn read(shape: &AttentionShape, rows: &[Row], [q, k, v]: [&[f32]; 3], out: &mut [f32]) {
    let width = shape.heads * shape.head_dim;
    let slot_len = shape.kv_heads * shape.capacity * shape.head_dim;
    let row_len = q.len() / rows.len();
    let steps: Vec<_> = rows
        .iter()
        .zip(q.chunks_exact(row_len))
        .map(|(row, q)| {
            let slot = row.slot * slot_len..(row.slot + 1) * slot_len;
            AttentionStep {
                q: &q[row.padding * width..],
                k: &k[slot.clone()],
                v: &v[slot],
                offset: row.start,
                first: 0,
            }
        })
        .collect();
    let outputs = rows.iter().zip(out.chunks_exact_mut(row_len));
    let mut outputs: Vec<_> = outputs
        .map(|(row, out)| &mut out[row.padding * width..])
        .collect();
    olmo2_kernels::attend(shape, &steps, &mut outputs);
}

/// Whether the kernels compute with this tensor.
fn computes<B: Backend, const D: usize>(x: &Tensor<B, D>) -> bool {
    reads_in_place::<B>() && x.dtype() == DType::F32
}

/// The primitive of a float tensor.
///
/// # Panics
/// If the backend is not Flex, which every caller has asked before.
fn to_flex<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FlexTensor {
    let mut primitive = Some(tensor.into_primitive().tensor());
    let any: &mut dyn Any = &mut primitive;
    let flex = any
        .downcast_mut::<Option<FlexTensor>>()
        .and_then(Option::take);
    flex.expect("the backend is Flex")
}

/// The reverse of [`to_flex`], with the same condition.
fn from_flex<B: Backend, const D: usize>(tensor: FlexTensor) -> Tensor<B, D> {
    let mut tensor = Some(tensor);
    let any: &mut dyn Any = &mut tensor;
    let primitive = any
        .downcast_mut::<Option<B::FloatTensorPrimitive>>()
        .and_then(Option::take);
    Tensor::from_primitive(TensorPrimitive::Float(
        primitive.expect("the backend is Flex"),
    ))
}

/// The tensor's values in one row-major run: the same memory, unless it is a view.
fn contiguous<B: Backend, const D: usize>(tensor: &Tensor<B, D>) -> FlexTensor {
    to_flex(tensor.clone()).to_contiguous()
}

fn f32s(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("contiguous f32")
}

fn weight_data(weight: &FlexTensor) -> WeightData<'_> {
    match weight.dtype() {
        DType::BF16 => WeightData::Bf16(weight.as_slice::<bf16>().expect("contiguous")),
        DType::F16 => WeightData::F16(weight.as_slice::<f16>().expect("contiguous")),
        _ => WeightData::F32(f32s(weight)),
    }
}

fn from_vec<B: Backend, const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Tensor<B, D> {
    let layout = Layout::contiguous(shape.into());
    from_flex(FlexTensor::new(
        Bytes::from_elems(values),
        layout,
        DType::F32,
    ))
}
