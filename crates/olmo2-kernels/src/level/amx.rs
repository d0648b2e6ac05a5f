//! Whether AMX can be used: the CPU has it, and the system permits it.
#![allow(unsafe_code, reason = "cpuid, and a system call that has no safe form")]

/// Whether the CPU has AMX for bf16 and bytes and the system permits this process to use it. The
/// call requests the permission.
pub(super) fn may_use_tiles() -> bool {
    has_amx() && is_permitted()
}

#[cfg(target_arch = "x86_64")]
fn has_amx() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    /// Leaf 7, EDX: AMX-BF16, AMX-TILE and AMX-INT8.
    const FEATURES: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    // SAFETY: every x86-64 CPU has the instruction, and leaf 0 says whether leaf 7 exists.
    #[allow(unused_unsafe, reason = "safe since Rust 1.94")]
    unsafe {
        __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & FEATURES == FEATURES
    }
}

/// Requests permission to use AMX. The system saves 8 KB of tiles for each thread, so Linux
/// requires a request. The permission holds for the whole process; from then on alternative signal
/// stacks need room for the tiles.
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
