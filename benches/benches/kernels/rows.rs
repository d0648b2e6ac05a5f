//! Kernels over rows between the matmuls: norms, rotation, `silu(gate) * up`.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use olmo2_benches::{f32s, sized};
use olmo2_kernels::{RotationTable, rms_norm, rms_norm_rotate, silu_mul};

const ROWS: [usize; 3] = [1, 16, 512];
const EPS: f32 = 1e-6;

/// A norm, added to a residual.
#[divan::bench(args = ROWS)]
fn norm_and_add(bencher: Bencher<'_, '_>, rows: usize) {
    let width = sized(2048, 40);
    let (x, residual, weight) = (f32s(rows * width), f32s(rows * width), f32s(width));
    bencher
        .counter(ItemsCount::new(rows * width))
        .bench_local(|| drop(rms_norm(black_box(&x), &weight, EPS, Some(&residual))));
}

/// Queries: the norm and the rotation of 16 heads of 128.
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
    bencher
        .counter(ItemsCount::new(rows * width))
        .bench_local(|| drop(rms_norm_rotate(black_box(&x), &weight, EPS, &table)));
}

/// The activation of the feed-forward block.
#[divan::bench(args = ROWS)]
fn silu_times_up(bencher: Bencher<'_, '_>, rows: usize) {
    let len = rows * sized(8192, 100);
    let (gate, up) = (f32s(len), f32s(len));
    bencher
        .counter(ItemsCount::new(len))
        .with_inputs(|| gate.clone())
        .bench_local_refs(|gate| silu_mul(black_box(gate), &up));
}
