//! Speed of the kernels at OLMo 2 1B's shapes, beside a plain read of the same weights.
//!
//! `cargo run --release -p olmo2-kernels --example speed [-- THREADS [LAYERS [FORMAT...]]]`
//!
//! Formats are `bf16`, `bf16-dot` (activations in bf16 as well), `q8` and `q4`. The plain read is a
//! loop without prefetches, which does not reach the full memory bandwidth, so a share above 1 is
//! possible. The layers' weights (134 MB each in bf16) pass through the CPU's caches, as in a real
//! model. The example `attention` measures attention.
#![allow(unsafe_code, reason = "the plain read sees every format as bytes")]

use half::{bf16, f16};
use olmo2_kernels::quant::{Q4, Q8};
use olmo2_kernels::{
    Activations, WeightData, WeightRef, keep_freed_memory, level, matmul, matmul_gated, pool,
    silu_mul,
};
use std::hint::black_box;
use std::time::Instant;

const HIDDEN: usize = 2048;
const INTERMEDIATE: usize = 8192;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Format {
    Bf16,
    Bf16Dot,
    Q8,
    Q4,
}

impl Format {
    fn parse(name: &str) -> Self {
        match name {
            "bf16" => Self::Bf16,
            "bf16-dot" => Self::Bf16Dot,
            "q8" => Self::Q8,
            "q4" => Self::Q4,
            _ => panic!("`{name}`: expected bf16, bf16-dot, q8 or q4"),
        }
    }

    fn activations(self) -> Activations {
        match self {
            Self::Bf16Dot => Activations::Bf16,
            _ => Activations::F32,
        }
    }
}

enum Matrix {
    Bf16(Vec<bf16>),
    Q8(Vec<i8>, Vec<f16>),
    Q4([Vec<u8>; 3]),
}

fn bytes(seed: usize, len: usize) -> impl Iterator<Item = u8> {
    let mut state = seed as u64 * 2 + 1;
    (0..len).map(move |_| {
        state = state
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 56) as u8
    })
}

impl Matrix {
    fn new(format: Format, seed: usize, len: usize) -> Self {
        let blocks = len / 32;
        match format {
            Format::Bf16 | Format::Bf16Dot => Self::Bf16(
                bytes(seed, len)
                    .map(|byte| bf16::from_f32(f32::from(byte) / 255.0 - 0.5))
                    .collect(),
            ),
            Format::Q8 => Self::Q8(
                bytes(seed, len)
                    .map(|byte| (byte as i8).max(-127))
                    .collect(),
                bytes(seed + 1, blocks)
                    .map(|byte| f16::from_f32(f32::from(byte) * 1e-5 + 1e-4))
                    .collect(),
            ),
            Format::Q4 => Self::Q4([
                bytes(seed, len / 2).collect(),
                bytes(seed + 1, blocks).collect(),
                bytes(seed + 2, blocks).collect(),
            ]),
        }
    }

    fn data(&self) -> WeightData<'_> {
        match self {
            Self::Bf16(data) => WeightData::Bf16(data),
            Self::Q8(quants, scales) => WeightData::Q8(Q8 { quants, scales }),
            Self::Q4([quants, scales, selectors]) => WeightData::Q4(Q4 {
                quants,
                scales,
                selectors,
                max_scale: 0.01,
            }),
        }
    }

    /// Each array's bytes.
    fn bytes(&self) -> Vec<&[u8]> {
        fn raw<T>(data: &[T]) -> &[u8] {
            // SAFETY: values without padding; any memory is bytes.
            unsafe { std::slice::from_raw_parts(data.as_ptr().cast(), size_of_val(data)) }
        }
        match self {
            Self::Bf16(data) => vec![raw(data)],
            Self::Q8(quants, scales) => vec![raw(quants), raw(scales)],
            Self::Q4(arrays) => arrays.iter().map(|array| raw(array)).collect(),
        }
    }
}

fn weight(matrix: &Matrix) -> WeightRef<'_> {
    WeightRef::new(matrix.data())
}

struct Layer {
    activations: Activations,
    square: [Matrix; 4],
    gate: Matrix,
    up: Matrix,
    down: Matrix,
}

