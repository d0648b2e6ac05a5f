//! burn-flex: products on the slices that its tensors hold.

use std::any::{Any, TypeId};

use burn::prelude::*;
use burn::tensor::{Bytes, DType, TensorPrimitive};
use burn_flex::{FlexTensor, Layout};
use half::{bf16, f16};
use olmo2_kernels::{Activations, WeightData, WeightRef, owned};

use crate::nn::Linear;
use crate::storage::{Packed, Weight};

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
    let outputs = with_slices(x, linears, |x, input, weights| {
        owned::project(x, input, rounding, weights)
    })?;
    let mut widths = linears.map(|linear| linear.weight.dims()[0]).into_iter();
    Some(outputs.map(|values| {
        let out = widths.next().unwrap_or_default();
        from_vec(values, [x.dims()[0], out])
    }))
}

/// `silu(gate(x)) * up(x)`, under the same conditions.
pub(crate) fn project_gated<B: Backend>(
    x: &Tensor<B, 2>,
    rounding: Activations,
    linears: [&Linear<B>; 2],
) -> Option<Tensor<B, 2>> {
    let mixed = with_slices(x, linears, |x, input, weights| {
        owned::project_gated(x, input, rounding, weights)
    })?;
    Some(from_vec(mixed, [x.dims()[0], linears[1].weight.dims()[0]]))
}

/// Calls `work` with the elements of `x`, their number in a row, and the weights, if kernels
/// compute with them.
fn with_slices<B: Backend, T, const N: usize>(
    x: &Tensor<B, 2>,
    linears: [&Linear<B>; N],
    work: impl FnOnce(&[f32], usize, &[WeightRef<'_>; N]) -> T,
) -> Option<T> {
    if !computes(x) {
        return None;
    }
    let held = linears.map(Held::new);
    let weights = held.each_ref().map(Held::weight);
    Some(work(f32s(&contiguous(x)), x.dims()[1], &weights))
}

/// A weight and its bias as kernels read them.
struct Held<'a> {
    weight: HeldWeight<'a>,
    bias: Option<FlexTensor>,
}

enum HeldWeight<'a> {
    Float(FlexTensor),
    Packed(&'a Packed),
}

impl<'a> Held<'a> {
    fn new<B: Backend>(linear: &'a Linear<B>) -> Self {
        let weight = match &linear.weight {
            Weight::Float(param) => HeldWeight::Float(contiguous(&param.val())),
            Weight::Packed(packed) => HeldWeight::Packed(packed),
        };
        let bias = linear.bias.as_ref();
        let bias = bias.map(|bias| contiguous(&bias.val().cast(DType::F32)));
        Self { weight, bias }
    }

    fn weight(&self) -> WeightRef<'_> {
        let data = match &self.weight {
            HeldWeight::Float(tensor) => weight_data(tensor),
            HeldWeight::Packed(packed) => packed.data(),
        };
        WeightRef {
            data,
            bias: self.bias.as_ref().map(f32s),
        }
    }
}

/// Zeros as the allocator gives them, in new memory untouched: `Tensor::zeros` of burn-flex copies them
/// once more, into an allocation of greater alignment.
pub(crate) fn zeros<B: Backend, const D: usize>(
    shape: [usize; D],
    dtype: DType,
) -> Option<Tensor<B, D>> {
    reads_in_place::<B>().then(|| from_flex(untouched(shape, dtype)))
}

/// The same of integers.
pub(crate) fn int_zeros<B: Backend, const D: usize>(
    shape: [usize; D],
    dtype: DType,
) -> Option<Tensor<B, D, Int>> {
    reads_in_place::<B>().then(|| Tensor::from_primitive(same(untouched(shape, dtype))))
}

fn untouched<const D: usize>(shape: [usize; D], dtype: DType) -> FlexTensor {
    let elements = shape.iter().product();
    let bytes = match dtype.size() {
        1 => Bytes::from_elems(vec![0_u8; elements]),
        2 => Bytes::from_elems(vec![0_u16; elements]),
        4 => Bytes::from_elems(vec![0_u32; elements]),
        _ => return FlexTensor::zeros(shape.into(), dtype),
    };
    FlexTensor::new(bytes, Layout::contiguous(shape.into()), dtype)
}

