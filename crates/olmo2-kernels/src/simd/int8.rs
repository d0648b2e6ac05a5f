//! Vectors of bytes and of 32-bit integers, for 8-bit dot products.

use super::Simd;
use super::portable::Portable;
use crate::q4_scales::Q4Scales;
use half::f16;
use std::array::from_fn;

/// A level's integer instructions.
///
/// A register holds `GROUPS` groups of 16 bytes, or of four i32. Weights are passed in two
/// registers, one with the lower and one with the upper halves of `GROUPS` blocks of 32, one block
/// in each group.
///
/// Callers promise the memory behind pointers, at any alignment. Sums wrap around; they overflow
/// only for activations that are infinite or NaN, whose rows are lost anyway.
#[allow(clippy::missing_safety_doc, reason = "said above, once for all")]
pub(crate) trait Int8: Simd {
    /// `16 * GROUPS` bytes.
    type B: Copy;
    /// `4 * GROUPS == LANES` i32.
    type I: Copy;
    const GROUPS: usize;
    /// The offset that is added to 4-bit weights before dot products, and to 8-bit weights if they
    /// are [biased](Self::Q8_IS_BIASED).
    const BIAS: i32;
    /// Whether [`prepare_q8`](Self::prepare_q8) adds the bias.
    const Q8_IS_BIASED: bool;
    /// Weight rows of a prefill tile of `INT8_COLUMNS` vectors of activation rows.
    const INT8_ROWS: usize;
    const INT8_COLUMNS: usize;
    /// Maximum number of outputs of a decode tile: weight rows times activation rows.
    const INT8_DECODE_TILE: usize;

    unsafe fn load_bytes(self, p: *const u8) -> Self::B;
    unsafe fn store_bytes(self, p: *mut u8, b: Self::B);
    /// The same four bytes in each element.
    unsafe fn broadcast_bytes(self, p: *const u8) -> Self::B;
    unsafe fn load_ints(self, p: *const i32) -> Self::I;
    /// Four groups of `GROUPS` i32, all groups the same.
    unsafe fn repeat_ints(self, p: *const i32) -> Self::I;
    /// Four groups of `GROUPS` f32, all groups the same.
    unsafe fn repeat(self, p: *const f32) -> Self::V;
    fn zero_ints(self) -> Self::I;
    fn add_ints(self, a: Self::I, b: Self::I) -> Self::I;
    /// Rounded to nearest; exact below 2^24.
    fn to_floats(self, x: Self::I) -> Self::V;
    /// Rounded to nearest, ties to even, for magnitudes below 2^22; unspecified for others.
    fn to_ints(self, x: Self::V) -> Self::I;
    /// Each times minus [`BIAS`](Self::BIAS).
    fn times_minus_bias(self, x: Self::I) -> Self::I;
    /// The lowest byte of each of the four registers, as the four bytes of each element, the first
    /// one lowest.
    fn interleave(self, x: [Self::I; 4]) -> Self::B;
    unsafe fn store_ints(self, p: *mut i32, x: Self::I);
    /// Stores the lowest bytes of `LANES` elements.
    unsafe fn store_lowest(self, p: *mut u8, x: Self::I);

    /// Adds to each i32 the products of its four bytes, with `w` in 0 ..= 2 * BIAS - 1 and `a` in
    /// -127 ..= 127.
    fn dot(self, sum: Self::I, w: Self::B, a: Self::B) -> Self::I;
    /// As [`dot`](Self::dot) for [prepared](Self::prepare_q8) 8-bit weights.
    fn dot_q8(self, sum: Self::I, w: Self::B, a: Self::B) -> Self::I;
    /// Converts signed weights to the form that `dot_q8` takes; if that form is biased by 128, also
    /// the reverse.
    fn prepare_q8(self, w: Self::B) -> Self::B;
    /// The sums of the groups of four registers, `[register][group]`.
    fn reduce(self, x: [Self::I; 4]) -> Self::I;

    /// Splits `GROUPS` whole blocks, in order, into their lower and upper halves.
    fn halves(self, first: Self::B, second: Self::B) -> (Self::B, Self::B);
    /// The reverse of [`halves`](Self::halves).
    fn whole(self, lower: Self::B, upper: Self::B) -> (Self::B, Self::B);
    /// The lower and the upper four bits of each byte.
    fn nibbles(self, x: Self::B) -> (Self::B, Self::B);
    /// Looks up `codes`, which are below 16, in the table of their group.
    fn lookup(self, tables: Self::B, codes: Self::B) -> Self::B;
    /// The tables of `GROUPS` selectors, one in each group; 256 tables are valid at `tables`.
    unsafe fn tables(self, tables: *const [u8; 16], selectors: *const u8) -> Self::B;

    /// `GROUPS` f16 of each of four rows, `[row][group]`.
    unsafe fn q8_scales(self, rows: [*const f16; 4]) -> Self::V;
    /// The sum of each row of `[row][group]`: halves added to halves.
    fn sum_groups(self, v: Self::V) -> [f32; 4];
    /// The 4-bit block scales that `LANES` bytes encode.
    unsafe fn q4_scales(self, p: *const u8, steps: &Q4Scales) -> Self::V;
}

type B = [u8; 16];
type I = [i32; 4];
type V = [f32; 4];

