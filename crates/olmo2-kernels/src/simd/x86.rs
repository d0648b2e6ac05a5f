//! AVX2 and AVX-512.

use super::{Kernel, Simd};
use half::{bf16, f16};
use std::arch::x86_64::*;

/// Proof of AVX2, FMA and F16C; only [`run_avx2`] makes it.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

/// Proof of AVX-512 F, BW, DQ, VL and VNNI, and BMI2, as well; only [`run_avx512`] and
/// [`new`](Self::new) make it.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

/// # Safety
/// The CPU has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn run_avx2(kernel: impl Kernel) {
    kernel.run(Avx2(()));
}

/// # Safety
/// The CPU has AVX-512 F, BW, DQ, VL and VNNI, and AVX2, BMI2, FMA and F16C.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,bmi2,fma,f16c")]
pub(super) unsafe fn run_avx512(kernel: impl Kernel) {
    kernel.run(Avx512(()));
}

impl Avx512 {
    /// # Safety
    /// The CPU has AVX-512 F, BW, DQ, VL and VNNI, and AVX2, BMI2, FMA and F16C.
    pub(super) unsafe fn new() -> Self {
        Self(())
    }
}

/// Methods that are one expression of intrinsics of the level's features.
macro_rules! instructions {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),*) -> $out:ty { $body:expr })*) => {
        $($(#[$doc])* #[inline(always)]
        fn $name(self, $($arg: $ty),*) -> $out {
            // SAFETY: `self` exists only where the CPU has the level's features.
            #[allow(unused_unsafe, reason = "some are safe where the features are enabled")]
            unsafe { $body }
        })*
    };
}

/// The same for methods that read or write memory.
macro_rules! memory {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),*) $(-> $out:ty)? { $body:expr })*) => {
        $($(#[$doc])* #[inline(always)]
        unsafe fn $name(self, $($arg: $ty),*) $(-> $out)? {
            // SAFETY: `self` exists only where the CPU has the level's features, and the caller
            // promises the memory; the instructions need no alignment.
            unsafe { $body }
        })*
    };
}

/// The prefetches, which every CPU of these levels has.
macro_rules! prefetches {
    () => {
        #[inline(always)]
        fn prefetch<T>(self, p: *const T) {
            // SAFETY: a prefetch affects only the cache, at any address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
        }
        #[inline(always)]
        fn prefetch_second<T>(self, p: *const T) {
            // SAFETY: as above.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
        }
    };
}

pub(super) use {instructions, memory};

impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;
    const DECODE_ROWS: usize = 4;
    const PREFILL_ROWS: usize = 12;

    instructions! {
        fn splat(x: f32) -> __m512 { _mm512_set1_ps(x) }
        fn add(a: __m512, b: __m512) -> __m512 { _mm512_add_ps(a, b) }
        fn sub(a: __m512, b: __m512) -> __m512 { _mm512_sub_ps(a, b) }
        fn mul(a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        fn div(a: __m512, b: __m512) -> __m512 { _mm512_div_ps(a, b) }
        fn min(a: __m512, b: __m512) -> __m512 { _mm512_min_ps(a, b) }
        fn max(a: __m512, b: __m512) -> __m512 { _mm512_max_ps(a, b) }
        fn fma(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }
        fn pow2(n: __m512) -> __m512 {
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_add_epi32(
                _mm512_cvtps_epi32(n),
                _mm512_set1_epi32(127),
            )))
        }
        fn sum(v: __m512) -> f32 {
            sum8(_mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v)))
        }
        fn max_element(v: __m512) -> f32 { _mm512_reduce_max_ps(v) }
    }

    memory! {
        fn load(p: *const f32) -> __m512 { _mm512_loadu_ps(p) }
        fn store(p: *mut f32, v: __m512) { _mm512_storeu_ps(p, v) }
        fn load_bf16(p: *const bf16) -> __m512 {
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(
                _mm256_loadu_si256(p.cast()),
            )))
        }
        fn load_bf16_split(p: *const bf16) -> (__m512, __m512) {
            split512(_mm512_loadu_si512(p.cast()))
        }
        fn load_f16(p: *const f16) -> __m512 {
            _mm512_cvtph_ps(_mm256_loadu_si256(p.cast()))
        }
        fn load_i8(p: *const i8) -> __m512 {
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast())))
        }
        fn load_first(p: *const f32, count: usize) -> __m512 {
            _mm512_maskz_loadu_ps((1 << count) - 1, p)
        }
        fn store_first(p: *mut f32, v: __m512, count: usize) {
            _mm512_mask_storeu_ps(p, (1 << count) - 1, v)
        }
        fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
            transpose16(from, from_stride, to, to_stride)
        }
    }

    prefetches!();
}

impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    const DECODE_ROWS: usize = 2;
    const PREFILL_ROWS: usize = 6;

    instructions! {
        fn splat(x: f32) -> __m256 { _mm256_set1_ps(x) }
        fn add(a: __m256, b: __m256) -> __m256 { _mm256_add_ps(a, b) }
        fn sub(a: __m256, b: __m256) -> __m256 { _mm256_sub_ps(a, b) }
        fn mul(a: __m256, b: __m256) -> __m256 { _mm256_mul_ps(a, b) }
        fn div(a: __m256, b: __m256) -> __m256 { _mm256_div_ps(a, b) }
        fn min(a: __m256, b: __m256) -> __m256 { _mm256_min_ps(a, b) }
        fn max(a: __m256, b: __m256) -> __m256 { _mm256_max_ps(a, b) }
        fn fma(a: __m256, b: __m256, c: __m256) -> __m256 { _mm256_fmadd_ps(a, b, c) }
        fn pow2(n: __m256) -> __m256 {
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(
                _mm256_cvtps_epi32(n),
                _mm256_set1_epi32(127),
            )))
        }
        fn sum(v: __m256) -> f32 { sum8(v) }
        fn max_element(v: __m256) -> f32 {
            {
                let v = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
                let v = _mm_max_ps(v, _mm_movehl_ps(v, v));
                _mm_cvtss_f32(_mm_max_ss(v, _mm_shuffle_ps::<1>(v, v)))
            }
        }
    }

    memory! {
        fn load(p: *const f32) -> __m256 { _mm256_loadu_ps(p) }
        fn store(p: *mut f32, v: __m256) { _mm256_storeu_ps(p, v) }
        fn load_bf16(p: *const bf16) -> __m256 {
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(
                _mm_loadu_si128(p.cast()),
            )))
        }
        fn load_bf16_split(p: *const bf16) -> (__m256, __m256) {
            split256(_mm256_loadu_si256(p.cast()))
        }
        fn load_f16(p: *const f16) -> __m256 { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) }
        fn load_i8(p: *const i8) -> __m256 {
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast())))
        }
        fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
            transpose8(from, from_stride, to, to_stride)
        }
    }

    prefetches!();
}

/// The even and odd elements of 32 bf16 as f32: a bf16 is the upper half of an f32.
#[inline]
#[target_feature(enable = "avx512f")]
fn split512(x: __m512i) -> (__m512, __m512) {
    let odd = _mm512_and_si512(x, _mm512_set1_epi32(0xffff_0000_u32 as i32));
    (
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(x)),
        _mm512_castsi512_ps(odd),
    )
}

/// As [`split512`], for 16 elements.
#[inline]
#[target_feature(enable = "avx2")]
fn split256(x: __m256i) -> (__m256, __m256) {
    let odd = _mm256_and_si256(x, _mm256_set1_epi32(0xffff_0000_u32 as i32));
    (
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(x)),
        _mm256_castsi256_ps(odd),
    )
}

#[inline]
#[target_feature(enable = "avx2")]
fn sum8(v: __m256) -> f32 {
    let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
    let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
    _mm_cvtss_f32(_mm_add_ss(v, _mm_shuffle_ps::<1>(v, v)))
}

