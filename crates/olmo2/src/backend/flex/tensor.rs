//! Safe casts between tensors of a generic backend and those of burn-flex.

use std::any::{Any, TypeId};

use burn::prelude::*;
use burn::tensor::{Bytes, DType, TensorPrimitive};
use burn_flex::{FlexTensor, Layout};

/// Whether the backend is burn-flex.
pub(super) fn is_flex<B: Backend>() -> bool {
    TypeId::of::<B::FloatTensorPrimitive>() == TypeId::of::<FlexTensor>()
}

/// Whether the kernels compute with this tensor.
pub(super) fn computes<B: Backend, const D: usize>(x: &Tensor<B, D>) -> bool {
    is_flex::<B>() && x.dtype() == DType::F32
}

/// A primitive of the backend as Flex's, `None` where the backend is another.
pub(super) fn as_flex<P: 'static>(primitive: &mut P) -> Option<&mut FlexTensor> {
    let any: &mut dyn Any = primitive;
    any.downcast_mut()
}

/// The primitive of a float tensor.
///
/// # Panics
/// If the backend is not Flex, which every caller has checked.
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

/// The values of a contiguous f32 tensor.
///
/// # Panics
/// It is not one.
pub(super) fn f32s(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("contiguous f32")
}

/// A tensor of values that lie row by row.
pub(super) fn from_vec<B: Backend, const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
) -> Tensor<B, D> {
    let layout = Layout::contiguous(shape.into());
    let bytes = Bytes::from_elems(values);
    from_flex(FlexTensor::new(bytes, layout, DType::F32))
}

/// Zeros in memory that nothing has written yet.
pub(super) fn untouched<const D: usize>(shape: [usize; D], dtype: DType) -> FlexTensor {
    let elements = shape.iter().product();
    let bytes = match dtype.size() {
        1 => Bytes::from_elems(vec![0_u8; elements]),
        2 => Bytes::from_elems(vec![0_u16; elements]),
        4 => Bytes::from_elems(vec![0_u32; elements]),
        _ => return FlexTensor::zeros(shape.into(), dtype),
    };
    FlexTensor::new(bytes, Layout::contiguous(shape.into()), dtype)
}

/// A value whose type has another name where the backend is generic.
///
/// # Panics
/// It is another type.
pub(super) fn same<T: 'static, U: 'static>(value: T) -> U {
    let mut value = Some(value);
    let any: &mut dyn Any = &mut value;
    let same = any.downcast_mut::<Option<U>>().and_then(Option::take);
    same.expect("the backend is Flex")
}
