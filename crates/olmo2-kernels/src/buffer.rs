//! Memory of the kernels: scratch that starts on a cache line, and outputs that several threads
//! write, each its own elements.
#![allow(
    unsafe_code,
    reason = "threads write disjoint, strided parts of one slice"
)]

use std::cell::RefCell;
use std::marker::PhantomData;

/// One cache line of f32, so that a `Vec` of them is aligned.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Scratch of f32, aligned to a cache line. It grows and is kept for the next call.
pub(crate) struct Scratch(Vec<Line>);

impl Scratch {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// The first `len` elements, of unspecified values.
    pub(crate) fn get(&mut self, len: usize) -> &mut [f32] {
        let lines = len.div_ceil(16);
        if self.0.len() < lines {
            self.0.resize(lines, Line([0.0; 16]));
        }
        // SAFETY: a `Line` is 16 f32 without padding, and the vector holds at least `len` f32.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), len) }
    }
}

/// Runs `work` on `len` elements of the thread's own `scratch`, or of new memory where the thread
/// is already using its scratch (a kernel inside a kernel).
pub(crate) fn with_scratch<T>(
    scratch: &'static std::thread::LocalKey<RefCell<Scratch>>,
    len: usize,
    work: impl FnOnce(&mut [f32]) -> T,
) -> T {
    scratch.with(|scratch| match scratch.try_borrow_mut() {
        Ok(mut scratch) => work(scratch.get(len)),
        Err(_) => work(Scratch::new().get(len)),
    })
}

/// A mutable slice whose elements several threads write, each its own.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut<'a, T = f32> {
    start: *mut T,
    len: usize,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: access goes through `at`, whose callers promise that no two threads touch an element.
unsafe impl<T: Send> Send for SharedMut<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}

impl<'a, T: Copy> SharedMut<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            len: slice.len(),
            life: PhantomData,
        }
    }

    /// The number of elements.
    pub(crate) fn len(self) -> usize {
        self.len
    }

    /// The `count` elements from `index`, for one thread to write.
    ///
    /// # Panics
    /// Some of them are outside.
    pub(crate) fn part(self, index: usize, count: usize) -> Self {
        let start = self.at(index, count);
        Self {
            start,
            len: count,
            ..self
        }
    }

    /// A pointer to `count` elements from `index`.
    ///
    /// # Panics
    /// Some of them are outside.
    #[inline(always)]
    pub(crate) fn at(self, index: usize, count: usize) -> *mut T {
        assert!(
            index + count <= self.len,
            "an output of {} is too short",
            self.len
        );
        // SAFETY: inside the slice, as just checked.
        unsafe { self.start.add(index) }
    }
}

/// New memory for an output. It is not zeroed: one thread would need as long for that as a whole
/// pass.
pub(crate) struct Unwritten {
    values: Vec<f32>,
    len: usize,
}

impl Unwritten {
    pub(crate) fn new(len: usize) -> Self {
        let mut values = Vec::with_capacity(len);
        if cfg!(test) {
            // NaN makes an element visible that no kernel wrote.
            values.spare_capacity_mut()[..len].fill(std::mem::MaybeUninit::new(f32::NAN));
        }
        Self { values, len }
    }

    pub(crate) fn shared(&mut self) -> SharedMut<'_> {
        SharedMut {
            start: self.values.as_mut_ptr(),
            len: self.len,
            life: PhantomData,
        }
    }

    /// # Safety
    /// Every element has been written.
    pub(crate) unsafe fn written(mut self) -> Vec<f32> {
        // SAFETY: the capacity is at least `len`; the caller promises the rest.
        unsafe { self.values.set_len(self.len) };
        self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_is_aligned_and_has_the_requested_length() {
        let mut scratch = Scratch::new();
        for len in [0, 1, 16, 17, 1000, 3] {
            let slice = scratch.get(len);
            assert_eq!(slice.len(), len);
            assert_eq!(slice.as_ptr() as usize % 64, 0);
        }
    }

    #[test]
    #[should_panic(expected = "too short")]
    fn a_shared_slice_checks_its_bounds() {
        SharedMut::new(&mut [0.0; 4]).at(3, 2);
    }
}