fn dot4(sum: I, product: impl Fn(usize) -> i32) -> I {
    from_fn(|i| (0..4).fold(sum[i], |sum, j| sum.wrapping_add(product(4 * i + j))))
}

impl Int8 for Portable {
    type B = B;
    type I = I;
    const GROUPS: usize = 1;
    const BIAS: i32 = 64;
    const Q8_IS_BIASED: bool = false;
    const INT8_ROWS: usize = 4;
    const INT8_COLUMNS: usize = 1;
    const INT8_DECODE_TILE: usize = 2;

    #[inline(always)]
    unsafe fn load_bytes(self, p: *const u8) -> B {
        // SAFETY: the caller promises 16 bytes.
        unsafe { p.cast::<B>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_bytes(self, p: *mut u8, b: B) {
        // SAFETY: the caller promises 16 bytes.
        unsafe { p.cast::<B>().write_unaligned(b) }
    }
    #[inline(always)]
    unsafe fn broadcast_bytes(self, p: *const u8) -> B {
        // SAFETY: the caller promises four bytes.
        let bytes = unsafe { p.cast::<[u8; 4]>().read_unaligned() };
        from_fn(|i| bytes[i % 4])
    }
    #[inline(always)]
    unsafe fn load_ints(self, p: *const i32) -> I {
        // SAFETY: the caller promises four elements.
        unsafe { p.cast::<I>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn repeat_ints(self, p: *const i32) -> I {
        // SAFETY: the caller promises an element.
        [unsafe { p.read_unaligned() }; 4]
    }
    #[inline(always)]
    unsafe fn repeat(self, p: *const f32) -> V {
        // SAFETY: the caller promises an element.
        [unsafe { p.read_unaligned() }; 4]
    }
    #[inline(always)]
    fn zero_ints(self) -> I {
        [0; 4]
    }
    #[inline(always)]
    fn add_ints(self, a: I, b: I) -> I {
        from_fn(|i| a[i].wrapping_add(b[i]))
    }
    #[inline(always)]
    fn to_floats(self, x: I) -> V {
        x.map(|x| x as f32)
    }
    #[inline(always)]
    fn to_ints(self, x: V) -> I {
        // The sum is between 2^23 and 2^24, where the last place is one unit.
        const ROUND: f32 = 12_582_912.0;
        from_fn(|i| (x[i] + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i32)
    }
    #[inline(always)]
    fn times_minus_bias(self, x: I) -> I {
        x.map(|x| x.wrapping_mul(-Self::BIAS))
    }
    #[inline(always)]
    fn interleave(self, x: [I; 4]) -> B {
        from_fn(|i| x[i % 4][i / 4] as u8)
    }
    #[inline(always)]
    unsafe fn store_ints(self, p: *mut i32, x: I) {
        // SAFETY: the caller promises four elements.
        unsafe { p.cast::<I>().write_unaligned(x) }
    }
    #[inline(always)]
    unsafe fn store_lowest(self, p: *mut u8, x: I) {
        let bytes: [u8; 4] = from_fn(|i| x[i] as u8);
        // SAFETY: the caller promises four bytes.
        unsafe { p.cast::<[u8; 4]>().write_unaligned(bytes) }
    }
    #[inline(always)]
    fn dot(self, sum: I, w: B, a: B) -> I {
        dot4(sum, |i| i32::from(w[i]) * i32::from(a[i] as i8))
    }
    #[inline(always)]
    fn dot_q8(self, sum: I, w: B, a: B) -> I {
        dot4(sum, |i| i32::from(w[i] as i8) * i32::from(a[i] as i8))
    }
    #[inline(always)]
    fn prepare_q8(self, w: B) -> B {
        w
    }
    #[inline(always)]
    fn reduce(self, x: [I; 4]) -> I {
        x.map(|x| x.into_iter().fold(0, i32::wrapping_add))
    }
    #[inline(always)]
    fn halves(self, first: B, second: B) -> (B, B) {
        (first, second)
    }
    #[inline(always)]
    fn whole(self, lower: B, upper: B) -> (B, B) {
        (lower, upper)
    }
    #[inline(always)]
    fn nibbles(self, x: B) -> (B, B) {
        (x.map(|x| x & 15), x.map(|x| x >> 4))
    }
    #[inline(always)]
    fn lookup(self, tables: B, codes: B) -> B {
        codes.map(|code| tables[usize::from(code & 15)])
    }
    #[inline(always)]
    unsafe fn tables(self, tables: *const [u8; 16], selectors: *const u8) -> B {
        // SAFETY: the caller promises a selector and 256 tables.
        unsafe { *tables.add(usize::from(*selectors)) }
    }
    #[inline(always)]
    unsafe fn q8_scales(self, rows: [*const f16; 4]) -> V {
        // SAFETY: the caller promises an element in each row.
        rows.map(|row| unsafe { row.read_unaligned() }.to_f32())
    }
    #[inline(always)]
    fn sum_groups(self, v: V) -> [f32; 4] {
        v
    }
    #[inline(always)]
    unsafe fn q4_scales(self, p: *const u8, steps: &Q4Scales) -> V {
        // SAFETY: the caller promises four bytes.
        unsafe { p.cast::<[u8; 4]>().read_unaligned() }.map(|scale| steps.get(scale))
    }
}
