//! Matmuls with weights of each format: one token, a few sequences at once, prefill.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use half::f16;
use olmo2_benches::{bf16s, f32s, sized};
use olmo2_kernels::quant::{BLOCK, Q4, Q8, blocks};
use olmo2_kernels::{Activations, WeightData, WeightRef, matmul};

const ROWS: [usize; 5] = [1, 4, 16, 128, 512];

/// `gate_proj`: 8192 x 2048; a small shape with a partial last block when run as a test.
fn shape() -> [usize; 2] {
    [sized(8192, 40), sized(2048, 33)]
}

/// Bytes below `below`; neighbors differ.
fn bytes(len: usize, below: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7919 % below) as u8).collect()
}

fn bench(
    bencher: Bencher<'_, '_>,
    rows: usize,
    activations: Activations,
    weight: WeightData<'_>,
    weight_bytes: usize,
) {
    let [out, input] = shape();
    let x = f32s(rows * input);
    bencher
        .counter(BytesCount::new(weight_bytes))
        .counter(ItemsCount::new(2 * out * input * rows))
        .bench_local(|| {
            let weights = [WeightRef::new(weight)];
            drop(black_box(matmul(
                black_box(&x),
                input,
                activations,
                &weights,
            )));
        });
}

/// Weights in bf16, activations in f32.
#[divan::bench(args = ROWS)]
fn bf16(bencher: Bencher<'_, '_>, rows: usize) {
    let weight = bf16s(shape().iter().product(), 1.0);
    let bytes = size_of_val(weight.as_slice());
    let data = WeightData::Bf16(&weight);
    bench(bencher, rows, Activations::F32, data, bytes);
}

/// Weights in bf16, activations rounded to bf16: the CPU's bf16 dot instruction, if it has one.
#[divan::bench(args = ROWS)]
fn bf16_dot(bencher: Bencher<'_, '_>, rows: usize) {
    let weight = bf16s(shape().iter().product(), 1.0);
    let bytes = size_of_val(weight.as_slice());
    let data = WeightData::Bf16(&weight);
    bench(bencher, rows, Activations::Bf16, data, bytes);
}

/// Weights in f32.
#[divan::bench(args = ROWS)]
fn f32(bencher: Bencher<'_, '_>, rows: usize) {
    let weight = f32s(shape().iter().product());
    let bytes = size_of_val(weight.as_slice());
    let data = WeightData::F32(&weight);
    bench(bencher, rows, Activations::F32, data, bytes);
}

/// Weights in 8-bit blocks, activations in 8 bits.
#[divan::bench(args = ROWS)]
fn q8(bencher: Bencher<'_, '_>, rows: usize) {
    let [out, input] = shape();
    let blocks = out * blocks(input);
    let quants: Vec<i8> = bytes(blocks * BLOCK, 255)
        .into_iter()
        .map(|byte| (i16::from(byte) - 127) as i8)
        .collect();
    let scales = vec![f16::from_f32(0.01); blocks];
    let data = WeightData::Q8(Q8 {
        quants: &quants,
        scales: &scales,
    });
    bench(bencher, rows, Activations::F32, data, blocks * (BLOCK + 2));
}

/// Weights in 4-bit blocks with codebooks, activations in 8 bits.
#[divan::bench(args = ROWS)]
fn q4(bencher: Bencher<'_, '_>, rows: usize) {
    let [out, input] = shape();
    let blocks = out * blocks(input);
    let (quants, selectors) = (bytes(blocks * BLOCK / 2, 256), bytes(blocks, 256));
    let scales = bytes(blocks, 64);
    let data = WeightData::Q4(Q4 {
        quants: &quants,
        scales: &scales,
        selectors: &selectors,
        max_scale: 1e-3,
    });
    let bytes = blocks * (BLOCK / 2 + 2);
    bench(bencher, rows, Activations::F32, data, bytes);
}
