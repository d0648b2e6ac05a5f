//! The integer instructions of AVX2 and of AVX-512 with VNNI.
#![allow(
    clippy::cast_ptr_alignment,
    reason = "the loads used here need no alignment"
)]

use super::int8::Int8;
use super::x86::{Avx2, Avx512, instructions, memory};
use super::{Amx, Bf16Dot, Bf16DotKernel, ByteTiles, TileKernel};
use crate::q4_scales::Q4Scales;
use half::f16;
use std::arch::x86_64::*;

/// Proof of AVX-512 BF16; only [`run_bf16_dot`] makes it.
#[derive(Clone, Copy)]
pub(super) struct Avx512Bf16(());

/// # Safety
/// The CPU has the features that [`super::x86::run_avx512`] requires, and AVX-512 BF16.
#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,bmi2,fma,f16c"
)]
pub(super) unsafe fn run_bf16_dot(kernel: impl Bf16DotKernel) {
    // SAFETY: promised by the caller.
    kernel.run(unsafe { Avx512::new() }, Avx512Bf16(()));
}

/// # Safety
/// The CPU has the features that [`super::x86::run_avx512`] requires.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,bmi2,fma,f16c")]
pub(super) unsafe fn run_tiles(amx: Amx, kernel: impl TileKernel) {
    // SAFETY: promised by the caller.
    kernel.run(unsafe { Avx512::new() }, &ByteTiles::new(amx));
}

impl Bf16Dot<Avx512> for Avx512Bf16 {
    instructions! {
        fn dot(sum: __m512, w: __m512i, a: __m512i) -> __m512 {
            _mm512_dpbf16_ps(
                sum,
                std::mem::transmute::<__m512i, __m512bh>(w),
                std::mem::transmute::<__m512i, __m512bh>(a),
            )
        }
        fn round(low: __m512, high: __m512) -> __m512i {
            std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low))
        }
    }
}

impl Int8 for Avx512 {
    type B = __m512i;
    type I = __m512i;
    const GROUPS: usize = 4;
    const BIAS: i32 = 128;
    const Q8_IS_BIASED: bool = true;
    const INT8_ROWS: usize = 6;
    const INT8_COLUMNS: usize = 2;
    const INT8_DECODE_TILE: usize = 4;

