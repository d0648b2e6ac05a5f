//! The limits of this machine: the read bandwidth of its threads, and its peak rate of
//! multiply-adds of each type. The figures of a benchmark need these for comparison.
#![allow(unsafe_code, reason = "vector loads")]

#[cfg(target_arch = "x86_64")]
use crate::simd::Amx;
use crate::simd::{
    Bf16Dot, Bf16DotKernel, Int8, Kernel, dispatch, dispatch_bf16_dot, has_bf16_dot,
};
use crate::{level, pool};
use std::hint::black_box;
use std::time::Instant;

/// Peak operations a second in units of 10^9, at the level in use, with all threads of the pool. A
/// multiply-add counts as two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peaks {
    /// Multiply-adds of f32.
    pub f32: f64,
    /// bf16 dot products; `None` if the CPU has no such instruction.
    pub bf16: Option<f64>,
    /// Products of bf16 tiles, which prefills use if the level has them.
    pub bf16_tiles: Option<f64>,
    /// Dot products of bytes.
    pub int8: f64,
    /// Products of tiles of blocks of 32 bytes, which matmuls of more than 8 rows use if the level
    /// has them.
    pub int8_tiles: Option<f64>,
}

impl Peaks {
    /// The peaks that a prefill of more than 16 rows can reach.
    pub fn of_prefill(self) -> Self {
        Self {
            bf16: self.bf16_tiles.or(self.bf16),
            int8: self.int8_tiles.unwrap_or(self.int8),
            ..self
        }
    }
}

/// Measures the peaks: the best of three runs of a few milliseconds each.
pub fn peaks() -> Peaks {
    let level = level::level();
    let chains = |operations: usize| (operations * lanes() * CHAINS * ROUNDS) as f64;
    let bf16_dot = || best(|| dispatch_bf16_dot(level, Bf16), chains(4));
    #[cfg(target_arch = "x86_64")]
    let (bf16_tiles, int8_tiles) = {
        let amx = Amx::of(level);
        (amx.map(tiles::peak_of_bf16), amx.map(tiles::peak_of_bytes))
    };
    #[cfg(not(target_arch = "x86_64"))]
    let (bf16_tiles, int8_tiles) = (None, None);
    Peaks {
        f32: best(|| dispatch(level, F32), chains(2)),
        bf16: has_bf16_dot(level).then(bf16_dot),
        bf16_tiles,
        int8: best(|| dispatch(level, Bytes), chains(8)),
        int8_tiles,
    }
}

#[cfg(target_arch = "x86_64")]
mod tiles {
    use super::best;
    use crate::simd::{Amx, Bf16Tiles, ByteTiles, Int8, TileKernel, dispatch_tiles};

    const ROUNDS: usize = 1 << 16;

    pub(super) fn peak_of_bf16(amx: Amx) -> f64 {
        let work = || Bf16Tiles::with(amx, |tiles| tiles.spin(ROUNDS));
        best(work, (Bf16Tiles::OPERATIONS * ROUNDS) as f64)
    }

    pub(super) fn peak_of_bytes(amx: Amx) -> f64 {
        struct Spin;
        impl TileKernel for Spin {
            #[inline(always)]
            fn run<S: Int8>(self, _: S, tiles: &ByteTiles) {
                tiles.spin(ROUNDS);
            }
        }
        let work = || dispatch_tiles(amx, Spin);
        best(work, (ByteTiles::OPERATIONS * ROUNDS) as f64)
    }
}

/// The number of f32 in a vector of the level in use.
fn lanes() -> usize {
    struct Lanes<'a>(&'a mut usize);
    impl Kernel for Lanes<'_> {
        #[inline(always)]
        fn run<S: Int8>(self, _: S) {
            *self.0 = S::LANES;
        }
    }
    let mut lanes = 0;
    dispatch(level::level(), Lanes(&mut lanes));
    lanes
}

/// Independent chains of instructions: enough to hide a latency of six cycles at two a cycle.
const CHAINS: usize = 12;
/// Rounds of a run, each of `CHAINS` instructions: a few milliseconds.
const ROUNDS: usize = 1 << 20;

/// The rate of `work`, which performs `operations` operations on each thread.
fn best(work: impl Fn() + Sync, operations: f64) -> f64 {
    let threads = pool::threads();
    let run = || {
        let start = Instant::now();
        pool::run(threads, |_| work());
        operations * threads as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    (0..3).map(|_| run()).fold(0.0, f64::max)
}

struct F32;

impl Kernel for F32 {
    #[inline(always)]
    fn run<S: Int8>(self, s: S) {
        let a = s.splat(black_box(0.5));
        let mut sums = [a; CHAINS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = s.fma(*sum, a, a);
            }
        }
        for sum in sums {
            black_box(s.sum(sum));
        }
    }
}

struct Bytes;

