//! Work that threads take in small pieces: each its own share in order, as one long stream, and
//! then what others have not begun, so that none waits for a slower one.

use super::Product;
use crate::pool;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Pieces of a share: few enough that taking them costs nothing, so many that a region's threads
/// end together.
const PIECES: usize = 32;

/// So many things, to be done by some threads.
pub(super) struct Pieces {
    total: usize,
    step: usize,
    /// How many things of each share are taken.
    taken: Vec<AtomicUsize>,
}

impl Pieces {
    pub(super) fn new(total: usize, parts: usize) -> Self {
        Self {
            total,
            step: total.div_ceil(parts * PIECES).max(1),
            taken: (0..parts).map(|_| AtomicUsize::new(0)).collect(),
        }
    }

    /// The groups of features of each product.
    pub(super) fn of_groups<'a>(
        products: impl Iterator<Item = &'a Product<'a>>,
        parts: usize,
    ) -> Vec<Self> {
        products
            .map(|product| Self::new(product.groups(), parts))
            .collect()
    }

    /// The next piece of a share.
    fn take(&self, share: usize) -> Option<Range<usize>> {
        let range = pool::share(self.total, 1, self.taken.len(), share);
        let start = range.start + self.taken[share].fetch_add(self.step, Ordering::Relaxed);
        (start < range.end).then(|| start..range.end.min(start + self.step))
    }
}

/// Calls `work(i, piece)` for every piece of each `pieces[i]`, once, on at most as many threads as
/// there are shares.
///
/// # Panics
/// As [`pool::run`], and if there are not `parts` shares.
pub(super) fn run(parts: usize, pieces: &[Pieces], work: impl Fn(usize, Range<usize>) + Sync) {
    assert!(pieces.iter().all(|pieces| pieces.taken.len() == parts));
    pool::run(parts, |part| {
        for share in (part..parts).chain(0..part) {
            for (i, pieces) in pieces.iter().enumerate() {
                while let Some(piece) = pieces.take(share) {
                    work(i, piece);
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_done_once() {
        for parts in 1..5 {
            let totals = [0, 1, 5, 1000, 1001];
            let pieces = totals.map(|total| Pieces::new(total, parts));
            let done =
                totals.map(|total| (0..total).map(|_| AtomicUsize::new(0)).collect::<Vec<_>>());
            run(parts, &pieces, |i, piece| {
                for done in &done[i][piece] {
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
            assert!(
                done.iter()
                    .flatten()
                    .all(|done| done.load(Ordering::Relaxed) == 1)
            );
        }
    }

    #[test]
    fn what_a_slow_thread_has_not_begun_is_taken_by_others() {
        let pieces = [Pieces::new(64, 2)];
        let slow = pieces[0].take(1).unwrap();
        assert_eq!(slow, 32..33);
        let rest: usize = [0, 1]
            .map(|share| {
                std::iter::from_fn(|| pieces[0].take(share))
                    .map(|piece| piece.len())
                    .sum::<usize>()
            })
            .into_iter()
            .sum();
        assert_eq!(rest, 63);
    }
}
