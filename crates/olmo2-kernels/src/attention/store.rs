//! Writing to a cache: copying, rounding to bf16, quantizing to 8 bits.

use super::cache::{CACHE_BLOCK, CacheMut, cache_blocks};
use super::{AttentionShape, check_shape};
use crate::buffer::SharedMut;
use crate::level::{self, Level};
use crate::pool;
use crate::simd::{Kernel, Simd, dispatch};
use half::bf16;

/// Elements below which a second thread costs more than it saves.
const ELEMENTS_PER_THREAD: usize = 32_768;

/// Writes keys or values of tokens, `[tokens, kv_heads, head_dim]` as the projection leaves them,
/// to a sequence's cache, from `position` on.
///
/// The stored values depend on the token's own head alone. In 8 bits the error is about half a step
/// at most, and a step is 1/127 of the block's largest magnitude, rounded to bf16. A block with a
/// value that is not finite becomes NaN.
///
/// # Panics
/// A length does not fit, or the tokens end beyond the capacity.
pub fn store(shape: &AttentionShape, position: usize, tokens: &[f32], cache: CacheMut<'_>) {
    check_shape(shape);
    cache.check(shape);
    let width = shape.kv_heads * shape.head_dim;
    assert_eq!(
        tokens.len() % width,
        0,
        "`tokens` is not a whole number of [kv_heads, head_dim]"
    );
    let end = position + tokens.len() / width;
    assert!(
        end <= shape.capacity,
        "tokens end at {end}, beyond {}",
        shape.capacity
    );
    let (mut no_scales, level) = ([], level::level());
    match cache {
        CacheMut::F32(to) => spread(shape, level, position, tokens, to, &mut no_scales),
        CacheMut::Bf16(to) => spread(shape, level, position, tokens, to, &mut no_scales),
        CacheMut::Q8 { quants, scales } => {
            spread(shape, level, position, tokens, quants, scales);
        }
    }
}

/// Splits the tokens over the threads.
fn spread<E: Target>(
    shape: &AttentionShape,
    level: Level,
    position: usize,
    tokens: &[f32],
    to: &mut [E],
    scales: &mut [bf16],
) {
    let width = shape.kv_heads * shape.head_dim;
    let count = tokens.len() / width;
    let (to, scales) = (SharedMut::new(to), SharedMut::new(scales));
    let parts = pool::threads().min(tokens.len().div_ceil(ELEMENTS_PER_THREAD));
    pool::run(parts, |part| {
        let range = pool::share(count, 1, parts, part);
        let task = Store {
            shape,
            position: position + range.start,
            tokens: &tokens[range.start * width..range.end * width],
            to,
            scales,
        };
        dispatch(level, task);
    });
}

struct Store<'a, E> {
    shape: &'a AttentionShape,
    position: usize,
    tokens: &'a [f32],
    to: SharedMut<'a, E>,
    scales: SharedMut<'a, bf16>,
}

impl<E: Target> Kernel for Store<'_, E> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let (dim, blocks) = (self.shape.head_dim, E::scales(self.shape.head_dim));
        let tokens = self.tokens.chunks_exact(self.shape.kv_heads * dim);
        for (position, token) in (self.position..).zip(tokens) {
            for (head, from) in token.chunks_exact(dim).enumerate() {
                let row = head * self.shape.capacity + position;
                // SAFETY: inside both, as `at` checks, and no other thread writes this position.
                let (to, scales) = unsafe {
                    let (to, scales) = (
                        self.to.at(row * dim, dim),
                        self.scales.at(row * blocks, blocks),
                    );
                    (
                        std::slice::from_raw_parts_mut(to, dim),
                        std::slice::from_raw_parts_mut(scales, blocks),
                    )
                };
                E::put(from, to, scales);
            }
        }
    }
}

/// A storage type and the conversion to it, in plain loops, which the compiler vectorizes for the
/// level that they are inlined into.
trait Target: Copy + Send + Sync {
    /// Scales of a head.
    fn scales(_head_dim: usize) -> usize {
        0
    }
    fn put(from: &[f32], to: &mut [Self], scales: &mut [bf16]);
}

impl Target for f32 {
    #[inline(always)]
    fn put(from: &[f32], to: &mut [Self], _: &mut [bf16]) {
        to.copy_from_slice(from);
    }
}

impl Target for bf16 {
    #[inline(always)]
    fn put(from: &[f32], to: &mut [Self], _: &mut [bf16]) {
        for (to, x) in to.iter_mut().zip(from) {
            let bits = x.to_bits();
            // Round to nearest, ties to even; NaN stays NaN.
            let rounded = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16;
            let nan = (bits >> 16) as u16 | 0x40;
            *to = Self::from_bits(if x.is_nan() { nan } else { rounded });
        }
    }
}

impl Target for i8 {
    fn scales(head_dim: usize) -> usize {
        cache_blocks(head_dim)
    }

    #[inline(always)]
    fn put(from: &[f32], to: &mut [Self], scales: &mut [bf16]) {
        let (blocks, rest) = from.as_chunks::<CACHE_BLOCK>();
        let (to, to_rest) = to.as_chunks_mut::<CACHE_BLOCK>();
        for ((from, to), scale) in blocks.iter().zip(to).zip(scales.iter_mut()) {
            *scale = quantize(from, to);
        }
        if !rest.is_empty() {
            scales[blocks.len()] = quantize(rest, to_rest);
        }
    }
}

/// Writes a block's quants and returns its scale.
#[inline(always)]
fn quantize(from: &[f32], to: &mut [i8]) -> bf16 {
    /// Adding it leaves the rounded value in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    // Magnitudes have the same order as their bits, with infinity and NaN highest.
    let magnitude = |x: &f32| x.to_bits() & 0x7fff_ffff;
    let max = f32::from_bits(from.iter().map(magnitude).fold(0, u32::max));
    let scale = bf16::from_f32(max / 127.0);
    if !scale.to_f32().is_finite() || !max.is_finite() {
        to.fill(1);
        return bf16::NAN;
    }
    let inverse = match scale.to_f32() {
        // Below the values that can be inverted, everything is rounded to zero.
        scale if scale < f32::MIN_POSITIVE => 0.0,
        scale => 1.0 / scale,
    };
    for (to, x) in to.iter_mut().zip(from) {
        // The scale is rounded, so the largest magnitude can exceed 127 steps.
        let x = (x * inverse).clamp(-127.0, 127.0);
        *to = (x + ROUND).to_bits() as i8;
    }
    scale
}
