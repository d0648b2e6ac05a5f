//! How the process's allocator treats freed memory.
#![allow(unsafe_code, reason = "mallopt is a C function")]

/// Makes the allocator keep freed memory for the next allocation, if it is glibc's.
///
/// Each layer frees activations and allocates new ones. glibc returns blocks of several megabytes
/// to the system each time, and the system clears their pages again, which costs several percent of
/// a prefill. A program calls this once, before it loads a model; other allocators are not changed.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt accepts any numbers, and only tunes the allocator.
    unsafe {
        // The largest threshold that glibc accepts on 64 bits.
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 1 << 30);
    }
}
