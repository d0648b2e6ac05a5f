//! 4-bit blocks as the kernels read them.

use super::format::{Format, Tail};
use crate::quant::{BLOCK, Q4, Q4Scales, codebook};
use crate::simd::Int8;

/// The tables plus [`Int8::BIAS`].
fn tables<S: Int8>() -> *const [u8; 16] {
    const fn biased(bias: i32) -> [[u8; 16]; 256] {
        let mut biased = [[0; 16]; 256];
        let mut at = 0;
        while at < 256 * 16 {
            biased[at / 16][at % 16] = (codebook::TABLES[at / 16][at % 16] as i32 + bias) as u8;
            at += 1;
        }
        biased
    }
    static BY_64: Lines = Lines(biased(64));
    static BY_128: Lines = Lines(biased(128));
    match S::BIAS {
        64 => BY_64.0.as_ptr(),
        _ => BY_128.0.as_ptr(),
    }
}

/// Aligned, so that no table straddles a cache line.
#[repr(C, align(64))]
struct Lines([[u8; 16]; 256]);

/// Pointers into a [`Q4`].
#[derive(Clone, Copy)]
pub(super) struct Q4Blocks<'t> {
    quants: *const u8,
    scales: *const u8,
    selectors: *const u8,
    steps: &'t Q4Scales,
}

// SAFETY: it is only read, as are the slices that it was made from.
unsafe impl Sync for Q4Blocks<'_> {}

impl<'t> Q4Blocks<'t> {
    pub(super) fn new(q4: &Q4<'_>, steps: &'t Q4Scales) -> Self {
        Self {
            quants: q4.quants.as_ptr(),
            scales: q4.scales.as_ptr(),
            selectors: q4.selectors.as_ptr(),
            steps,
        }
    }
}

impl Format for Q4Blocks<'_> {
    const BYTES: usize = BLOCK / 2;

    #[inline(always)]
    fn is_biased<S: Int8>() -> bool {
        true
    }
    #[inline(always)]
    fn dot<S: Int8>(s: S, sum: S::I, w: S::B, a: S::B) -> S::I {
        s.dot(sum, w, a)
    }
    #[inline(always)]
    unsafe fn halves<S: Int8>(&self, s: S, block: usize) -> (S::B, S::B) {
        // SAFETY: the caller promises `GROUPS` blocks; a selector is below 256.
        let (tables, codes) = unsafe {
            (
                s.tables(tables::<S>(), self.selectors.add(block)),
                s.load_bytes(self.quants.add(block * Self::BYTES)),
            )
        };
        let (lower, upper) = s.nibbles(codes);
        (s.lookup(tables, lower), s.lookup(tables, upper))
    }
    #[inline(always)]
    unsafe fn scales<S: Int8>(&self, s: S, block: usize) -> S::V {
        // SAFETY: the caller promises `LANES` blocks.
        unsafe { s.q4_scales(self.scales.add(block), self.steps) }
    }
    #[inline(always)]
    unsafe fn scale(&self, block: usize) -> f32 {
        // SAFETY: the caller promises the block.
        self.steps.get(unsafe { *self.scales.add(block) })
    }
    #[inline(always)]
    fn prefetch_quants<S: Int8>(&self, s: S, block: usize, count: usize, bytes: usize) {
        let first = self.quants.wrapping_add(block * Self::BYTES + bytes);
        for line in (0..count * Self::BYTES).step_by(64) {
            s.prefetch_second(first.wrapping_add(line));
        }
    }
    #[inline(always)]
    fn prefetch_scales<S: Int8>(&self, s: S, block: usize, bytes: usize) {
        let block = block + bytes / Self::BYTES;
        s.prefetch_second(self.scales.wrapping_add(block));
        s.prefetch_second(self.selectors.wrapping_add(block));
    }
    #[inline(always)]
    unsafe fn tail<'a>(&self, block: usize, count: usize, to: &'a mut Tail) -> Self
    where
        Self: 'a,
    {
        // SAFETY: the caller promises `count` blocks, and the tail has room for them.
        unsafe {
            let quants = self.quants.add(block * Self::BYTES);
            quants.copy_to_nonoverlapping(to.quants.as_mut_ptr(), count * Self::BYTES);
            let (scales, selectors) = (self.scales.add(block), self.selectors.add(block));
            scales.copy_to_nonoverlapping(to.bytes.as_mut_ptr(), count);
            selectors.copy_to_nonoverlapping(to.selectors.as_mut_ptr(), count);
        }
        Self {
            quants: to.quants.as_ptr(),
            scales: to.bytes.as_ptr(),
            selectors: to.selectors.as_ptr(),
            steps: self.steps,
        }
    }
}