    instructions! {
        fn zero_ints() -> __m512i { _mm512_setzero_si512() }
        fn add_ints(a: __m512i, b: __m512i) -> __m512i { _mm512_add_epi32(a, b) }
        fn to_floats(x: __m512i) -> __m512 { _mm512_cvtepi32_ps(x) }
        fn to_ints(x: __m512) -> __m512i { _mm512_cvtps_epi32(x) }
        fn times_minus_bias(x: __m512i) -> __m512i {
            _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32::<7>(x))
        }
        fn interleave(x: [__m512i; 4]) -> __m512i {
            // The sign extension of a byte is overwritten by the next byte.
            _mm512_mask_mov_epi8(
                _mm512_mask_mov_epi8(x[0], 0x2222_2222_2222_2222, _mm512_slli_epi32::<8>(x[1])),
                0xcccc_cccc_cccc_cccc,
                _mm512_mask_mov_epi8(
                    _mm512_slli_epi32::<16>(x[2]),
                    0x8888_8888_8888_8888,
                    _mm512_slli_epi32::<24>(x[3]),
                ),
            )
        }
        fn dot(sum: __m512i, w: __m512i, a: __m512i) -> __m512i { _mm512_dpbusd_epi32(sum, w, a) }
        fn dot_q8(sum: __m512i, w: __m512i, a: __m512i) -> __m512i { _mm512_dpbusd_epi32(sum, w, a) }
        fn prepare_q8(w: __m512i) -> __m512i { _mm512_xor_si512(w, _mm512_set1_epi8(-128)) }
        fn reduce(x: [__m512i; 4]) -> __m512i {
            _mm512_permutexvar_epi32(
                _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15),
                reduce512(x),
            )
        }
        fn halves(first: __m512i, second: __m512i) -> (__m512i, __m512i) {
            (
                _mm512_shuffle_i64x2::<0x88>(first, second),
                _mm512_shuffle_i64x2::<0xdd>(first, second),
            )
        }
        fn whole(lower: __m512i, upper: __m512i) -> (__m512i, __m512i) {
            (
                _mm512_permutex2var_epi64(lower, _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), upper),
                _mm512_permutex2var_epi64(lower, _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15), upper),
            )
        }
        fn nibbles(x: __m512i) -> (__m512i, __m512i) {
            (
                _mm512_and_si512(x, _mm512_set1_epi8(15)),
                _mm512_and_si512(_mm512_srli_epi16::<4>(x), _mm512_set1_epi8(15)),
            )
        }
        fn lookup(tables: __m512i, codes: __m512i) -> __m512i { _mm512_shuffle_epi8(tables, codes) }
        fn sum_groups(v: __m512) -> [f32; 4] {
            {
                let pairs = _mm512_add_ps(v, _mm512_permute_ps::<0b01_00_11_10>(v));
                let sums = _mm512_add_ps(pairs, _mm512_permute_ps::<0b10_11_00_01>(pairs));
                let rows = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
                let rows = _mm512_castps512_ps128(_mm512_permutexvar_ps(rows, sums));
                std::mem::transmute::<__m128, [f32; 4]>(rows)
            }
        }
    }

    memory! {
        fn load_bytes(p: *const u8) -> __m512i { _mm512_loadu_si512(p.cast()) }
        fn store_bytes(p: *mut u8, b: __m512i) { _mm512_storeu_si512(p.cast(), b) }
        fn broadcast_bytes(p: *const u8) -> __m512i {
            _mm512_set1_epi32(p.cast::<i32>().read_unaligned())
        }
        fn load_ints(p: *const i32) -> __m512i { _mm512_loadu_si512(p.cast()) }
        fn store_ints(p: *mut i32, x: __m512i) { _mm512_storeu_si512(p.cast(), x) }
        fn store_lowest(p: *mut u8, x: __m512i) {
            _mm_storeu_si128(p.cast(), _mm512_cvtepi32_epi8(x))
        }
        fn repeat_ints(p: *const i32) -> __m512i {
            _mm512_broadcast_i32x4(_mm_loadu_si128(p.cast()))
        }
        fn repeat(p: *const f32) -> __m512 { _mm512_broadcast_f32x4(_mm_loadu_ps(p)) }
        fn q8_scales(rows: [*const f16; 4]) -> __m512 {
            {
                let [a, b, c, d] = rows.map(|row| row.cast::<i64>().read_unaligned());
                _mm512_cvtph_ps(_mm256_setr_epi64x(a, b, c, d))
            }
        }
        fn tables(tables: *const [u8; 16], selectors: *const u8) -> __m512i {
            tables512(tables, selectors.cast::<u32>().read_unaligned())
        }
        fn q4_scales(p: *const u8, steps: &Q4Scales) -> __m512 {
            {
                let scale = _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()));
                // Five bits select a mantissa; the upper three bits subtract octaves from it.
                let steps = steps.mantissas().as_ptr();
                let low = _mm512_loadu_si512(steps.cast());
                let high = _mm512_loadu_si512(steps.add(16).cast());
                _mm512_castsi512_ps(_mm512_sub_epi32(
                    _mm512_permutex2var_epi32(low, scale, high),
                    _mm512_slli_epi32::<18>(scale),
                ))
            }
        }
    }
}

impl Int8 for Avx2 {
    type B = __m256i;
    type I = __m256i;
    const GROUPS: usize = 2;
    const BIAS: i32 = 64;
    const Q8_IS_BIASED: bool = false;
    const INT8_ROWS: usize = 4;
    const INT8_COLUMNS: usize = 2;
    const INT8_DECODE_TILE: usize = 2;

