//! The element types of a cache, widened while they are read.

use super::cache::{CACHE_BLOCK, cache_blocks};
use crate::simd::Simd;
use half::bf16;
use std::ops::Range;

/// Bytes of a cache line.
const LINE: usize = 64;

/// An element type of keys and values.
///
/// Loads need no alignment; their callers promise the memory.
#[allow(clippy::missing_safety_doc, reason = "said above, once for all")]
pub(super) trait CacheElement: Copy + Send + Sync {
    /// Whether blocks of [`CACHE_BLOCK`] share a scale.
    const SCALED: bool;
    const ZERO: Self;

    /// `LANES` elements, not scaled.
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::V;
    /// One element, not scaled.
    fn to_f32(self) -> f32;
    /// All rows in f32; in `buffer`, unless they are f32 already.
    #[inline(always)]
    fn widened<'a, S: Simd>(s: S, rows: CacheRows<'a, Self>, buffer: &'a mut [f32]) -> &'a [f32] {
        widen(s, rows, buffer);
        &buffer[..rows.elements.len()]
    }
}

impl CacheElement for f32 {
    const SCALED: bool = false;
    const ZERO: Self = 0.0;

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::V {
        // SAFETY: the caller promises a vector.
        unsafe { s.load(p) }
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
    #[inline(always)]
    fn widened<'a, S: Simd>(_: S, rows: CacheRows<'a, Self>, _: &'a mut [f32]) -> &'a [f32] {
        rows.elements
    }
}

impl CacheElement for bf16 {
    const SCALED: bool = false;
    const ZERO: Self = Self::ZERO;

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::V {
        // SAFETY: the caller promises a vector.
        unsafe { s.load_bf16(p) }
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self.to_f32()
    }
}

impl CacheElement for i8 {
    const SCALED: bool = true;
    const ZERO: Self = 0;

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::V {
        // SAFETY: the caller promises a vector.
        unsafe { s.load_i8(p) }
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        Self::into(self)
    }
}

/// One head's keys or values of some positions, `[positions, dim]`.
#[derive(Clone, Copy)]
pub(super) struct CacheRows<'a, E> {
    pub(super) elements: &'a [E],
    /// `[positions, cache_blocks(dim)]` where the element is scaled, else empty.
    pub(super) scales: &'a [bf16],
    pub(super) dim: usize,
}

impl<E: CacheElement> CacheRows<'_, E> {
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.elements.len() / self.dim
    }

    /// The elements of up to `count` positions, for prefetching.
    #[inline(always)]
    pub(super) fn ahead(&self, start: usize, count: usize) -> Ahead {
        let start = start.min(self.len());
        let end = self.len().min(start + count);
        let elements = &self.elements[start * self.dim..end * self.dim];
        Ahead {
            start: elements.as_ptr().cast(),
            bytes: size_of_val(elements),
        }
    }

    /// The rows of the positions `range`.
    #[inline(always)]
    pub(super) fn slice(self, range: Range<usize>) -> Self {
        let of = |width: usize| range.start * width..range.end * width;
        let blocks = cache_blocks(self.dim);
        Self {
            elements: &self.elements[of(self.dim)],
            scales: match E::SCALED {
                true => &self.scales[of(blocks)],
                false => &[],
            },
            dim: self.dim,
        }
    }

    /// Writes the scales in f32; nothing if the element has none.
    #[inline(always)]
    pub(super) fn widen_scales<S: Simd>(&self, s: S, to: &mut [f32]) {
        if !E::SCALED {
            return;
        }
        let len = self.scales.len();
        assert!(to.len() >= len);
        let whole = len - len % S::LANES;
        for i in (0..whole).step_by(S::LANES) {
            // SAFETY: `i + LANES <= len`, which is the length of the one and at most that of the
            // other.
            unsafe {
                let scales = s.load_bf16(self.scales.as_ptr().add(i));
                s.store(to.as_mut_ptr().add(i), scales);
            }
        }
        for i in whole..len {
            to[i] = self.scales[i].to_f32();
        }
    }
}

/// Memory that will be read soon.
pub(super) struct Ahead {
    start: *const u8,
    bytes: usize,
}

impl Ahead {
    /// Prefetches the lines of part `part` of `parts`.
    #[inline(always)]
    pub(super) fn prefetch<S: Simd>(&self, s: S, part: usize, parts: usize) {
        let lines = self.bytes.div_ceil(LINE);
        for line in lines * part / parts..lines * (part + 1) / parts {
            s.prefetch(self.start.wrapping_add(line * LINE));
        }
    }
}

/// `LANES` elements, or the first `count` followed by zeros.
///
/// # Safety
/// `min(count, LANES)` elements are valid at `p`.
#[inline(always)]
pub(super) unsafe fn load_part<S: Simd, E: CacheElement>(s: S, p: *const E, count: usize) -> S::V {
    if count >= S::LANES {
        // SAFETY: the caller promises a whole vector.
        return unsafe { E::load(s, p) };
    }
    let mut buffer = [E::ZERO; 16];
    // SAFETY: the caller promises `count` elements; the buffer holds any level's vector.
    unsafe {
        std::ptr::copy_nonoverlapping(p, buffer.as_mut_ptr(), count);
        E::load(s, buffer.as_ptr())
    }
}

#[inline(always)]
fn widen<S: Simd, E: CacheElement>(s: S, rows: CacheRows<'_, E>, to: &mut [f32]) {
    let (dim, blocks) = (rows.dim, cache_blocks(rows.dim));
    assert!(to.len() >= rows.elements.len());
    let scale = |row: usize, d: usize| match E::SCALED {
        true => rows.scales[row * blocks + d / CACHE_BLOCK].to_f32(),
        false => 1.0,
    };
    let whole = dim - dim % S::LANES;
    for row in 0..rows.len() {
        for d in (0..whole).step_by(S::LANES) {
            let at = row * dim + d;
            // SAFETY: `d + LANES <= dim`, and both have that row.
            unsafe {
                let v = E::load(s, rows.elements.as_ptr().add(at));
                let v = match E::SCALED {
                    true => s.mul(v, s.splat(scale(row, d))),
                    false => v,
                };
                s.store(to.as_mut_ptr().add(at), v);
            }
        }
        for d in whole..dim {
            to[row * dim + d] = rows.elements[row * dim + d].to_f32() * scale(row, d);
        }
    }
}
