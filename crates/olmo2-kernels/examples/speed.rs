//! How fast the kernels are at OLMo 2 1B's shapes, beside a plain read of the same weights.
//!
//! `cargo run --release -p olmo2-kernels --example speed [-- THREADS [LAYERS]]`
//!
//! The plain read is a loop without prefetching, which is not all that the memory can give: a
//! share above 1 is possible. The layers' weights (134 MB each in bf16) pass through the caches as in a real model.
//! Attention is measured by the example `attention`.

use half::bf16;
use olmo2_kernels::{Activations, WeightData, WeightRef, level, pool, project, silu_mul};
use std::time::Instant;

const HIDDEN: usize = 2048;
const INTERMEDIATE: usize = 8192;

struct Layer {
    square: [Vec<bf16>; 4],
    gate: Vec<bf16>,
    up: Vec<bf16>,
    down: Vec<bf16>,
}

fn weights(seed: usize, len: usize) -> Vec<bf16> {
    let value = |i: usize| bf16::from_f32(((i * 7919 + seed) % 1009) as f32 / 1009.0 - 0.5);
    (0..len).map(value).collect()
}

impl Layer {
    fn new(seed: usize) -> Self {
        Self {
            square: [0, 1, 2, 3].map(|i| weights(seed + i, HIDDEN * HIDDEN)),
            gate: weights(seed + 4, HIDDEN * INTERMEDIATE),
            up: weights(seed + 5, HIDDEN * INTERMEDIATE),
            down: weights(seed + 6, HIDDEN * INTERMEDIATE),
        }
    }

    fn all(&self) -> impl Iterator<Item = &[bf16]> {
        let square = self.square.iter().map(Vec::as_slice);
        square.chain([&*self.gate, &self.up, &self.down])
    }

    /// The layer's four regions.
    fn forward(&self, x: &[f32], buffers: &mut [Vec<f32>; 3]) {
        let weight = |data| WeightRef::new(WeightData::Bf16(data));
        let rows = x.len() / HIDDEN;
        let [q, k, v] = buffers
            .each_mut()
            .map(|buffer| &mut buffer[..rows * HIDDEN]);
        let [wq, wk, wv, wo] = &self.square;
        project(
            x,
            HIDDEN,
            Activations::F32,
            &[weight(wq), weight(wk), weight(wv)],
            &mut [q, k, v],
        );
        project(
            x,
            HIDDEN,
            Activations::F32,
            &[weight(wo)],
            &mut [&mut buffers[0][..rows * HIDDEN]],
        );
        let [gate, up, out] = buffers;
        let (gate, up) = (
            &mut gate[..rows * INTERMEDIATE],
            &mut up[..rows * INTERMEDIATE],
        );
        project(
            x,
            HIDDEN,
            Activations::F32,
            &[weight(&self.gate), weight(&self.up)],
            &mut [gate, up],
        );
        let out = &mut out[..rows * HIDDEN];
        project(
            gate,
            INTERMEDIATE,
            Activations::F32,
            &[weight(&self.down)],
            &mut [out],
        );
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

/// Reads every weight once, with all threads, and nothing else.
fn read(layers: &[Layer]) {
    for weights in layers.iter().flat_map(Layer::all) {
        let parts = pool::threads();
        pool::run(parts, |part| {
            let len = weights.len() / parts;
            let mut sums = [0_u16; 64];
            for chunk in weights[part * len..(part + 1) * len].as_chunks::<64>().0 {
                for (sum, x) in sums.iter_mut().zip(chunk) {
                    *sum ^= x.to_bits();
                }
            }
            std::hint::black_box(sums);
        });
    }
}

fn main() {
    let mut args = std::env::args()
        .skip(1)
        .map(|arg| arg.parse().expect("a number"));
    pool::set_threads(args.next().unwrap_or(0));
    let layers: Vec<Layer> = (0..args.next().unwrap_or(8))
        .map(|i| Layer::new(i * 31))
        .collect();
    println!("{} threads, {}", pool::threads(), level::level());
    let bytes: usize = layers
        .iter()
        .flat_map(Layer::all)
        .map(|w| w.len() * 2)
        .sum();
    let rows = 512;
    let x: Vec<f32> = (0..rows * HIDDEN)
        .map(|i| (i % 37) as f32 * 0.05 - 0.9)
        .collect();
    let mut buffers = [0; 3].map(|_| vec![0.0; rows * INTERMEDIATE]);
    for m in [1, 2, 4, 8, 16] {
        // Alternated: the machine's bandwidth changes with its neighbours.
        let mut shares = Vec::new();
        let mut best = f64::INFINITY;
        for _ in 0..9 {
            let (limit, _) = time(1, || read(&layers));
            let (ours, _) = time(1, || {
                layers
                    .iter()
                    .for_each(|layer| layer.forward(&x[..m * HIDDEN], &mut buffers));
            });
            shares.push(limit / ours);
            best = best.min(ours);
        }
        shares.sort_by(f64::total_cmp);
        let speed = bytes as f64 / best / 1e9;
        println!(
            "decode {m} rows: best {speed:.1} GB/s, median share of a plain read {:.2}",
            shares[4]
        );
    }
    let (_, limit) = time(9, || read(&layers));
    println!("plain read: median {:.1} GB/s", bytes as f64 / limit / 1e9);
    for m in [32, 128, 512] {
        let layers = &layers[..2];
        let work = layers
            .iter()
            .flat_map(Layer::all)
            .map(|w| w.len())
            .sum::<usize>()
            * 2
            * m;
        let (best, median) = time(5, || {
            layers
                .iter()
                .for_each(|layer| layer.forward(&x[..m * HIDDEN], &mut buffers));
        });
        let speed = |seconds| work as f64 / seconds / 1e9;
        println!(
            "prefill {m} rows: {:.0} GFLOP/s, best {:.0}",
            speed(median),
            speed(best)
        );
    }
    let (gate, up) = (vec![0.3; INTERMEDIATE], vec![0.7; INTERMEDIATE]);
    let mut out = vec![0.0; INTERMEDIATE];
    let (_, median) = time(101, || silu_mul(&gate, &up, &mut out));
    println!("silu_mul of {INTERMEDIATE}: {:.1} us", median * 1e6);
}
