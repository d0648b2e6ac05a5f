//! AMX: eight tile registers of up to 16 rows of 64 bytes, and instructions that multiply two tiles
//! and add to a third. Their intrinsics are not stable, so they are written in assembly. No tile
//! keeps its value from one block of assembly to the next; only the shapes of the tiles persist, as
//! long as a guard lives. The compiler does not use these registers, since the feature is off.

use crate::level::{self, Level};
use std::arch::asm;
use std::cell::Cell;
use std::marker::PhantomData;

/// Values in a row of a tile, and rows of a tile.
pub(crate) const SIDE: usize = 16;

/// Proof that the CPU has AMX for bf16 and bytes, and that the system permits this process to use
/// it.
#[derive(Clone, Copy)]
pub(crate) struct Amx(());

impl Amx {
    /// `None` if `level`, or the CPU's highest level, is lower.
    pub(crate) fn of(level: Level) -> Option<Self> {
        (level.min(level::detected()) == Level::Amx).then_some(Self(()))
    }
}

/// The operand of `ldtilecfg`.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_of_row: [u16; 16],
    rows: [u8; 16],
}

impl Shapes {
    /// Rows, and bytes of each row, of tiles 0 to 7.
    fn new(tiles: [(u8, u16); 8]) -> Self {
        let mut shapes = Self {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            bytes_of_row: [0; 16],
            rows: [0; 16],
        };
        for (i, (rows, bytes)) in tiles.into_iter().enumerate() {
            shapes.rows[i] = rows;
            shapes.bytes_of_row[i] = bytes;
        }
        shapes
    }
}

thread_local! {
    static CONFIGURED: Cell<bool> = const { Cell::new(false) };
}

/// This thread's tiles while they have shapes.
struct Configured {
    /// The shapes belong to one thread.
    _thread: PhantomData<*mut ()>,
}

impl Configured {
    /// # Panics
    /// The thread's tiles have shapes already.
    ///
    /// # Safety
    /// The shapes fit the first palette: eight tiles of at most 16 rows of 64 bytes.
    unsafe fn new(_: Amx, shapes: &Shapes) -> Self {
        assert!(
            !CONFIGURED.replace(true),
            "a kernel of tiles inside another"
        );
        // SAFETY: the CPU has AMX; the caller promises the shapes.
        unsafe {
            asm!(
                "ldtilecfg [{shapes}]",
                shapes = in(reg) &raw const *shapes,
                options(nostack, readonly, preserves_flags),
            );
        }
        Self {
            _thread: PhantomData,
        }
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        // SAFETY: the value was made from an `Amx`, so the CPU has the instruction.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
        CONFIGURED.set(false);
    }
}

/// Reads the ends of rows that assembly is about to read. The tests run under AddressSanitizer,
/// which does not see the reads of assembly.
///
/// # Safety
/// The rows are valid to read.
#[inline(always)]
unsafe fn show(start: *const u8, stride: usize, rows: usize, bytes: usize) {
    if cfg!(test) {
        for row in 0..rows {
            // SAFETY: promised by the caller.
            unsafe {
                let row = start.add(row * stride);
                row.read_volatile();
                row.add(bytes - 1).read_volatile();
            }
        }
    }
}

/// Multiplies tiles of zeros by one of the instructions, four products a round. The tiles have
/// their shapes.
macro_rules! spin {
    ($product:literal, $rounds:ident) => {
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
                concat!($product, " tmm0, tmm4, tmm5"),
                concat!($product, " tmm1, tmm4, tmm5"),
                concat!($product, " tmm2, tmm4, tmm5"),
                concat!($product, " tmm3, tmm4, tmm5"),
                "sub {rounds}, 1",
                "ja 2b",
                rounds = inout(reg) $rounds => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _,
                out("tmm5") _,
                options(nostack, nomem),
            );
        }
    };
}

/// bf16 tiles: three strips of 16 weight rows times 16 rows of activations. This thread's tiles
/// have their shapes, 16 rows of 64 bytes, until this is dropped. Only [`with`](Self::with) makes a
/// value, and it lends it to a closure.
pub(crate) struct Bf16Tiles {
    _shapes: Configured,
}

impl Bf16Tiles {
    /// Strips of weight rows.
    pub(crate) const STRIPS: usize = 3;
    /// Pairs of bf16 in a step.
    pub(crate) const PAIRS: usize = SIDE;

