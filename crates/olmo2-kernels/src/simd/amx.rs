//! AMX: eight registers that are tiles of up to 16 rows of 64 bytes, and instructions that
//! multiply two of them and add to a third. Their intrinsics are not stable, so they are
//! assembly. No tile lives from one block of assembly to the next; what lives is their shapes,
//! as long as a guard: the compiler, to which the feature is off, has no use for these registers.

use crate::level::{self, Level};
use std::arch::asm;
use std::marker::PhantomData;

/// Numbers of a tile's row, and its rows.
pub(crate) const SIDE: usize = 16;

/// A CPU with AMX for bf16, and a system that lets this process use it.
#[derive(Clone, Copy)]
pub(crate) struct Amx(());

impl Amx {
    /// `None` where `level`, or what the CPU has, is less.
    pub(crate) fn of(level: Level) -> Option<Self> {
        (level.min(level::detected()) == Level::Amx).then_some(Self(()))
    }
}

/// Whether the CPU has AMX for bf16, and the system gives leave; it is asked for here.
pub(crate) fn may_use_tiles() -> bool {
    has_amx() && is_permitted()
}

#[cfg(target_arch = "x86_64")]
fn has_amx() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    /// Leaf 7, EDX: AMX-BF16 and AMX-TILE.
    const FEATURES: u32 = 1 << 22 | 1 << 24;
    // SAFETY: every x86-64 CPU has the instruction, and leaf 0 tells whether there is a leaf 7.
    #[allow(unused_unsafe, reason = "safe since Rust 1.94")]
    unsafe {
        __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & FEATURES == FEATURES
    }
}

/// Tiles are 8 KB that the system saves for a thread, so Linux wants to be asked. Leave is the
/// whole process's, and from then on alternative stacks for signals must have room for them.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn is_permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: this request takes a number and no memory; it fails where a stack is too small.
    unsafe {
        libc::syscall(
            libc::SYS_arch_prctl,
            ARCH_REQ_XCOMP_PERM,
            XFEATURE_XTILEDATA,
        ) == 0
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn is_permitted() -> bool {
    false
}

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_of_row: [u16; 16],
    rows: [u8; 16],
}

/// Products of bf16: three strips of 16 weight rows with 16 rows of activations. This thread's
/// tiles have their shapes, 16 rows of 64 bytes, until this is dropped; [`with`](Self::with) makes
/// it, and lets nobody keep it.
pub(crate) struct PairTiles {
    /// It is of one thread.
    _thread: PhantomData<*mut ()>,
}

impl Drop for PairTiles {
    fn drop(&mut self) {
        // SAFETY: an `Amx` was there, so the CPU has the instruction.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
    }
}

impl PairTiles {
    /// Strips of weight rows.
    pub(crate) const STRIPS: usize = 3;
    /// Pairs of a step.
    pub(crate) const PAIRS: usize = SIDE;

    /// Runs `work`, which makes no others, with configured tiles.
    #[inline(always)]
    pub(crate) fn with(_: Amx, work: impl FnOnce(&Self)) {
        let mut shapes = Shapes {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            bytes_of_row: [0; 16],
            rows: [0; 16],
        };
        shapes.bytes_of_row[..8].fill(64);
        shapes.rows[..8].fill(SIDE as u8);
        // SAFETY: the CPU has AMX, whose first palette has eight tiles of 16 rows of 64 bytes.
        unsafe {
            asm!(
                "ldtilecfg [{shapes}]",
                shapes = in(reg) &raw const shapes,
                options(nostack, readonly, preserves_flags),
            );
        }
        let tiles = Self {
            _thread: PhantomData,
        };
        work(&tiles);
    }

    /// Operations of a round of [`spin`](Self::spin): four products of tiles, a multiply-add
    /// counting as two.
    pub(crate) const OPERATIONS: usize = 4 * 2 * SIDE * SIDE * 2 * SIDE;

    /// Multiplies zeros that are in registers already, for as many rounds.
    pub(crate) fn spin(&self, rounds: usize) {
        // SAFETY: the tiles are configured, and no memory is touched.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "tilezero tmm4",
                "tilezero tmm5",
                "2:",
                "tdpbf16ps tmm0, tmm4, tmm5",
                "tdpbf16ps tmm1, tmm4, tmm5",
                "tdpbf16ps tmm2, tmm4, tmm5",
                "tdpbf16ps tmm3, tmm4, tmm5",
                "sub {rounds}, 1",
                "ja 2b",
                rounds = inout(reg) rounds => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _,
                out("tmm5") _,
                options(nostack, nomem),
            );
        }
    }

    /// Adds `steps` steps of 16 pairs to `sums`, or puts them there where `is_first`.
    ///
    /// `weights` has `16 * STRIPS` rows of pairs, `weights_stride` bytes apart; `x` is
    /// `[steps * 16, 16]` pairs; `sums` has a row of 16 f32 for each weight row,
    /// `sums_stride` bytes apart.
    ///
    /// # Safety
    /// `weights` and `x` are valid to read, `sums` to read and write; `steps` is not 0.
    #[inline(always)]
    pub(crate) unsafe fn add(
        &self,
        (weights, weights_stride): (*const u8, usize),
        x: *const u8,
        steps: usize,
        (sums, sums_stride): (*mut u8, usize),
        is_first: bool,
    ) {
        debug_assert_ne!(steps, 0);
        // SAFETY: the tiles are configured; memory is promised by the caller.
        unsafe {
            asm!(
                "test {is_first:e}, {is_first:e}",
                "jz 2f",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "jmp 3f",
                "2:",
                "tileloadd tmm0, [{s0} + {ss}]",
                "tileloadd tmm1, [{s1} + {ss}]",
                "tileloadd tmm2, [{s2} + {ss}]",
                "3:",
                "tileloadd tmm3, [{x} + {line}]",
                "tileloadd tmm4, [{w0} + {ws}]",
                "tdpbf16ps tmm0, tmm4, tmm3",
                "tileloadd tmm5, [{w1} + {ws}]",
                "tdpbf16ps tmm1, tmm5, tmm3",
                "tileloadd tmm6, [{w2} + {ws}]",
                "tdpbf16ps tmm2, tmm6, tmm3",
                "add {x}, 1024",
                "add {w0}, 64",
                "add {w1}, 64",
                "add {w2}, 64",
                "dec {steps}",
                "jnz 3b",
                "tilestored [{s0} + {ss}], tmm0",
                "tilestored [{s1} + {ss}], tmm1",
                "tilestored [{s2} + {ss}], tmm2",
                is_first = in(reg) u32::from(is_first),
                s0 = in(reg) sums,
                s1 = in(reg) sums.wrapping_add(SIDE * sums_stride),
                s2 = in(reg) sums.wrapping_add(2 * SIDE * sums_stride),
                ss = in(reg) sums_stride,
                x = inout(reg) x => _,
                line = in(reg) 64_usize,
                w0 = inout(reg) weights => _,
                w1 = inout(reg) weights.wrapping_add(SIDE * weights_stride) => _,
                w2 = inout(reg) weights.wrapping_add(2 * SIDE * weights_stride) => _,
                ws = in(reg) weights_stride,
                steps = inout(reg) steps => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _,
                options(nostack),
            );
        }
    }
}
