//! A weight of the model: floats in a burn parameter, or quantized blocks.

use burn::module::{
    AutodiffModule, Content, Devices, HasAutodiffModule, Initializer, Module, ModuleDisplay,
    ModuleDisplayDefault, ModuleMapper, ModuleVisitor, Param,
};
use burn::prelude::*;
use burn::tensor::DType;
use burn::tensor::backend::AutodiffBackend;

use super::packed::Packed;

/// A matrix `[out, in]`.
///
/// Floats are a burn parameter under the path of the weight's field, without a level for the variant:
/// they are visited, mapped, trained and saved. Blocks are not a parameter: burn's visitors skip
/// them, burn's records omit them, and loading a record leaves them unchanged.
#[derive(Debug, Clone)]
pub enum Weight<B: Backend> {
    /// Floats.
    Float(Param<Tensor<B, 2>>),
    /// Quantized blocks, in memory that clones share.
    Packed(Packed),
}

impl<B: Backend> Weight<B> {
    /// Normally distributed floats with standard deviation `std`, initialized at first use.
    pub(crate) fn normal(shape: [usize; 2], std: f64, device: &B::Device) -> Self {
        Self::Float(Initializer::Normal { mean: 0.0, std }.init(shape, device))
    }

    /// `[out, in]`.
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Self::Float(param) => param.lazy_shape().dims(),
            Self::Packed(packed) => *packed.shape(),
        }
    }

    /// Bytes of the weights in memory.
    pub fn byte_len(&self) -> u64 {
        match self {
            Self::Float(param) => {
                let tensor = param.val();
                (tensor.shape().num_elements() * tensor.dtype().size()) as u64
            }
            Self::Packed(packed) => packed.byte_len(),
        }
    }

    /// The floats; `None` for quantized blocks.
    pub fn float(&self) -> Option<&Param<Tensor<B, 2>>> {
        match self {
            Self::Float(param) => Some(param),
            Self::Packed(_) => None,
        }
    }

    /// The floats; `None` for quantized blocks.
    pub fn float_mut(&mut self) -> Option<&mut Param<Tensor<B, 2>>> {
        match self {
            Self::Float(param) => Some(param),
            Self::Packed(_) => None,
        }
    }

    /// The quantized blocks; `None` for floats.
    pub fn packed(&self) -> Option<&Packed> {
        match self {
            Self::Float(_) => None,
            Self::Packed(packed) => Some(packed),
        }
    }

    /// The weights `[out, in]` in burn's own floats of `dtype`; blocks are widened at each call.
    pub(crate) fn tensor(&self, dtype: DType, device: &B::Device) -> Tensor<B, 2> {
        match self {
            Self::Float(param) => param.val().cast(dtype),
            Self::Packed(packed) => Tensor::from_data(packed.widen(dtype), (device, dtype)),
        }
    }
}

impl<B: Backend> Module<B> for Weight<B> {
    /// `None` for blocks; a single value, not a list, in formats that tell by themselves.
    type Record = Option<Param<Tensor<B, 2>>>;

    fn collect_devices(&self, devices: Devices<B>) -> Devices<B> {
        match self {
            Self::Float(param) => param.collect_devices(devices),
            Self::Packed(_) => devices,
        }
    }

    fn fork(self, device: &B::Device) -> Self {
        match self {
            Self::Float(param) => Self::Float(param.fork(device)),
            packed => packed,
        }
    }

    fn to_device(self, device: &B::Device) -> Self {
        match self {
            Self::Float(param) => Self::Float(param.to_device(device)),
            packed => packed,
        }
    }

    fn visit<Visitor: ModuleVisitor<B>>(&self, visitor: &mut Visitor) {
        if let Self::Float(param) = self {
            param.visit(visitor);
        }
    }

    fn map<Mapper: ModuleMapper<B>>(self, mapper: &mut Mapper) -> Self {
        match self {
            Self::Float(param) => Self::Float(Module::<B>::map(param, mapper)),
            packed => packed,
        }
    }

    fn load_record(self, record: Self::Record) -> Self {
        match (self, record) {
            (Self::Float(param), Some(record)) => Self::Float(param.load_record(record)),
            (weight, _) => weight,
        }
    }

    fn into_record(self) -> Self::Record {
        match self {
            Self::Float(param) => Some(param.into_record()),
            Self::Packed(_) => None,
        }
    }
}

impl<B: AutodiffBackend> AutodiffModule<B> for Weight<B> {
    type InnerModule = Weight<B::InnerBackend>;

    fn valid(&self) -> Self::InnerModule {
        match self {
            Self::Float(param) => Weight::Float(param.valid()),
            Self::Packed(packed) => Weight::Packed(packed.clone()),
        }
    }

    fn from_inner(module: Self::InnerModule) -> Self {
        match module {
            Weight::Float(param) => Self::Float(Param::from_inner(param)),
            Weight::Packed(packed) => Self::Packed(packed),
        }
    }
}

impl<B: AutodiffBackend> HasAutodiffModule<B> for Weight<B::InnerBackend> {
    type TrainModule = Weight<B>;
}

impl<B: Backend> ModuleDisplayDefault for Weight<B> {
    fn content(&self, content: Content) -> Option<Content> {
        match self {
            Self::Float(param) => param.content(content),
            Self::Packed(packed) => content.add_formatted(&format!("{packed:?}")).optional(),
        }
    }
}

impl<B: Backend> ModuleDisplay for Weight<B> {}
