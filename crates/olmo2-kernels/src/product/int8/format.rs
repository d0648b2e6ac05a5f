//! The interface of a quantized format to the kernels, block by block.

use crate::product::MAX_LANES;
use crate::quant::BLOCK;
use crate::simd::Int8;
use half::f16;

/// A quantized matrix as a sequence of blocks: block `b` of row `n` is `n * blocks + b`.
///
/// Callers of unsafe functions promise that the blocks they name exist.
#[allow(clippy::missing_safety_doc, reason = "said above, once for all")]
pub(super) trait Format: Copy + Sync {
    /// Bytes of a block's quants.
    const BYTES: usize;

    /// Whether [`dot`](Self::dot) takes weights with [`Int8::BIAS`] added.
    fn is_biased<S: Int8>() -> bool;
    /// Adds products of weights, in the form that [`halves`](Self::halves) returns, and
    /// activations.
    fn dot<S: Int8>(s: S, sum: S::I, w: S::B, a: S::B) -> S::I;
    /// `GROUPS` blocks from `block`: their lower and upper halves.
    unsafe fn halves<S: Int8>(&self, s: S, block: usize) -> (S::B, S::B);
    /// The scales of `LANES` blocks from `block`.
    unsafe fn scales<S: Int8>(&self, s: S, block: usize) -> S::V;
    /// The scale of one block.
    unsafe fn scale(&self, block: usize) -> f32;
    /// Prefetches the quants of `count` blocks, `bytes` bytes of quants beyond `block`, into the
    /// second-level cache.
    fn prefetch_quants<S: Int8>(&self, s: S, block: usize, count: usize, bytes: usize);
    /// Prefetches the scales of a vector of blocks at the same distance.
    fn prefetch_scales<S: Int8>(&self, s: S, block: usize, bytes: usize);
    /// Copies fewer than 16 blocks from `block` to `to`; zeros follow them.
    unsafe fn tail<'a>(&self, block: usize, count: usize, to: &'a mut Tail) -> Self
    where
        Self: 'a;

    /// Signed weights in order from `block`, if the format stores them in this form.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn in_place(&self, block: usize) -> Option<*const u8> {
        let _ = block;
        None
    }

    /// Prefetches quants and scales.
    #[inline(always)]
    fn prefetch<S: Int8>(&self, s: S, block: usize, count: usize, bytes: usize) {
        self.prefetch_quants(s, block, count, bytes);
        self.prefetch_scales(s, block, bytes);
    }

    /// Writes the scales of `count` blocks from `block`.
    #[inline(always)]
    unsafe fn unpack_scales<S: Int8>(&self, s: S, block: usize, count: usize, to: *mut f32) {
        let whole = count - count % S::LANES;
        for b in (0..whole).step_by(S::LANES) {
            // SAFETY: a vector's blocks are below `count`.
            unsafe { s.store(to.add(b), self.scales(s, block + b)) };
        }
        for b in whole..count {
            // SAFETY: the caller promises the block and room for its scale.
            unsafe { *to.add(b) = self.scale(block + b) };
        }
    }

    /// Writes the weights of `count` blocks from `block`, in order, signed or in the form that
    /// [`dot`](Self::dot) takes; `to` has room for `count` blocks, rounded up to `GROUPS`.
    #[inline(always)]
    unsafe fn unpack<S: Int8>(&self, s: S, block: usize, count: usize, to: *mut u8, signed: bool) {
        let whole = count - count % S::GROUPS;
        for b in (0..whole).step_by(S::GROUPS) {
            if b.is_multiple_of(S::LANES) {
                self.prefetch(s, block + b, S::LANES, ROW_AHEAD);
            }
            // SAFETY: `b` stays below `count`.
            unsafe { self.unpack_step(s, block + b, to.add(b * BLOCK), signed) };
        }
        if whole < count {
            let mut tail = Tail::ZERO;
            // SAFETY: the blocks from `whole` to `count` exist, and the room takes a whole step.
            unsafe {
                let last = self.tail(block + whole, count - whole, &mut tail);
                last.unpack_step(s, 0, to.add(whole * BLOCK), signed);
            }
        }
    }

    /// Writes the weights of `GROUPS` blocks from `block`, in the form of [`unpack`](Self::unpack).
    #[inline(always)]
    unsafe fn unpack_step<S: Int8>(&self, s: S, block: usize, to: *mut u8, signed: bool) {
        // SAFETY: the caller promises the blocks and the room.
        unsafe {
            let (lower, upper) = self.halves(s, block);
            let (mut first, mut second) = s.whole(lower, upper);
            if signed {
                debug_assert!(S::Q8_IS_BIASED && S::BIAS == 128);
                (first, second) = (s.prepare_q8(first), s.prepare_q8(second));
            }
            s.store_bytes(to, first);
            s.store_bytes(to.add(16 * S::GROUPS), second);
        }
    }
}

/// Room for the blocks of a vector of lanes, in any format.
#[repr(C, align(64))]
pub(super) struct Tail {
    pub(super) quants: [u8; BLOCK * MAX_LANES],
    pub(super) scales: [f16; MAX_LANES],
    pub(super) bytes: [u8; MAX_LANES],
    pub(super) selectors: [u8; MAX_LANES],
}

impl Tail {
    pub(super) const ZERO: Self = Self {
        quants: [0; BLOCK * MAX_LANES],
        scales: [f16::ZERO; MAX_LANES],
        bytes: [0; MAX_LANES],
        selectors: [0; MAX_LANES],
    };
}

/// Distance in bytes of quants of the prefetches where whole rows are read one after the other.
pub(super) const ROW_AHEAD: usize = 4096;