impl Layer {
    fn new(format: Format, seed: usize) -> Self {
        let wide = |i| Matrix::new(format, seed + i, HIDDEN * INTERMEDIATE);
        Self {
            activations: format.activations(),
            square: [0, 1, 2, 3].map(|i| Matrix::new(format, seed + i, HIDDEN * HIDDEN)),
            gate: wide(4),
            up: wide(5),
            down: wide(6),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Matrix> {
        self.square.iter().chain([&self.gate, &self.up, &self.down])
    }

    fn weights() -> usize {
        4 * HIDDEN * HIDDEN + 3 * HIDDEN * INTERMEDIATE
    }

    /// The layer's four parallel regions. The attention between them is left out.
    fn forward(&self, x: &[f32]) {
        let kind = self.activations;
        let [wq, wk, wv, wo] = self.square.each_ref().map(weight);
        black_box(matmul(x, HIDDEN, kind, &[wq, wk, wv]));
        black_box(matmul(x, HIDDEN, kind, &[wo]));
        let weights = [weight(&self.gate), weight(&self.up)];
        let mixed = matmul_gated(x, HIDDEN, kind, &weights);
        let down = [weight(&self.down)];
        black_box(matmul(&mixed, INTERMEDIATE, kind, &down));
    }
}

/// Seconds of the fastest and the median of some runs.
fn time(runs: usize, mut work: impl FnMut()) -> (f64, f64) {
    let mut seconds: Vec<f64> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    (seconds[0], seconds[runs / 2])
}

/// Reads every weight once with all threads, and does nothing else.
fn read(layers: &[Layer]) {
    for bytes in layers.iter().flat_map(Layer::all).flat_map(Matrix::bytes) {
        let parts = pool::threads();
        pool::run(parts, |part| {
            let len = bytes.len() / parts;
            let mut sums = [0_u8; 256];
            for chunk in bytes[part * len..(part + 1) * len].as_chunks::<256>().0 {
                for (sum, x) in sums.iter_mut().zip(chunk) {
                    *sum ^= x;
                }
            }
            black_box(sums);
        });
    }
}

fn main() {
    keep_freed_memory();
    let mut args = std::env::args().skip(1);
    let mut number = |default| {
        args.next()
            .map_or(default, |arg| arg.parse().expect("a number"))
    };
    let (threads, layers) = (number(0), number(8));
    pool::set_threads(threads);
    let mut formats: Vec<_> = args.map(|name| Format::parse(&name)).collect();
    if formats.is_empty() {
        formats = vec![Format::Bf16, Format::Bf16Dot, Format::Q8, Format::Q4];
    }
    println!("{} threads, {}", pool::threads(), level::level());
    for format in formats {
        let layers: Vec<Layer> = (0..layers).map(|i| Layer::new(format, i * 31)).collect();
        println!("{format:?}");
        measure(&layers);
    }
    // Each run halves the gate or a little less, and leaves it a normal number.
    let (mut gate, up) = (vec![0.3; INTERMEDIATE], vec![1.0; INTERMEDIATE]);
    let (_, median) = time(101, || silu_mul(&mut gate, &up));
    println!("silu_mul of {INTERMEDIATE}: {:.1} us", median * 1e6);
}

fn measure(layers: &[Layer]) {
    let bytes: usize = layers
        .iter()
        .flat_map(Layer::all)
        .flat_map(Matrix::bytes)
        .map(<[u8]>::len)
        .sum();
    let rows = 512;
    let x: Vec<f32> = (0..rows * HIDDEN)
        .map(|i| (i % 37) as f32 * 0.05 - 0.9)
        .collect();
    let (_, limit) = time(9, || read(layers));
    println!(
        "  plain read: median {:.1} GB/s",
        bytes as f64 / limit / 1e9
    );
    for m in [1, 2, 4, 8, 16] {
        // Alternated: the machine's bandwidth changes with its neighbors.
        let mut shares = Vec::new();
        let mut best = f64::INFINITY;
        for _ in 0..9 {
            let (limit, _) = time(1, || read(layers));
            let (ours, _) = time(1, || {
                layers
                    .iter()
                    .for_each(|layer| layer.forward(&x[..m * HIDDEN]));
            });
            shares.push(limit / ours);
            best = best.min(ours);
        }
        shares.sort_by(f64::total_cmp);
        let work = 2 * m * layers.len() * Layer::weights();
        println!(
            "  {m} rows: best {:.1} GB/s, {:.0} Gop/s, median share of a plain read {:.2}",
            bytes as f64 / best / 1e9,
            work as f64 / best / 1e9,
            shares[4]
        );
    }
    for m in [32, 128, 512] {
        let layers = &layers[..2.min(layers.len())];
        let work = 2 * m * layers.len() * Layer::weights();
        let (best, median) = time(5, || {
            layers
                .iter()
                .for_each(|layer| layer.forward(&x[..m * HIDDEN]));
        });
        let speed = |seconds| work as f64 / seconds / 1e9;
        println!(
            "  {m} rows: median {:.0} Gop/s, best {:.0}",
            speed(median),
            speed(best)
        );
    }
}
