//! Rows distributed to the threads.

use crate::pool;
use std::sync::{Mutex, PoisonError};

/// Calls `work` once with each of `parts`, spread over the threads.
pub(super) fn each<T: Send>(parts: impl Iterator<Item = T>, work: impl Fn(T) + Sync) {
    let parts: Vec<Mutex<Option<T>>> = parts.map(|part| Mutex::new(Some(part))).collect();
    pool::run(parts.len(), |i| {
        let part = parts[i]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        part.into_iter().for_each(&work);
    });
}

/// Rows of a part, such that each thread has one part.
pub(super) fn rows_each(rows: usize) -> usize {
    rows.div_ceil(pool::threads()).max(1)
}
