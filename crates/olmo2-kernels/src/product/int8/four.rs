//! 4-bit blocks as the kernels read them.

use super::format::{Format, GROUPS, Tail};
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

/// Tables that do not straddle cache lines.
#[repr(C, align(64))]
struct Lines([[u8; 16]; 256]);

/// Pointers into a [`Q4`].
#[derive(Clone, Copy)]
pub(super) struct Four<'t> {
    quants: *const u8,
    scales: *const u8,
    selectors: *const u8,
    steps: &'t Q4Scales,
}

// SAFETY: it only reads, as the slices that it came from may be read.
unsafe impl Sync for Four<'_> {}

impl<'t> Four<'t> {
    pub(super) fn new(q4: &Q4<'_>, steps: &'t Q4Scales) -> Self {
        Self {
            quants: q4.quants.as_ptr(),
            scales: q4.scales.as_ptr(),
            selectors: q4.selectors.as_ptr(),
            steps,
        }
    }
}

impl Format for Four<'_> {
    const BYTES: usize = BLOCK / 2;
    const AHEAD: usize = 3072;

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
    unsafe fn scales<S: Int8>(&self, s: S, blocks: [usize; 4]) -> S::V {
        // SAFETY: the caller promises `GROUPS` blocks from each.
        unsafe { s.q4_scales(blocks.map(|block| self.scales.add(block)), self.steps) }
    }
    #[inline(always)]
    unsafe fn scale(&self, block: usize) -> f32 {
        // SAFETY: the caller promises the block.
        self.steps.get(unsafe { *self.scales.add(block) })
    }
    #[inline(always)]
    fn prefetch<S: Int8>(&self, s: S, block: usize, bytes: usize) {
        s.prefetch(self.quants.wrapping_add(block * Self::BYTES + bytes));
    }
    #[inline(always)]
    fn prefetch_scales<S: Int8>(&self, s: S, block: usize, bytes: usize) {
        s.prefetch(self.scales.wrapping_add(block + bytes / Self::BYTES));
        s.prefetch(self.selectors.wrapping_add(block + bytes / Self::BYTES));
    }
    #[inline(always)]
    unsafe fn tail<'a>(&self, blocks: [usize; 4], count: usize, to: &'a mut Tail) -> Self
    where
        Self: 'a,
    {
        let rows = to.quants.as_mut_ptr().cast::<u8>();
        for r in 0..4 {
            // SAFETY: the caller promises `count` blocks, at most `GROUPS`; a row of four bits
            // takes half the room of one of eight.
            unsafe {
                let quants = self.quants.add(blocks[r] * Self::BYTES);
                let row = rows.add(r * GROUPS * Self::BYTES);
                quants.copy_to_nonoverlapping(row, count * Self::BYTES);
                let (scales, selectors) =
                    (self.scales.add(blocks[r]), self.selectors.add(blocks[r]));
                scales.copy_to_nonoverlapping(to.bytes[r].as_mut_ptr(), count);
                selectors.copy_to_nonoverlapping(to.selectors[r].as_mut_ptr(), count);
            }
        }
        Self {
            quants: rows,
            scales: to.bytes.as_ptr().cast(),
            selectors: to.selectors.as_ptr().cast(),
            steps: self.steps,
        }
    }
}