impl Kernel for Bytes {
    #[inline(always)]
    fn run<S: Int8>(self, s: S) {
        // The operands differ between chains and rounds. Where a dot product is several
        // instructions, the compiler would otherwise move the constant part out of the loop.
        let bytes = black_box([3_u8; 64 + CHAINS]);
        // SAFETY: a register has at most 64 bytes, and no offset is beyond `CHAINS`.
        let at = |offset: usize| unsafe { s.load_bytes(bytes.as_ptr().add(offset)) };
        let weights: [_; CHAINS] = std::array::from_fn(at);
        let mut sums = [s.zero_ints(); CHAINS];
        for round in 0..ROUNDS {
            let a = at(round % CHAINS);
            for (sum, w) in sums.iter_mut().zip(weights) {
                *sum = s.dot(*sum, w, a);
            }
        }
        for sum in sums {
            black_box(s.sum(s.to_floats(sum)));
        }
    }
}

struct Bf16;

impl Bf16DotKernel for Bf16 {
    #[inline(always)]
    fn run<S: Int8, P: Bf16Dot<S>>(self, s: S, dot: P) {
        let half = s.splat(black_box(0.5));
        let a = dot.round(half, half);
        let mut sums = [half; CHAINS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = dot.dot(*sum, a, a);
            }
        }
        for sum in sums {
            black_box(s.sum(sum));
        }
    }
}

/// How a thread walks through its part of the memory. The machine decides which pattern is fastest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadPattern {
    /// From front to back.
    Front,
    /// From front to back, with prefetches 1 KB ahead.
    FrontAhead,
    /// Four streams, a quarter of the part apart, with prefetches 1 KB ahead.
    FourAhead,
}

impl ReadPattern {
    /// All patterns.
    pub const ALL: [Self; 3] = [Self::Front, Self::FrontAhead, Self::FourAhead];
}

/// Reads every whole cache line of `bytes` once, with all threads of the pool.
pub fn read(bytes: &[u8], pattern: ReadPattern) {
    read_all(&[bytes], pattern);
}

/// As [`read`] for several slices, one after the other, in one parallel region, so that many slices
/// cost no more than one.
pub fn read_all(slices: &[&[u8]], pattern: ReadPattern) {
    let parts = pool::threads();
    let level = level::level();
    pool::run(parts, |part| {
        for bytes in slices {
            let bytes = &bytes[pool::share(bytes.len(), 256, parts, part)];
            dispatch(level, Read { bytes, pattern });
        }
    });
}

struct Read<'a> {
    bytes: &'a [u8],
    pattern: ReadPattern,
}

impl Kernel for Read<'_> {
    #[inline(always)]
    fn run<S: Int8>(self, s: S) {
        match self.pattern {
            ReadPattern::Front => walk::<S, 1, 0>(s, self.bytes),
            ReadPattern::FrontAhead => walk::<S, 1, 1024>(s, self.bytes),
            ReadPattern::FourAhead => walk::<S, 4, 1024>(s, self.bytes),
        }
    }
}

#[inline(always)]
fn walk<S: Int8, const STREAMS: usize, const AHEAD: usize>(s: S, bytes: &[u8]) {
    let stream = bytes.len() / STREAMS / 64 * 64;
    let mut sums = [s.zero_ints(); 4];
    let vectors = 64 / (4 * S::LANES);
    for line in (0..stream).step_by(64) {
        for i in 0..STREAMS {
            let p = bytes.as_ptr().wrapping_add(i * stream + line);
            if AHEAD > 0 {
                s.prefetch(p.wrapping_add(AHEAD));
            }
            for v in 0..vectors {
                // SAFETY: a whole line of the stream, and the stream is inside `bytes`.
                let x = unsafe { s.load_ints(p.cast::<i32>().wrapping_add(v * S::LANES)) };
                let sum = &mut sums[(i + v) % 4];
                *sum = s.add_ints(*sum, x);
            }
        }
    }
    for sum in sums {
        black_box(s.sum(s.to_floats(sum)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::Level;

    #[test]
    fn peaks_are_of_a_machine_that_works() {
        let Peaks {
            f32,
            bf16,
            bf16_tiles,
            int8,
            int8_tiles,
        } = peaks();
        assert!(f32 > 0.1 && f32.is_finite(), "{f32}");
        assert!(int8 > 0.1 && int8.is_finite(), "{int8}");
        // No exact ratio is tested, since other work on the machine slows one measurement and not
        // the next. But where vectors are used, no integer instruction does more than four times
        // the f32 rate; an empty loop, left by the compiler, would show far more.
        if level::level() > Level::Scalar {
            assert!(int8 < 10.0 * f32, "int8 {int8}, f32 {f32}");
        }
        for peak in [bf16, bf16_tiles, int8_tiles].into_iter().flatten() {
            assert!(peak > 0.1 && peak.is_finite(), "{peak}");
        }
        assert!(bf16_tiles.is_none() || bf16.is_some());
        assert_eq!(bf16_tiles.is_some(), int8_tiles.is_some());
    }

    #[test]
    fn reads_of_any_length_stay_inside() {
        let bytes = vec![1; 10_000];
        for len in [0, 1, 63, 64, 255, 256, 1000, 10_000] {
            for pattern in ReadPattern::ALL {
                read(&bytes[..len], pattern);
                read_all(&[&bytes[len..], &[], &bytes[..len]], pattern);
            }
        }
    }
}
