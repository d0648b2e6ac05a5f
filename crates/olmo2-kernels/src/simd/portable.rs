//! Vectors as arrays of four, which compilers turn into one register on SSE2 and NEON.

use super::Simd;
use half::{bf16, f16};
use std::array::from_fn;

/// The level that every CPU has.
#[derive(Clone, Copy)]
pub(super) struct Portable;

type V = [f32; 4];

impl Simd for Portable {
    type V = V;
    const LANES: usize = 4;
    const DECODE_ROWS: usize = 2;
    const PREFILL_ROWS: usize = 4;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        [x; 4]
    }
    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        [a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]]
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        [a[0] - b[0], a[1] - b[1], a[2] - b[2], a[3] - b[3]]
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        [a[0] * b[0], a[1] * b[1], a[2] * b[2], a[3] * b[3]]
    }
    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        [a[0] / b[0], a[1] / b[1], a[2] / b[2], a[3] / b[3]]
    }
    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn fma(self, a: V, b: V, c: V) -> V {
        // Rounded twice, because `mul_add` is a slow library call on CPUs without the instruction.
        self.add(self.mul(a, b), c)
    }
    #[inline(always)]
    fn pow2(self, n: V) -> V {
        from_fn(|i| f32::from_bits(((n[i] as i32 + 127) << 23) as u32))
    }
    #[inline(always)]
    fn sum(self, v: V) -> f32 {
        (v[0] + v[2]) + (v[1] + v[3])
    }
    #[inline(always)]
    fn max_element(self, v: V) -> f32 {
        v[0].max(v[1]).max(v[2].max(v[3]))
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> V {
        // SAFETY: the caller promises four elements.
        unsafe { p.cast::<V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: V) {
        // SAFETY: the caller promises four elements.
        unsafe { p.cast::<V>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const bf16) -> V {
        // SAFETY: the caller promises four elements.
        let x = unsafe { p.cast::<[u16; 4]>().read_unaligned() };
        from_fn(|i| f32::from_bits(u32::from(x[i]) << 16))
    }
    #[inline(always)]
    unsafe fn load_bf16_split(self, p: *const bf16) -> (V, V) {
        // SAFETY: the caller promises eight elements.
        let x = unsafe { p.cast::<[u16; 8]>().read_unaligned() };
        (
            from_fn(|i| f32::from_bits(u32::from(x[2 * i]) << 16)),
            from_fn(|i| f32::from_bits(u32::from(x[2 * i + 1]) << 16)),
        )
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const f16) -> V {
        // SAFETY: the caller promises four elements.
        let x = unsafe { p.cast::<[f16; 4]>().read_unaligned() };
        from_fn(|i| x[i].to_f32())
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> V {
        // SAFETY: the caller promises four elements.
        let x = unsafe { p.cast::<[i8; 4]>().read_unaligned() };
        from_fn(|i| f32::from(x[i]))
    }
    #[inline(always)]
    unsafe fn transpose(
        self,
        from: *const f32,
        from_stride: usize,
        to: *mut f32,
        to_stride: usize,
    ) {
        for i in 0..4 {
            for j in 0..4 {
                // SAFETY: the caller promises both blocks.
                unsafe { *to.add(j * to_stride + i) = *from.add(i * from_stride + j) };
            }
        }
    }
    #[inline(always)]
    fn prefetch<T>(self, _: *const T) {}
    #[inline(always)]
    fn prefetch_second<T>(self, _: *const T) {}
}
