//! What the tests share: backends, goldens, and a comparison that says where values part.

use std::path::PathBuf;

use burn::module::{Module, ModuleMapper, Param};
use burn::prelude::*;
use olmo2::sampling::kl_divergence;
use olmo2::{Olmo2, Olmo2Config};
use safetensors::{Dtype, SafeTensors};

/// A model whose matrices hold the same numbers in each run, uniform with the config's deviation:
/// burn's generator is the process's, and other tests draw from it meanwhile.
pub fn fixed_model<B: Backend>(config: &Olmo2Config, device: &B::Device) -> Olmo2<B> {
    let largest = 3.0_f64.sqrt() * config.initializer_range;
    Olmo2::new(config, device).map(&mut Fixed { state: 1, largest })
}

struct Fixed {
    state: u64,
    largest: f64,
}

impl<B: Backend> ModuleMapper<B> for Fixed {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        if D == 1 {
            return param;
        }
        let mut next = || {
            // Knuth's generator of MMIX; the upper bits are the good ones.
            self.state = self
                .state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let unit = (self.state >> 40) as f64 / f64::from(1 << 23) - 1.0;
            (unit * self.largest) as f32
        };
        param.map(|tensor| {
            let shape = tensor.shape();
            let numbers = (0..shape.num_elements()).map(|_| next()).collect();
            Tensor::from_data(TensorData::new(numbers, shape), &tensor.device())
        })
    }
}

/// A fixed sequence that visits the vocabulary, another for each `seed`.
pub fn fixed_ids(len: usize, seed: u32, vocab: usize) -> Vec<u32> {
    (0..len as u32)
        .map(|i| (i * 37 + seed * 11 + 5) % vocab as u32)
        .collect()
}

/// A folder of `tests/golden`.
pub fn golden_folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(name)
}

/// One prompt of a `golden.safetensors`, as transformers answered it.
#[derive(Debug, Clone)]
pub struct GoldenPrompt {
    /// Prompt ids.
    pub ids: Vec<u32>,
    /// `[seq, vocab_size]`.
    pub logits: Vec<f32>,
    /// `[layers + 1, seq, hidden_size]`.
    pub hidden: Vec<f32>,
    /// Ids that greedy decoding appends, past any eos.
    pub greedy: Vec<u32>,
}

/// The prompts of `tests/golden/NAME/golden.safetensors`.
///
/// # Panics
/// If the file is not there or not as `make_golden.py` writes it.
pub fn golden_prompts(name: &str) -> Vec<GoldenPrompt> {
    golden_prompts_of(&format!("{name}/golden.safetensors"))
}

/// The prompts of any file under `tests/golden` that `make_golden.py` wrote.
///
/// # Panics
/// As [`golden_prompts`].
pub fn golden_prompts_of(file: &str) -> Vec<GoldenPrompt> {
    let path = golden_folder(file);
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    (0..)
        .map_while(|k| {
            let ids = file.tensor(&format!("ids.{k}")).ok()?;
            Some(GoldenPrompt {
                ids: to_ids(&ids),
                logits: to_f32(&file.tensor(&format!("logits.{k}")).expect("logits")),
                hidden: file
                    .tensor(&format!("hidden.{k}"))
                    .map(|t| to_f32(&t))
                    .unwrap_or_default(),
                greedy: to_ids(&file.tensor(&format!("greedy.{k}")).expect("greedy tokens")),
            })
        })
        .collect()
}

fn to_f32(view: &safetensors::tensor::TensorView<'_>) -> Vec<f32> {
    assert_eq!(view.dtype(), Dtype::F32);
    let bytes = view.data().as_chunks::<4>().0;
    bytes
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect()
}

fn to_ids(view: &safetensors::tensor::TensorView<'_>) -> Vec<u32> {
    assert_eq!(view.dtype(), Dtype::I64);
    let bytes = view.data().as_chunks::<8>().0;
    bytes
        .iter()
        .map(|bytes| i64::from_le_bytes(*bytes) as u32)
        .collect()
}

/// The values of a tensor, in f32, row-major.
pub fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor
        .into_data()
        .convert::<f32>()
        .into_vec()
        .expect("f32 data")
}

/// Fails where two sets of values differ by more than `tolerance`, and says where.
///
/// # Panics
/// If they do, or if one holds a value that is not finite.
#[track_caller]
pub fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}: number of values");
    let worst = (0..found.len())
        .max_by(|&a, &b| difference(found, expected, a).total_cmp(&difference(found, expected, b)));
    let Some(worst) = worst else { return };
    let largest = difference(found, expected, worst);
    assert!(
        largest <= tolerance,
        "{what}: largest difference {largest:.3e} at {worst} of {}: found {}, expected {}; tolerance {tolerance:.0e}",
        found.len(),
        found[worst],
        expected[worst],
    );
}

fn difference(found: &[f32], expected: &[f32], i: usize) -> f32 {
    let difference = (found[i] - expected[i]).abs();
    if difference.is_nan() {
        f32::INFINITY
    } else {
        difference
    }
}

/// The backends that tests run on, by feature.
pub mod backends {
    /// burn-flex: the fast CPU path.
    #[cfg(feature = "flex")]
    pub type Flex = burn::backend::Flex;
    /// ndarray, which no code of ours knows: what any other backend of burn gets.
    #[cfg(feature = "ndarray")]
    pub type NdArray = burn::backend::NdArray<f32, i64>;
    /// wgpu; in CI on Vulkan in software.
    #[cfg(feature = "wgpu")]
    pub type Wgpu = burn::backend::Wgpu<f32, i32>;
}

/// Makes a module of tests for each backend out of generic functions `fn name<B: Backend>()`.
#[macro_export]
macro_rules! on_every_backend {
    ($($name:ident),* $(,)?) => {
        #[cfg(feature = "flex")]
        mod flex { $(#[test] fn $name() { super::$name::<$crate::backends::Flex>() })* }
        #[cfg(feature = "ndarray")]
        mod ndarray { $(#[test] fn $name() { super::$name::<$crate::backends::NdArray>() })* }
        #[cfg(feature = "wgpu")]
        mod wgpu { $(#[test] fn $name() { super::$name::<$crate::backends::Wgpu>() })* }
    };
}

/// The same on CPUs alone, for tests of many shapes: on Vulkan in software each new shape is tuned.
#[macro_export]
macro_rules! on_cpus {
    ($($name:ident),* $(,)?) => {
        #[cfg(feature = "flex")]
        mod flex { $(#[test] fn $name() { super::$name::<$crate::backends::Flex>() })* }
        #[cfg(feature = "ndarray")]
        mod ndarray { $(#[test] fn $name() { super::$name::<$crate::backends::NdArray>() })* }
    };
}

/// Kullback-Leibler divergence of the next token's distribution, in nats, mean over positions.
/// Both are `[positions, vocab]` logits.
pub fn divergence(found: &[f32], expected: &[f32], vocab: usize) -> f64 {
    let rows = found.chunks_exact(vocab).zip(expected.chunks_exact(vocab));
    let of_rows = rows.map(|(found, expected)| kl_divergence(expected, found));
    of_rows.sum::<f64>() / (expected.len() / vocab) as f64
}
