//! Whether AMX can be used: by the CPU's word, and with the system's permission.
#![allow(unsafe_code, reason = "cpuid, and a system call that has no safe form")]

/// Whether the CPU has AMX for bf16 and bytes, and the system permits this process to use it; the
/// permission is requested here.
pub(super) fn may_use_tiles() -> bool {
    has_amx() && is_permitted()
}

#[cfg(target_arch = "x86_64")]
fn has_amx() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    /// Leaf 7, EDX: AMX-BF16, AMX-TILE and AMX-INT8.
    const FEATURES: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    // SAFETY: every x86-64 CPU has the instruction, and leaf 0 tells whether there is a leaf 7.
    #[allow(unused_unsafe, reason = "safe since Rust 1.94")]
    unsafe {
        __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & FEATURES == FEATURES
    }
}

/// Tiles are 8 KB that the system saves for a thread, so Linux must permit it. The permission is the
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
