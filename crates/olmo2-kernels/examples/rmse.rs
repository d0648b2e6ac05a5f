//! Relative error of weights in the 8-bit and 4-bit formats, and the time that quantizing takes.
//!
//! ```text
//! cargo run --release -p olmo2-kernels --example rmse -- write FOLDER [SEED]
//! cargo run --release -p olmo2-kernels --example rmse -- IN_FEATURES FILE...
//! ```
//! The first writes synthetic sets of 1024 x 1024 weights as raw little-endian f32: Gaussian,
//! Student's t with 8 and 5 degrees of freedom, and Gaussian with log-normal scales of rows and
//! columns. The second reads such files, as rows of IN_FEATURES, and prints a line for each:
//! name, root of the mean squared error over that of the weights in % (8 bits, 4 bits), nanoseconds
//! a weight (8 bits, 4 bits). `tests/accuracy/ggml.py` puts ggml's formats beside these.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use half::f16;
use olmo2_kernels::quant::{Q4, Q8, blocks, q4_max_scale, quantize_q4, quantize_q8};

const SIDE: usize = 1024;
/// Standard deviation of the logarithm of the scales of rows and columns.
const DEVIATION: f64 = 0.3;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match &args[..] {
        [write, folder, seed @ ..] if write == "write" => {
            let seed = seed.first().map_or(Ok(1), |seed| seed.parse())?;
            write_sets(Path::new(folder), seed)
        }
        [in_features, files @ ..] => {
            let in_features = in_features.parse()?;
            files
                .iter()
                .try_for_each(|file| measure(Path::new(file), in_features))
        }
        [] => Err("expected `write FOLDER [SEED]` or `IN_FEATURES FILE...`".into()),
    }
}

fn measure(file: &Path, in_features: usize) -> Result<(), Box<dyn Error>> {
    let bytes = std::fs::read(file)?;
    let (values, _) = bytes.as_chunks();
    let weights: Vec<f32> = values.iter().map(|&x| f32::from_le_bytes(x)).collect();
    if in_features == 0 || weights.is_empty() || !weights.len().is_multiple_of(in_features) {
        let found = weights.len();
        return Err(format!("{file:?}: {found} weights, expected rows of {in_features}").into());
    }
    let ((q8, time8), (q4, time4)) = (
        through_q8(&weights, in_features),
        through_q4(&weights, in_features),
    );
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    let (error8, error4) = (error(&weights, &q8), error(&weights, &q4));
    println!("{name} {error8:.3} {error4:.3} {time8:.2} {time4:.2}");
    Ok(())
}

/// The weights quantized and widened again, and nanoseconds a weight.
fn through_q8(weights: &[f32], in_features: usize) -> (Vec<f32>, f64) {
    let count = weights.len() / in_features * blocks(in_features);
    let (mut quants, mut scales) = (vec![0; count * 32], vec![f16::ZERO; count]);
    let quantize = || quantize_q8(weights, in_features, &mut quants, &mut scales);
    let time = seconds(quantize) * 1e9 / weights.len() as f64;
    let q8 = Q8 {
        quants: &quants,
        scales: &scales,
    };
    (
        back(weights.len(), in_features, |row, out| q8.row(row, out)),
        time,
    )
}

fn through_q4(weights: &[f32], in_features: usize) -> (Vec<f32>, f64) {
    let count = weights.len() / in_features * blocks(in_features);
    let (mut quants, mut scales, mut selectors) =
        (vec![0; count * 16], vec![0; count], vec![0; count]);
    let max_scale = q4_max_scale(weights.iter().fold(0.0, |m, x| x.abs().max(m)));
    let quantize = || {
        quantize_q4(
            weights,
            in_features,
            max_scale,
            &mut quants,
            &mut scales,
            &mut selectors,
        )
    };
    let time = seconds(quantize) * 1e9 / weights.len() as f64;
    let q4 = Q4 {
        quants: &quants,
        scales: &scales,
        selectors: &selectors,
        max_scale,
    };
    (
        back(weights.len(), in_features, |row, out| q4.row(row, out)),
        time,
    )
}

/// The shortest of five runs: other programs may use the machine.
fn seconds(mut work: impl FnMut()) -> f64 {
    let mut time = || {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    (0..5).map(|_| time()).fold(f64::INFINITY, f64::min)
}

fn back(len: usize, in_features: usize, read: impl Fn(usize, &mut [f32])) -> Vec<f32> {
    let mut out = vec![0.0; len];
    out.chunks_exact_mut(in_features)
        .enumerate()
        .for_each(|(row, out)| read(row, out));
    out
}

/// Root mean squared error in % of the weights' root mean square.
fn error(weights: &[f32], other: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let off: f64 = weights
        .iter()
        .zip(other)
        .map(|(&a, &b)| square(f64::from(a) - f64::from(b)))
        .sum();
    let all: f64 = weights.iter().map(|&a| square(f64::from(a))).sum();
    100.0 * (off / all).sqrt()
}

fn write_sets(folder: &Path, seed: u64) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(folder)?;
    let mut random = Random(seed);
    let mut scales = Random(seed ^ 1);
    let scales: Vec<f64> = (0..2 * SIDE)
        .map(|_| (DEVIATION * scales.gaussian()).exp())
        .collect();
    let mut write = |name: &str, next: &dyn Fn(&mut Random, usize) -> f64| {
        let bytes = (0..SIDE * SIDE).flat_map(|i| (next(&mut random, i) as f32).to_le_bytes());
        let file = folder.join(name).with_extension("f32");
        std::fs::write(file, bytes.collect::<Vec<u8>>())
    };
    write("gauss", &|random, _| random.gaussian())?;
    write("t8", &|random, _| random.student(8))?;
    write("t5", &|random, _| random.student(5))?;
    write("rows-columns", &|random, i| {
        random.gaussian() * scales[i / SIDE] * scales[SIDE + i % SIDE]
    })?;
    Ok(())
}

/// SplitMix64 and distributions from it.
struct Random(u64);

impl Random {
    /// In 0 .. 1, and never 0.
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((x ^ (x >> 31)) >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
    }

    fn gaussian(&mut self) -> f64 {
        let angle = std::f64::consts::TAU * self.uniform();
        (-2.0 * self.uniform().ln()).sqrt() * angle.cos()
    }

    fn student(&mut self, freedom: u32) -> f64 {
        let squares: f64 = (0..freedom).map(|_| self.gaussian().powi(2)).sum();
        self.gaussian() * (f64::from(freedom) / squares).sqrt()
    }
}
