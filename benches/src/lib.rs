//! Shared by the benchmarks: sizes, and weights that do not repeat within a cache line.

use std::path::Path;

use burn::prelude::*;
use burn::tensor::DType;
use half::bf16;
use olmo2::{
    LoadOptions, Olmo2, Olmo2Config, QuantFormat, Quantize, StoredTensor, Weights, demo, layout,
};

/// The real size under `cargo bench`, a tiny one when the benchmark runs as a test.
pub fn sized(real: usize, tiny: usize) -> usize {
    match std::env::args().any(|arg| arg == "--bench") {
        true => real,
        false => tiny,
    }
}

/// bf16 values between -1/2 and 1/2, times `scale`.
pub fn bf16s(len: usize, scale: f32) -> Vec<bf16> {
    let value = |i: usize| (i * 7919 % 1009) as f32 / 1009.0 - 0.5;
    (0..len).map(|i| bf16::from_f32(value(i) * scale)).collect()
}

/// f32 values between -1/2 and 1/2.
pub fn f32s(len: usize) -> Vec<f32> {
    (0..len)
        .map(|i| (i * 6007 % 997) as f32 / 997.0 - 0.5)
        .collect()
}

/// The format of a model's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// bf16, with matmuls in f32.
    F32,
    /// 8-bit blocks.
    Q8,
    /// 4-bit blocks.
    Q4,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 3] = [Self::F32, Self::Q8, Self::Q4];

    fn options(self) -> LoadOptions {
        let format = match self {
            Self::F32 => None,
            Self::Q8 => Some(QuantFormat::Q8),
            Self::Q4 => Some(QuantFormat::Q4),
        };
        LoadOptions {
            quantize: format.map(Quantize::all),
            ..Default::default()
        }
    }
}

/// The embedded model.
///
/// # Panics
/// If the library rejects its own model.
pub fn embedded<B: Backend>(format: Format) -> Olmo2<B> {
    demo::load(&format.options(), &B::Device::default()).expect("the embedded model")
}

/// A model with one layer of OLMo 2 1B's shape and a small vocabulary.
///
/// # Panics
/// If the library rejects its own layout.
pub fn layer<B: Backend>(format: Format) -> Olmo2<B> {
    let (hidden, intermediate) = (sized(2048, 64), sized(8192, 96));
    let heads = sized(16, 4);
    let vocab = sized(4096, 64);
    let config = format!(
        r#"{{"model_type": "olmo2", "vocab_size": {vocab}, "hidden_size": {hidden},
            "intermediate_size": {intermediate}, "num_hidden_layers": 1,
            "num_attention_heads": {heads}, "max_position_embeddings": 4096}}"#
    );
    let config = Olmo2Config::from_json(&config).expect("a valid config");
    let tensors = layout::parts(&config)
        .into_iter()
        .flat_map(|part| part.tensors);
    let stored = tensors.map(|spec| {
        let len = spec.shape.iter().product();
        let scale = (spec.shape[spec.shape.len() - 1] as f32).powf(-0.5);
        let values = bf16s(len, scale);
        let bytes: Vec<u8> = values.into_iter().flat_map(bf16::to_le_bytes).collect();
        let tensor = StoredTensor {
            dtype: DType::BF16,
            shape: spec.shape,
            bytes: bytes.into(),
        };
        (spec.name, tensor)
    });
    let weights = Weights::from_tensors(&config, Path::new("benchmark"), stored).expect("complete");
    let device = B::Device::default();
    Olmo2::from_weights(&config, &weights, &format.options(), &device).expect("a model")
}