    /// Runs `work` with configured tiles.
    ///
    /// # Panics
    /// Called inside `work` of another call.
    #[inline(always)]
    pub(crate) fn with(amx: Amx, work: impl FnOnce(&Self)) {
        let shapes = Shapes::new([(SIDE as u8, 64); 8]);
        // SAFETY: the shapes are the palette's own.
        let _shapes = unsafe { Configured::new(amx, &shapes) };
        work(&Self { _shapes });
    }

    /// Operations of a round of [`spin`](Self::spin): four tile products. A multiply-add counts as
    /// two.
    pub(crate) const OPERATIONS: usize = 4 * 2 * SIDE * SIDE * 2 * SIDE;

    /// Multiplies zeros in registers for the given number of rounds.
    pub(crate) fn spin(&self, rounds: usize) {
        spin!("tdpbf16ps", rounds);
    }

    /// Adds `steps` steps of 16 pairs to `sums`, or overwrites `sums` if `is_first`.
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
        // SAFETY: the tiles are configured; the caller promises the memory.
        unsafe {
            show(weights, weights_stride, SIDE * Self::STRIPS, steps * 64);
            show(x, 64, steps * SIDE, 64);
            show(sums, sums_stride, SIDE * Self::STRIPS, 64);
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

/// Byte tiles: blocks of 32 signed bytes of 16 weight rows times 16 rows of activations.
pub(crate) struct ByteTiles {
    _shapes: Configured,
}

/// Exact dot products of a block, `[weight row][row of activations]`.
pub(crate) type Dots = [[i32; SIDE]; SIDE];

impl ByteTiles {
    /// # Panics
    /// This thread's tiles have shapes already.
    pub(crate) fn new(amx: Amx) -> Self {
        const SUMS: (u8, u16) = (SIDE as u8, 64);
        const WEIGHTS: (u8, u16) = (SIDE as u8, 32);
        const X: (u8, u16) = (8, 64);
        let shapes = Shapes::new([SUMS, SUMS, SUMS, SUMS, WEIGHTS, X, WEIGHTS, X]);
        // SAFETY: the shapes are no larger than the palette's.
        let _shapes = unsafe { Configured::new(amx, &shapes) };
        Self { _shapes }
    }

    /// Operations of a round of [`spin`](Self::spin), as [`Bf16Tiles::OPERATIONS`].
    pub(crate) const OPERATIONS: usize = 4 * 2 * SIDE * SIDE * 32;

    /// Multiplies blocks of zeros in registers for the given number of rounds.
    pub(crate) fn spin(&self, rounds: usize) {
        spin!("tdpbssd", rounds);
    }

    /// The products of two blocks. With two, the second is multiplied while the first is being
    /// stored.
    ///
    /// For each block, `weights` has 16 rows of 32 bytes, `stride` bytes apart, and `x` is `[8, 16,
    /// 4]` bytes.
    ///
    /// # Safety
    /// `weights` and `x` are valid to read, `dots` to write.
    #[inline(always)]
    pub(crate) unsafe fn multiply(
        &self,
        weights: [*const u8; 2],
        stride: usize,
        x: [*const u8; 2],
        dots: *mut [Dots; 2],
    ) {
        // SAFETY: the tiles are configured; the caller promises the memory.
        unsafe {
            for i in 0..2 {
                show(weights[i], stride, SIDE, 32);
                show(x[i], 64, 8, 64);
            }
            asm!(
                "tilezero tmm0",
                "tileloadd tmm4, [{w0} + {stride}]",
                "tileloadd tmm5, [{x0} + {line}]",
                "tdpbssd tmm0, tmm4, tmm5",
                "tilezero tmm1",
                "tileloadd tmm6, [{w1} + {stride}]",
                "tileloadd tmm7, [{x1} + {line}]",
                "tdpbssd tmm1, tmm6, tmm7",
                "tilestored [{dots} + {line}], tmm0",
                "tilestored [{dots} + {line} + 1024], tmm1",
                w0 = in(reg) weights[0],
                w1 = in(reg) weights[1],
                stride = in(reg) stride,
                x0 = in(reg) x[0],
                x1 = in(reg) x[1],
                line = in(reg) 64_usize,
                dots = in(reg) dots,
                out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm5") _, out("tmm6") _,
                out("tmm7") _,
                options(nostack, preserves_flags),
            );
        }
    }
}
