//! Vectors of f32. A kernel is written once, generic over [`Simd`], and [`dispatch`] compiles it
//! for each level. Everything down to the instruction is inlined into one function that enables the
//! level's features, so kernels and the functions that they call are `#[inline(always)]`.
#![allow(
    unsafe_code,
    reason = "loads and stores through pointers, and instructions by level"
)]

#[cfg(target_arch = "x86_64")]
mod amx;
mod int8;
mod math;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
mod x86_int8;

#[cfg(target_arch = "x86_64")]
pub(crate) use amx::{Amx, Bf16Tiles, ByteTiles, Dots, SIDE};
pub(crate) use int8::Int8;

use crate::level::{self, Level};
use half::{bf16, f16};

/// A level's instructions. A value proves that the CPU supports them.
///
/// `load*` read and `store*` write whole vectors of `LANES` elements (or the number that they name)
/// at any alignment; their callers promise that this is valid memory.
#[allow(clippy::missing_safety_doc, reason = "said above, once for all")]
pub(crate) trait Simd: Copy {
    /// `LANES` f32.
    type V: Copy;
    const LANES: usize;
    /// Maximum number of activation rows in a decode tile of four weight rows.
    const DECODE_ROWS: usize;
    /// Weight rows of a prefill tile of two vectors of activation rows.
    const PREFILL_ROWS: usize;

    fn splat(self, x: f32) -> Self::V;
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `b` if one of them is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// `b` if one of them is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once if the level has such an instruction.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// 2 to the power of each integer-valued element in -126 ..= 127.
    fn pow2(self, n: Self::V) -> Self::V;
    /// The sum of all elements: halves added to halves.
    fn sum(self, v: Self::V) -> f32;
    /// The largest element.
    fn max_element(self, v: Self::V) -> f32;

    unsafe fn load(self, p: *const f32) -> Self::V;
    unsafe fn store(self, p: *mut f32, v: Self::V);
    unsafe fn load_bf16(self, p: *const bf16) -> Self::V;
    /// The even and the odd elements of `2 * LANES`.
    unsafe fn load_bf16_split(self, p: *const bf16) -> (Self::V, Self::V);
    unsafe fn load_f16(self, p: *const f16) -> Self::V;
    unsafe fn load_i8(self, p: *const i8) -> Self::V;
    /// Transposes a block: `to[j * to_stride + i] = from[i * from_stride + j]` for `i` and `j`
    /// below `LANES`.
    unsafe fn transpose(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize);
    /// Prefetches a line into the first-level cache; any address is allowed.
    fn prefetch<T>(self, p: *const T);
    /// Prefetches a line into the second-level cache, so that it does not evict data in use from
    /// the first.
    fn prefetch_second<T>(self, p: *const T);

    /// The first `count < LANES` elements, followed by zeros.
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, count: usize) -> Self::V {
        let mut buffer = [0.0; 16];
        // SAFETY: `count` elements are valid at `p`; the buffer holds any level's vector.
        unsafe {
            std::ptr::copy_nonoverlapping(p, buffer.as_mut_ptr(), count);
            self.load(buffer.as_ptr())
        }
    }

    /// Stores the first `count < LANES` elements.
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, v: Self::V, count: usize) {
        let mut buffer = [0.0; 16];
        // SAFETY: `count` elements are valid at `p`; the buffer holds any level's vector.
        unsafe {
            self.store(buffer.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(buffer.as_ptr(), p, count);
        }
    }

    /// e to the power of each element; see [`math`].
    #[inline(always)]
    fn exp(self, x: Self::V) -> Self::V {
        math::exp(self, x)
    }
}

/// A function generic over the level.
pub(crate) trait Kernel {
    /// Runs at the level of `simd`; implementations are `#[inline(always)]`.
    fn run<S: Int8>(self, simd: S);
}

/// bf16 dot products, which only some CPUs of a level have.
pub(crate) trait Bf16Dot<S: Int8>: Copy {
    /// Adds to each f32 the products of its two bf16; subnormal numbers count as 0.
    fn dot(self, sum: S::V, w: S::B, a: S::B) -> S::V;
    /// Rounds to bf16, `low` before `high`.
    fn round(self, low: S::V, high: S::V) -> S::B;
}

/// A function generic over the level, for CPUs with [`Bf16Dot`].
pub(crate) trait Bf16DotKernel {
    /// Runs at the level of `simd`; implementations are `#[inline(always)]`.
    fn run<S: Int8, P: Bf16Dot<S>>(self, simd: S, dot: P);
}

/// A function for CPUs with AMX for bytes.
#[cfg(target_arch = "x86_64")]
pub(crate) trait TileKernel {
    /// Runs at the level of `simd`, which is AVX-512; implementations are `#[inline(always)]`.
    fn run<S: Int8>(self, simd: S, tiles: &ByteTiles);
}

/// Runs `kernel`.
///
/// # Panics
/// This thread is running another tile kernel.
#[cfg(target_arch = "x86_64")]
pub(crate) fn dispatch_tiles(amx: Amx, kernel: impl TileKernel) {
    // SAFETY: a CPU with `Level::Amx` has the features of the AVX-512 kernels.
    unsafe { x86_int8::run_tiles(amx, kernel) };
}

/// Whether [`dispatch_bf16_dot`] runs kernels at `level`.
pub(crate) fn has_bf16_dot(level: Level) -> bool {
    #[cfg(target_arch = "x86_64")]
    return level >= Level::Avx512 && std::arch::is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = level;
        false
    }
}

/// Runs `kernel`.
///
/// # Panics
/// [`has_bf16_dot`] is false.
pub(crate) fn dispatch_bf16_dot(level: Level, kernel: impl Bf16DotKernel) {
    #[cfg(target_arch = "x86_64")]
    if has_bf16_dot(level.min(level::detected())) {
        // SAFETY: the CPU has the level, and avx512bf16.
        return unsafe { x86_int8::run_bf16_dot(kernel) };
    }
    let _ = (level, kernel);
    unreachable!("the caller has checked `has_bf16_dot`");
}

/// Runs `kernel` compiled for `level`, or for the CPU's highest level if that is lower.
pub(crate) fn dispatch(level: Level, kernel: impl Kernel) {
    #[cfg(target_arch = "x86_64")]
    match level.min(level::detected()) {
        Level::Scalar => {}
        // SAFETY: detection found AVX2, FMA and F16C.
        Level::Avx2 => return unsafe { x86::run_avx2(kernel) },
        // SAFETY: detection found the five subsets of AVX-512, BMI2, and the features of Avx2.
        Level::Avx512 | Level::Amx => return unsafe { x86::run_avx512(kernel) },
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = level.min(level::detected());
    kernel.run(portable::Portable);
}

#[cfg(test)]
mod tests;
