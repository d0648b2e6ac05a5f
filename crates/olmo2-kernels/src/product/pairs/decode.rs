//! Few rows of activations: four rows of weights at once from far-apart quarters, as in
//! [`crate::product::decode`] and for the same reasons.

use super::VALUES;
use crate::buffer::{Scratch, with_scratch};
use crate::product::element::elements;
use crate::product::{Input, Matmul, pieces};
use crate::simd::{Bf16Dot, Bf16DotKernel, Int8, dispatch_bf16_dot};
use half::bf16;
use std::cell::RefCell;
use std::ops::Range;

/// Distance in bytes of the prefetches of each stream of weights.
const AHEAD: usize = 2048;

thread_local! {
    static PACKED: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
}

pub(super) fn matmul(input: &Input<'_>, matmuls: &[Matmul<'_>]) {
    let stride = input.in_features.next_multiple_of(VALUES);
    with_scratch(&PACKED, stride / 2 * input.rows, |packed| {
        let rows = input.x.chunks_exact(input.in_features);
        for (x, to) in rows.zip(packed.chunks_exact_mut(stride / 2)) {
            dispatch_bf16_dot(input.level, RoundRow { x, to });
        }
        let packed = &*packed;
        let groups = matmuls.iter().map(Matmul::groups);
        pieces::run(input.parts, groups, |i, groups| {
            let matmul = &matmuls[i];
            let tiles = DecodeBf16 {
                x: packed,
                stride,
                rows: input.rows,
                in_features: input.in_features,
                weights: elements(input, matmul),
                groups,
                matmul,
            };
            dispatch_bf16_dot(input.level, tiles);
        });
    });
}

/// Rounds a row to bf16 and fills the rest of `to` with zeros.
pub(super) struct RoundRow<'a> {
    pub(super) x: &'a [f32],
    pub(super) to: &'a mut [f32],
}

impl Bf16DotKernel for RoundRow<'_> {
    #[inline(always)]
    fn run<S: Int8, P: Bf16Dot<S>>(self, s: S, dot: P) {
        assert_eq!(self.to.len() * 2, self.x.len().next_multiple_of(VALUES));
        let (whole, rest) = self.x.as_chunks::<VALUES>();
        let mut last = [0.0; VALUES];
        last[..rest.len()].copy_from_slice(rest);
        let values = whole.iter().chain((!rest.is_empty()).then_some(&last));
        for (x, to) in values.zip(self.to.chunks_exact_mut(VALUES / 2)) {
            // SAFETY: 32 values are two vectors of f32, and one of bf16.
            unsafe {
                let (low, high) = (s.load(x.as_ptr()), s.load(x.as_ptr().add(S::LANES)));
                s.store_bytes(to.as_mut_ptr().cast(), dot.round(low, high));
            }
        }
    }
}

/// The outputs of some groups. `x` holds `rows` rows of `stride` bf16, `weights` holds rows of
/// `in_features`.
struct DecodeBf16<'a> {
    x: &'a [f32],
    stride: usize,
    rows: usize,
    in_features: usize,
    weights: &'a [bf16],
    groups: Range<usize>,
    matmul: &'a Matmul<'a>,
}

impl Bf16DotKernel for DecodeBf16<'_> {
    #[inline(always)]
    fn run<S: Int8, P: Bf16Dot<S>>(self, s: S, dot: P) {
        assert_eq!(2 * S::LANES, VALUES);
        assert!(self.x.len() * 2 >= self.rows * self.stride);
        assert!(self.weights.len() >= self.matmul.out_features * self.in_features);
        for group in self.groups.clone() {
            match self.matmul.far_group(group) {
                (features, 4) => self.features(s, dot, features),
                (features, count) => {
                    for &n in &features[..count] {
                        self.features(s, dot, [n]);
                    }
                }
            }
        }
    }
}

impl DecodeBf16<'_> {
    /// The outputs of some features for all rows of activations.
    #[inline(always)]
    fn features<S: Int8, P: Bf16Dot<S>, const R: usize>(&self, s: S, p: P, features: [usize; R]) {
        let mut row = 0;
        while self.rows - row >= 4 {
            self.tile::<S, P, R, 4>(s, p, features, row);
            row += 4;
        }
        match self.rows - row {
            3 => self.tile::<S, P, R, 3>(s, p, features, row),
            2 => self.tile::<S, P, R, 2>(s, p, features, row),
            1 => self.tile::<S, P, R, 1>(s, p, features, row),
            _ => {}
        }
    }

    /// The outputs of `R` features for `M` rows of activations from `row`.
    #[inline(always)]
    fn tile<S: Int8, P: Bf16Dot<S>, const R: usize, const M: usize>(
        &self,
        s: S,
        dot: P,
        features: [usize; R],
        row: usize,
    ) {
        let vectors = self.in_features / VALUES;
        let rest = self.in_features % VALUES;
        let mut sums = [[s.splat(0.0); M]; R];
        // SAFETY: reads stay below `in_features` in rows of weights, and below `stride` in rows
        // of activations; `run` has checked both lengths.
        unsafe {
            let mut weights = [self.weights.as_ptr().cast::<u8>(); R];
            for r in 0..R {
                weights[r] = weights[r].add(features[r] * self.in_features * 2);
            }
            let x = self.x.as_ptr().cast::<u8>().add(row * self.stride * 2);
            for i in 0..vectors {
                self.vector::<S, P, R, M>(s, dot, weights, x.add(i * 64), &mut sums);
                for weight in &mut weights {
                    s.prefetch_second(weight.wrapping_add(AHEAD));
                    *weight = weight.add(64);
                }
            }
            if rest > 0 {
                let mut last = [[0; 64]; R];
                for r in 0..R {
                    std::ptr::copy_nonoverlapping(weights[r], last[r].as_mut_ptr(), rest * 2);
                    weights[r] = last[r].as_ptr();
                }
                self.vector::<S, P, R, M>(s, dot, weights, x.add(vectors * 64), &mut sums);
            }
        }
        for m in 0..M {
            for r in 0..R {
                self.matmul.set(row + m, features[r], s.sum(sums[r][m]));
            }
        }
    }

    /// Adds one vector's terms.
    ///
    /// # Safety
    /// 32 values are valid at each of `weights` and in `M` rows of `x`.
    #[inline(always)]
    unsafe fn vector<S: Int8, P: Bf16Dot<S>, const R: usize, const M: usize>(
        &self,
        s: S,
        dot: P,
        weights: [*const u8; R],
        x: *const u8,
        sums: &mut [[S::V; M]; R],
    ) {
        // SAFETY: the caller promises the values.
        unsafe {
            let mut w = [s.load_bytes(weights[0]); R];
            for r in 1..R {
                w[r] = s.load_bytes(weights[r]);
            }
            for m in 0..M {
                let a = s.load_bytes(x.add(m * self.stride * 2));
                for r in 0..R {
                    sums[r][m] = dot.dot(sums[r][m], w[r], a);
                }
            }
        }
    }
}