/// Transposes 16 by 16 elements: first pairs, then quarters, then 128-bit lanes twice.
///
/// # Safety
/// Both blocks are valid memory.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn transpose16(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
    let mut a = [_mm512_setzero_ps(); 16];
    let mut b = a;
    for (i, row) in a.iter_mut().enumerate() {
        // SAFETY: the caller promises 16 rows of 16 elements.
        *row = unsafe { _mm512_loadu_ps(from.add(i * from_stride)) };
    }
    for i in 0..8 {
        b[2 * i] = _mm512_unpacklo_ps(a[2 * i], a[2 * i + 1]);
        b[2 * i + 1] = _mm512_unpackhi_ps(a[2 * i], a[2 * i + 1]);
    }
    for i in 0..4 {
        let q = 4 * i;
        a[q] = _mm512_shuffle_ps::<0x44>(b[q], b[q + 2]);
        a[q + 1] = _mm512_shuffle_ps::<0xee>(b[q], b[q + 2]);
        a[q + 2] = _mm512_shuffle_ps::<0x44>(b[q + 1], b[q + 3]);
        a[q + 3] = _mm512_shuffle_ps::<0xee>(b[q + 1], b[q + 3]);
    }
    for i in 0..4 {
        let low = _mm512_shuffle_f32x4::<0x44>(a[i], a[4 + i]);
        let high = _mm512_shuffle_f32x4::<0xee>(a[i], a[4 + i]);
        let low2 = _mm512_shuffle_f32x4::<0x44>(a[8 + i], a[12 + i]);
        let high2 = _mm512_shuffle_f32x4::<0xee>(a[8 + i], a[12 + i]);
        b[i] = _mm512_shuffle_f32x4::<0x88>(low, low2);
        b[4 + i] = _mm512_shuffle_f32x4::<0xdd>(low, low2);
        b[8 + i] = _mm512_shuffle_f32x4::<0x88>(high, high2);
        b[12 + i] = _mm512_shuffle_f32x4::<0xdd>(high, high2);
    }
    for (i, row) in b.iter().enumerate() {
        // SAFETY: the caller promises 16 rows of 16 elements.
        unsafe { _mm512_storeu_ps(to.add(i * to_stride), *row) };
    }
}

/// As [`transpose16`], for 8 by 8 elements.
///
/// # Safety
/// Both blocks are valid memory.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn transpose8(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
    let mut a = [_mm256_setzero_ps(); 8];
    let mut b = a;
    for (i, row) in a.iter_mut().enumerate() {
        // SAFETY: the caller promises 8 rows of 8 elements.
        *row = unsafe { _mm256_loadu_ps(from.add(i * from_stride)) };
    }
    for i in 0..4 {
        b[2 * i] = _mm256_unpacklo_ps(a[2 * i], a[2 * i + 1]);
        b[2 * i + 1] = _mm256_unpackhi_ps(a[2 * i], a[2 * i + 1]);
    }
    for i in 0..2 {
        let q = 4 * i;
        a[q] = _mm256_shuffle_ps::<0x44>(b[q], b[q + 2]);
        a[q + 1] = _mm256_shuffle_ps::<0xee>(b[q], b[q + 2]);
        a[q + 2] = _mm256_shuffle_ps::<0x44>(b[q + 1], b[q + 3]);
        a[q + 3] = _mm256_shuffle_ps::<0xee>(b[q + 1], b[q + 3]);
    }
    for i in 0..4 {
        b[i] = _mm256_permute2f128_ps::<0x20>(a[i], a[4 + i]);
        b[4 + i] = _mm256_permute2f128_ps::<0x31>(a[i], a[4 + i]);
    }
    for (i, row) in b.iter().enumerate() {
        // SAFETY: the caller promises 8 rows of 8 elements.
        unsafe { _mm256_storeu_ps(to.add(i * to_stride), *row) };
    }
}