    instructions! {
        fn zero_ints() -> __m256i { _mm256_setzero_si256() }
        fn add_ints(a: __m256i, b: __m256i) -> __m256i { _mm256_add_epi32(a, b) }
        fn to_floats(x: __m256i) -> __m256 { _mm256_cvtepi32_ps(x) }
        fn to_ints(x: __m256) -> __m256i { _mm256_cvtps_epi32(x) }
        fn times_minus_bias(x: __m256i) -> __m256i {
            _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_slli_epi32::<6>(x))
        }
        fn interleave(x: [__m256i; 4]) -> __m256i {
            _mm256_or_si256(
                _mm256_or_si256(
                    _mm256_and_si256(x[0], _mm256_set1_epi32(255)),
                    _mm256_slli_epi32::<8>(_mm256_and_si256(x[1], _mm256_set1_epi32(255))),
                ),
                _mm256_or_si256(
                    _mm256_slli_epi32::<16>(_mm256_and_si256(x[2], _mm256_set1_epi32(255))),
                    _mm256_slli_epi32::<24>(x[3]),
                ),
            )
        }
        fn dot(sum: __m256i, w: __m256i, a: __m256i) -> __m256i {
            // Two products are at most 2 * 127 * 127, which fits 16 bits.
            _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(w, a), _mm256_set1_epi16(1)))
        }
        fn dot_q8(sum: __m256i, w: __m256i, a: __m256i) -> __m256i {
            // Moves the sign from the weight to the activation.
            _mm256_add_epi32(sum, _mm256_madd_epi16(
                _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(a, w)),
                _mm256_set1_epi16(1),
            ))
        }
        fn prepare_q8(w: __m256i) -> __m256i { w }
        fn reduce(x: [__m256i; 4]) -> __m256i {
            _mm256_permutevar8x32_epi32(reduce256(x), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
        }
        fn halves(first: __m256i, second: __m256i) -> (__m256i, __m256i) {
            (
                _mm256_permute2x128_si256::<0x20>(first, second),
                _mm256_permute2x128_si256::<0x31>(first, second),
            )
        }
        fn whole(lower: __m256i, upper: __m256i) -> (__m256i, __m256i) {
            (
                _mm256_permute2x128_si256::<0x20>(lower, upper),
                _mm256_permute2x128_si256::<0x31>(lower, upper),
            )
        }
        fn nibbles(x: __m256i) -> (__m256i, __m256i) {
            (
                _mm256_and_si256(x, _mm256_set1_epi8(15)),
                _mm256_and_si256(_mm256_srli_epi16::<4>(x), _mm256_set1_epi8(15)),
            )
        }
        fn lookup(tables: __m256i, codes: __m256i) -> __m256i { _mm256_shuffle_epi8(tables, codes) }
        fn sum_groups(v: __m256) -> [f32; 4] {
            {
                let sums = _mm256_hadd_ps(v, v);
                let low = _mm256_castps256_ps128(sums);
                let high = _mm256_extractf128_ps::<1>(sums);
                std::mem::transmute::<__m128, [f32; 4]>(_mm_movelh_ps(low, high))
            }
        }
    }

    memory! {
        fn load_bytes(p: *const u8) -> __m256i { _mm256_loadu_si256(p.cast()) }
        fn store_bytes(p: *mut u8, b: __m256i) { _mm256_storeu_si256(p.cast(), b) }
        fn broadcast_bytes(p: *const u8) -> __m256i {
            _mm256_set1_epi32(p.cast::<i32>().read_unaligned())
        }
        fn load_ints(p: *const i32) -> __m256i { _mm256_loadu_si256(p.cast()) }
        fn store_ints(p: *mut i32, x: __m256i) { _mm256_storeu_si256(p.cast(), x) }
        fn store_lowest(p: *mut u8, x: __m256i) {
            {
                let lowest = _mm256_shuffle_epi8(x, _mm256_set1_epi32(0x0c08_0400));
                let halves = _mm256_unpacklo_epi32(lowest, _mm256_permute4x64_epi64::<0b10>(lowest));
                p.cast::<i64>().write_unaligned(_mm256_extract_epi64::<0>(halves))
            }
        }
        fn repeat_ints(p: *const i32) -> __m256i {
            _mm256_set1_epi64x(p.cast::<i64>().read_unaligned())
        }
        fn repeat(p: *const f32) -> __m256 {
            _mm256_castsi256_ps(_mm256_set1_epi64x(p.cast::<i64>().read_unaligned()))
        }
        fn q8_scales(rows: [*const f16; 4]) -> __m256 {
            {
                let [a, b, c, d] = rows.map(|row| row.cast::<i32>().read_unaligned());
                _mm256_cvtph_ps(_mm_setr_epi32(a, b, c, d))
            }
        }
        fn tables(tables: *const [u8; 16], selectors: *const u8) -> __m256i {
            _mm256_inserti128_si256::<1>(
                _mm256_castsi128_si256(_mm_loadu_si128(
                    tables.add(usize::from(*selectors)).cast(),
                )),
                _mm_loadu_si128(tables.add(usize::from(*selectors.add(1))).cast()),
            )
        }
        fn q4_scales(p: *const u8, steps: &Q4Scales) -> __m256 {
            q4_scales256(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast())), steps)
        }
    }
}

