//! 8-bit blocks as the kernels read them.

use super::format::{Format, Tail};
use crate::quant::{BLOCK, Q8};
use crate::simd::Int8;
use half::f16;

/// Pointers into a [`Q8`].
#[derive(Clone, Copy)]
pub(super) struct Q8Blocks {
    pub(super) quants: *const i8,
    pub(super) scales: *const f16,
}

// SAFETY: it is only read, as are the slices that it was made from.
unsafe impl Sync for Q8Blocks {}

impl Q8Blocks {
    pub(super) fn new(q8: &Q8<'_>) -> Self {
        Self {
            quants: q8.quants.as_ptr(),
            scales: q8.scales.as_ptr(),
        }
    }

    /// The blocks of a tail.
    pub(super) fn of(tail: &Tail) -> Self {
        Self {
            quants: tail.quants.as_ptr().cast(),
            scales: tail.scales.as_ptr(),
        }
    }

    /// Copies `count` blocks from `block` to the tail, from its block `place` on.
    ///
    /// # Safety
    /// The blocks exist, and the tail has room for them.
    #[inline(always)]
    pub(super) unsafe fn copy(&self, block: usize, count: usize, to: &mut Tail, place: usize) {
        // SAFETY: the caller promises both.
        unsafe {
            let quants = self.quants.add(block * BLOCK).cast::<u8>();
            let room = to.quants.as_mut_ptr().add(place * BLOCK);
            quants.copy_to_nonoverlapping(room, count * BLOCK);
            let scales = self.scales.add(block);
            scales.copy_to_nonoverlapping(to.scales.as_mut_ptr().add(place), count);
        }
    }
}

impl Format for Q8Blocks {
    const BYTES: usize = BLOCK;

    #[inline(always)]
    fn is_biased<S: Int8>() -> bool {
        S::Q8_IS_BIASED
    }
    #[inline(always)]
    fn dot<S: Int8>(s: S, sum: S::I, w: S::B, a: S::B) -> S::I {
        s.dot_q8(sum, w, a)
    }
    #[inline(always)]
    unsafe fn halves<S: Int8>(&self, s: S, block: usize) -> (S::B, S::B) {
        // SAFETY: the caller promises `GROUPS` blocks.
        let (first, second) = unsafe {
            let p = self.quants.add(block * BLOCK).cast::<u8>();
            (s.load_bytes(p), s.load_bytes(p.add(16 * S::GROUPS)))
        };
        s.halves(s.prepare_q8(first), s.prepare_q8(second))
    }
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn in_place(&self, block: usize) -> Option<*const u8> {
        Some(self.quants.wrapping_add(block * BLOCK).cast())
    }
    #[inline(always)]
    unsafe fn unpack_step<S: Int8>(&self, s: S, block: usize, to: *mut u8, signed: bool) {
        // SAFETY: the caller promises the blocks and the room.
        unsafe {
            let p = self.quants.add(block * BLOCK).cast::<u8>();
            for i in [0, 16 * S::GROUPS] {
                let bytes = s.load_bytes(p.add(i));
                let bytes = if signed { bytes } else { s.prepare_q8(bytes) };
                s.store_bytes(to.add(i), bytes);
            }
        }
    }
    #[inline(always)]
    unsafe fn scales<S: Int8>(&self, s: S, block: usize) -> S::V {
        // SAFETY: the caller promises `LANES` blocks.
        unsafe { s.load_f16(self.scales.add(block)) }
    }
    #[inline(always)]
    unsafe fn scale(&self, block: usize) -> f32 {
        // SAFETY: the caller promises the block.
        unsafe { *self.scales.add(block) }.to_f32()
    }
    #[inline(always)]
    fn prefetch_quants<S: Int8>(&self, s: S, block: usize, count: usize, bytes: usize) {
        let first = self.quants.wrapping_add(block * BLOCK + bytes);
        for line in (0..count * BLOCK).step_by(64) {
            s.prefetch_second(first.wrapping_add(line));
        }
    }
    #[inline(always)]
    fn prefetch_scales<S: Int8>(&self, s: S, block: usize, bytes: usize) {
        s.prefetch_second(self.scales.wrapping_add(block + bytes / BLOCK));
    }
    #[inline(always)]
    unsafe fn tail<'a>(&self, block: usize, count: usize, to: &'a mut Tail) -> Self
    where
        Self: 'a,
    {
        // SAFETY: the caller promises `count` blocks, and the tail has room for them.
        unsafe { self.copy(block, count, to, 0) };
        Self::of(to)
    }
}
