//! Matmuls that read weights as they are stored, floats or blocks.

use burn::prelude::*;
use burn::tensor::DType;
use burn_flex::FlexTensor;
use half::{bf16, f16};
use olmo2_kernels::{Activations, WeightData, WeightRef};

use super::tensor::{computes, contiguous, f32s, from_vec};
use crate::backend::request::{DECODE_TOKENS, Matmul, MatmulWeight};
use crate::precision::Precision;
use crate::storage::{Packed, Weight};

pub(in crate::backend) fn matmul<B: Backend, const N: usize>(
    matmul: &Matmul<B>,
    weights: &[MatmulWeight<'_, B>; N],
) -> Option<[Tensor<B, 2>; N]> {
    with_slices(matmul, weights, |x, rounding, weights| {
        olmo2_kernels::matmul(x, matmul.x.dims()[1], rounding, weights)
    })
}

pub(in crate::backend) fn matmul_gated<B: Backend>(
    matmul: &Matmul<B>,
    weights: &[MatmulWeight<'_, B>; 2],
) -> Option<Tensor<B, 2>> {
    let outputs = with_slices(matmul, weights, |x, rounding, weights| {
        [olmo2_kernels::matmul_gated(
            x,
            matmul.x.dims()[1],
            rounding,
            weights,
        )]
    })?;
    let [out] = outputs;
    Some(out)
}

/// Calls `kernel` with the input's rows, what it rounds them to, and the weights, once for each
/// group of rows; `None` where the kernels do not compute with such an input.
fn with_slices<B: Backend, const N: usize, const M: usize>(
    matmul: &Matmul<B>,
    weights: &[MatmulWeight<'_, B>; N],
    kernel: impl Fn(&[f32], Activations, &[WeightRef<'_>; N]) -> [Vec<f32>; M],
) -> Option<[Tensor<B, 2>; M]> {
    if !computes(&matmul.x) {
        return None;
    }
    let [rows, input] = matmul.x.dims();
    let flex = weights.each_ref().map(FlexWeight::new);
    let weights = flex.each_ref().map(FlexWeight::as_ref);
    let x = contiguous(&matmul.x);
    let rounding = rounding(matmul.precision);
    let mut groups = row_groups(f32s(&x), input, matmul.decode_rows);
    let mut outputs = kernel(groups.next().unwrap_or(&[]), rounding, &weights);
    for group in groups {
        let more = kernel(group, rounding, &weights);
        for (output, more) in outputs.iter_mut().zip(more) {
            output.extend(more);
        }
    }
    Some(outputs.map(|values| {
        let out = values.len() / rows;
        from_vec(values, [rows, out])
    }))
}

/// The rows that go through the kernels together: those of decoding some at a time, so that the
/// kernels take them for decoding, and all others.
fn row_groups(x: &[f32], input: usize, decode_rows: usize) -> impl Iterator<Item = &[f32]> {
    let (decode, prefill) = x.split_at(decode_rows * input);
    let prefill = Some(prefill).filter(|rows| !rows.is_empty());
    decode.chunks(DECODE_TOKENS * input).chain(prefill)
}

/// What kernels round activations to.
fn rounding(precision: Precision) -> Activations {
    match precision {
        Precision::Bf16 => Activations::Bf16,
        Precision::F32 | Precision::F16 => Activations::F32,
    }
}

/// A weight and its bias as kernels read them.
struct FlexWeight<'a> {
    data: FlexData<'a>,
    bias: Option<FlexTensor>,
}

enum FlexData<'a> {
    Float(FlexTensor),
    Packed(&'a Packed),
}

impl<'a> FlexWeight<'a> {
    fn new<B: Backend>(weight: &MatmulWeight<'a, B>) -> Self {
        let data = match weight.weight {
            Weight::Float(param) => FlexData::Float(contiguous(&param.val())),
            Weight::Packed(packed) => FlexData::Packed(packed),
        };
        let bias = weight.bias.clone();
        let bias = bias.map(|bias| contiguous(&bias.cast(DType::F32)));
        Self { data, bias }
    }

    fn as_ref(&self) -> WeightRef<'_> {
        let data = match &self.data {
            FlexData::Float(tensor) => weight_data(tensor),
            FlexData::Packed(packed) => packed.data(),
        };
        WeightRef {
            data,
            bias: self.bias.as_ref().map(f32s),
        }
    }
}

fn weight_data(weight: &FlexTensor) -> WeightData<'_> {
    match weight.dtype() {
        DType::BF16 => WeightData::Bf16(weight.as_slice::<bf16>().expect("contiguous")),
        DType::F16 => WeightData::F16(weight.as_slice::<f16>().expect("contiguous")),
        _ => WeightData::F32(f32s(weight)),
    }
}