/// The tables of four selectors, a byte each.
///
/// # Safety
/// 256 tables are valid at `tables`.
#[inline]
#[target_feature(enable = "avx512f,avx2,bmi2")]
unsafe fn tables512(tables: *const [u8; 16], selectors: u32) -> __m512i {
    // Each selector times the 16 bytes of a table, in 16 bits.
    let offsets = _pdep_u64(selectors.into(), 0x0ff0_0ff0_0ff0_0ff0);
    let table = |group: u64| {
        let offset = offsets >> (16 * group) & 0xffff;
        // SAFETY: the caller promises 256 tables, and the selector is below 256.
        unsafe { _mm_loadu_si128(tables.byte_add(offset as usize).cast()) }
    };
    let first = _mm512_castsi128_si512(table(0));
    let second = _mm512_mask_broadcast_i32x4(first, 0x00f0, table(1));
    let third = _mm512_mask_broadcast_i32x4(second, 0x0f00, table(2));
    _mm512_mask_broadcast_i32x4(third, 0xf000, table(3))
}

/// Element `r` of each group: the sum of that group of register `r`.
#[inline]
#[target_feature(enable = "avx512f")]
fn reduce512(x: [__m512i; 4]) -> __m512i {
    let pair = |a, b| _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (t, u) = (pair(x[0], x[1]), pair(x[2], x[3]));
    _mm512_add_epi32(_mm512_unpacklo_epi64(t, u), _mm512_unpackhi_epi64(t, u))
}

/// As [`reduce512`], for two groups.
#[inline]
#[target_feature(enable = "avx2")]
fn reduce256(x: [__m256i; 4]) -> __m256i {
    let pair = |a, b| _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let (t, u) = (pair(x[0], x[1]), pair(x[2], x[3]));
    _mm256_add_epi32(_mm256_unpacklo_epi64(t, u), _mm256_unpackhi_epi64(t, u))
}

/// The product of two factors of each scale, each selected by three bits; bits 6 and 7 subtract two
/// and four octaves.
#[inline]
#[target_feature(enable = "avx2")]
fn q4_scales256(scale: __m256i, steps: &Q4Scales) -> __m256 {
    // SAFETY: both hold eight values.
    let [eighths, quarters] = steps
        .factors()
        .map(|factors| unsafe { _mm256_loadu_ps(factors.as_ptr()) });
    let eighth = _mm256_permutevar8x32_ps(eighths, scale);
    let quarter = _mm256_permutevar8x32_ps(quarters, _mm256_srli_epi32::<3>(scale));
    let octaves = _mm256_slli_epi32::<18>(_mm256_and_si256(scale, _mm256_set1_epi32(0xc0)));
    let rest = _mm256_sub_epi32(_mm256_castps_si256(quarter), octaves);
    _mm256_mul_ps(eighth, _mm256_castsi256_ps(rest))
}