/// Whether the kernels compute with this tensor.
pub(super) fn computes<B: Backend, const D: usize>(x: &Tensor<B, D>) -> bool {
    reads_in_place::<B>() && x.dtype() == DType::F32
}

/// The primitive of a float tensor.
///
/// # Panics
/// If the backend is not Flex, which every caller has asked before.
pub(super) fn to_flex<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FlexTensor {
    same(tensor.into_primitive().tensor())
}

/// The reverse of [`to_flex`], with the same condition.
pub(super) fn from_flex<B: Backend, const D: usize>(tensor: FlexTensor) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(same(tensor)))
}

/// The tensor's values in one row-major run: the same memory, unless it is a view.
pub(super) fn contiguous<B: Backend, const D: usize>(tensor: &Tensor<B, D>) -> FlexTensor {
    to_flex(tensor.clone()).to_contiguous()
}

pub(super) fn f32s(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("contiguous f32")
}

fn weight_data(weight: &FlexTensor) -> WeightData<'_> {
    match weight.dtype() {
        DType::BF16 => WeightData::Bf16(weight.as_slice::<bf16>().expect("contiguous")),
        DType::F16 => WeightData::F16(weight.as_slice::<f16>().expect("contiguous")),
        _ => WeightData::F32(f32s(weight)),
    }
}

pub(super) fn from_vec<B: Backend, const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
) -> Tensor<B, D> {
    let layout = Layout::contiguous(shape.into());
    from_flex(FlexTensor::new(
        Bytes::from_elems(values),
        layout,
        DType::F32,
    ))
}

/// A value of a type that is another by name alone.
///
/// # Panics
/// It is not.
pub(super) fn same<T: 'static, U: 'static>(value: T) -> U {
    let mut value = Some(value);
    let any: &mut dyn Any = &mut value;
    let same = any.downcast_mut::<Option<U>>().and_then(Option::take);
    same.expect("the backend is Flex")
}

#[cfg(test)]
mod tests {
    use burn_flex::Flex;

    use super::*;

    #[test]
    fn zeros_are_those_of_burn() {
        let device = Default::default();
        for dtype in [DType::F32, DType::BF16, DType::F16, DType::F64] {
            let right = Tensor::<Flex, 2>::zeros([3, 5], (&device, dtype));
            let zeros = zeros::<Flex, 2>([3, 5], dtype).unwrap();
            assert_eq!(zeros.into_data(), right.into_data());
        }
        let right = Tensor::<Flex, 2, Int>::zeros([3, 5], (&device, DType::I8));
        let zeros = int_zeros::<Flex, 2>([3, 5], DType::I8).unwrap();
        assert_eq!(zeros.into_data(), right.into_data());
    }

    #[test]
    fn a_gated_product_is_that_of_burn() {
        let device = Default::default();
        let [gate, up] = [0.5, -2.0].map(|bias| {
            let mut linear = Linear::<Flex>::new([5, 3], true, 1.0, &device);
            let bias = Tensor::full([5], bias, &device);
            linear.bias = Some(burn::module::Param::from_tensor(bias));
            linear
        });
        for rows in [2, 20] {
            let x = Tensor::random([rows, 3], burn::tensor::Distribution::Default, &device);
            let [a, b] = [&gate, &up].map(|linear| {
                let bias = linear.bias.as_ref().unwrap().val();
                let weight = linear.weight.tensor(DType::F32, &device);
                x.clone().matmul(weight.transpose()) + bias.unsqueeze()
            });
            let right = burn::tensor::activation::silu(a) * b;
            let mixed = project_gated(&x, Activations::F32, [&gate, &up]).unwrap();
            let tolerance = burn::tensor::Tolerance::<f32>::absolute(1e-5);
            mixed
                .into_data()
                .assert_approx_eq(&right.into_data(), tolerance);
        }
    }
}
