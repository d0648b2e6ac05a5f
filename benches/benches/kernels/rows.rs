//! What lies between products, row by row: norms, rotation, `silu(gate) * up`.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use olmo2_benches::{f32s, sized};
use olmo2_kernels::{RotationTable, norm_rotate, rms_norm, silu_mul};

const ROWS: [usize; 3] = [1, 16, 512];
const EPS: f32 = 1e-6;

/// A norm with the residual that it is added to.
#[divan::bench(args = ROWS)]
fn norm_and_add(bencher: Bencher<'_, '_>, rows: usize) {
    let width = sized(2048, 40);
    let (x, residual, weight) = (f32s(rows * width), f32s(rows * width), f32s(width));
    let mut out = vec![0.0; rows * width];
    bencher
        .counter(ItemsCount::new(rows * width))
        .bench_local(|| rms_norm(black_box(&x), &weight, EPS, Some(&residual), &mut out));
}

/// Queries: the norm of 16 heads of 128 and their rotation.
#[divan::bench(args = ROWS)]
fn norm_and_rotate(bencher: Bencher<'_, '_>, rows: usize) {
    let (heads, head_dim) = (sized(16, 3), sized(128, 10));
    let width = heads * head_dim;
    let (x, weight) = (f32s(rows * width), f32s(width));
    let (cos, sin) = (f32s(rows * head_dim), f32s(rows * head_dim));
    let table = RotationTable {
        cos: &cos,
        sin: &sin,
        head_dim,
    };
    let mut out = vec![0.0; rows * width];
    bencher
        .counter(ItemsCount::new(rows * width))
        .bench_local(|| norm_rotate(black_box(&x), &weight, EPS, &table, &mut out));
}

/// The feed-forward's product.
#[divan::bench(args = ROWS)]
fn silu_times_up(bencher: Bencher<'_, '_>, rows: usize) {
    let len = rows * sized(8192, 100);
    let (gate, up) = (f32s(len), f32s(len));
    bencher
        .counter(ItemsCount::new(len))
        .with_inputs(|| gate.clone())
        .bench_local_refs(|gate| silu_mul(black_box(gate), &up));
}
