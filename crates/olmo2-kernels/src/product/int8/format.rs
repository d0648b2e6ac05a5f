//! What the kernels ask of a quantised format, block by block.

use crate::quant::BLOCK;
use crate::simd::Int8;
use half::f16;

/// Most blocks that a step takes of a row.
pub(super) const GROUPS: usize = 4;

/// A quantised matrix, walked by blocks: block `b` of row `n` is `n * blocks + b`.
///
/// The callers of unsafe functions promise that the blocks they name are there.
#[allow(clippy::missing_safety_doc, reason = "said above, once for all")]
pub(super) trait Format: Copy + Sync {
    /// Bytes of a block's quants.
    const BYTES: usize;
    /// Bytes of quants that each stream of a decoding step asks for ahead. On a Zen 5, in shares of
    /// the best plain read by one thread: 8 bits .88 at 512, .78 at 1024, .82 at 2048, .74 at 4096;
    /// 4 bits .55 at 512, .65 at 1024, .77 at 2048, .80 at 3072, .75 at 4096.
    const AHEAD: usize;

    /// Whether the weights that kernels see are larger by [`Int8::BIAS`].
    fn is_biased<S: Int8>() -> bool;
    /// Adds products of weights, as [`halves`](Self::halves) or [`unpack`](Self::unpack) gives
    /// them, and activations.
    fn dot<S: Int8>(s: S, sum: S::I, w: S::B, a: S::B) -> S::I;
    /// `GROUPS` blocks from `block`: their lower and upper halves.
    unsafe fn halves<S: Int8>(&self, s: S, block: usize) -> (S::B, S::B);
    /// The scales of `GROUPS` blocks from each of four, `[row][group]`.
    unsafe fn scales<S: Int8>(&self, s: S, blocks: [usize; 4]) -> S::V;
    /// The scale of one block.
    unsafe fn scale(&self, block: usize) -> f32;
    /// Asks for the quants of `GROUPS` blocks that follow `block` by some `bytes` of quants.
    fn prefetch<S: Int8>(&self, s: S, block: usize, bytes: usize);
    /// Asks for the scales of `SCALES` blocks from there.
    fn prefetch_scales<S: Int8>(&self, s: S, block: usize, bytes: usize);
    /// The first `count` blocks from each of four copied into `to`, behind them zeros.
    unsafe fn tail<'a>(&self, blocks: [usize; 4], count: usize, to: &'a mut Tail) -> Self
    where
        Self: 'a;

    /// The scales of `count` blocks from `block`.
    #[inline(always)]
    unsafe fn unpack_scales<S: Int8>(&self, s: S, block: usize, count: usize, to: *mut f32) {
        let whole = count - count % S::LANES;
        for b in (0..whole).step_by(S::LANES) {
            let at = [0, 1, 2, 3].map(|i| block + b + i * S::GROUPS);
            // SAFETY: four steps are a vector's blocks, and all are below `count`.
            unsafe { s.store(to.add(b), self.scales(s, at)) };
        }
        for b in whole..count {
            // SAFETY: the caller promises the block and room for its scale.
            unsafe { *to.add(b) = self.scale(block + b) };
        }
    }

    /// Weights of `count` blocks from `block`, in order; `to` has room for `count` blocks,
    /// rounded up to `GROUPS`.
    #[inline(always)]
    unsafe fn unpack<S: Int8>(&self, s: S, block: usize, count: usize, to: *mut u8) {
        let whole = count - count % S::GROUPS;
        for b in (0..whole).step_by(S::GROUPS) {
            self.prefetch(s, block + b, ROW_AHEAD);
            if b.is_multiple_of(SCALES) {
                self.prefetch_scales(s, block + b, ROW_AHEAD);
            }
            // SAFETY: `b` stays below `count`.
            unsafe { self.unpack_step(s, block + b, to.add(b * BLOCK)) };
        }
        if whole < count {
            let mut tail = Tail::ZERO;
            // SAFETY: the blocks from `whole` to `count` are there, and a whole step fits the room.
            unsafe {
                let last = self.tail([block + whole; 4], count - whole, &mut tail);
                last.unpack_step(s, 0, to.add(whole * BLOCK));
            }
        }
    }

    /// Weights of `GROUPS` blocks from `block`, in order.
    #[inline(always)]
    unsafe fn unpack_step<S: Int8>(&self, s: S, block: usize, to: *mut u8) {
        // SAFETY: the caller promises the blocks and the room.
        unsafe {
            let (lower, upper) = self.halves(s, block);
            let (first, second) = s.whole(lower, upper);
            s.store_bytes(to, first);
            s.store_bytes(to.add(16 * S::GROUPS), second);
        }
    }
}

/// Room for a step of four rows, whatever the format.
#[repr(C, align(64))]
pub(super) struct Tail {
    pub(super) quants: [[u8; BLOCK * GROUPS]; 4],
    pub(super) scales: [[f16; GROUPS]; 4],
    pub(super) bytes: [[u8; GROUPS]; 4],
    pub(super) selectors: [[u8; GROUPS]; 4],
}

impl Tail {
    pub(super) const ZERO: Self = Self {
        quants: [[0; BLOCK * GROUPS]; 4],
        scales: [[f16::ZERO; GROUPS]; 4],
        bytes: [[0; GROUPS]; 4],
        selectors: [[0; GROUPS]; 4],
    };
    /// The blocks at which the four rows of a tail start.
    pub(super) const STARTS: [usize; 4] = [0, GROUPS, 2 * GROUPS, 3 * GROUPS];
}

/// Blocks whose scales fill a cache line, in the format with the largest ones.
pub(super) const SCALES: usize = 32;

/// Bytes of quants that a reader of whole rows, one after the other, asks for ahead.
pub(super) const ROW_AHEAD: usize = 4096;
