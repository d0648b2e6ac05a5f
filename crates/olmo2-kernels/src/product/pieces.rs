//! The schedule of a parallel region. Each thread takes its own share of the work in small items,
//! in order, as one long stream. Then it takes items that others have not started, so that no
//! thread waits for a slower one.

use crate::pool;
use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Items of a share: few enough that taking them costs nothing, and enough of them that a region's
/// threads end together.
const ITEMS_PER_SHARE: usize = 32;

thread_local! {
    /// Kept from call to call, so that a decoded token allocates none.
    static SHARES: Cell<Vec<Share>> = const { Cell::new(Vec::new()) };
}

/// One thread's share of one total. Aligned so that no two shares use the same pair of cache lines.
#[repr(align(128))]
struct Share {
    /// The first that no thread has taken.
    next: AtomicUsize,
    end: usize,
    /// The size of an item.
    step: usize,
}

impl Share {
    fn new(total: usize, parts: usize, part: usize) -> Self {
        let range = pool::share(total, 1, parts, part);
        Self {
            next: AtomicUsize::new(range.start),
            end: range.end,
            step: total.div_ceil(parts * ITEMS_PER_SHARE),
        }
    }

    fn take(&self) -> Option<Range<usize>> {
        let start = self.next.fetch_add(self.step, Ordering::Relaxed);
        (start < self.end).then(|| start..self.end.min(start + self.step))
    }
}

/// Calls `work(i, item)` on up to `parts` threads. The items of each `i` cover `0..totals[i]` once.
///
/// # Panics
/// As [`pool::run`].
pub(super) fn run(
    parts: usize,
    totals: impl Iterator<Item = usize>,
    work: impl Fn(usize, Range<usize>) + Sync,
) {
    let mut shares = SHARES.take();
    shares.clear();
    let of = |total| (0..parts).map(move |part| Share::new(total, parts, part));
    shares.extend(totals.flat_map(of));
    pool::run(parts, |part| {
        for part in (part..parts).chain(0..part) {
            for (i, share) in shares.iter().skip(part).step_by(parts).enumerate() {
                while let Some(item) = share.take() {
                    work(i, item);
                }
            }
        }
    });
    SHARES.set(shares);
}

/// As [`run`], with items that begin at a multiple of `step`.
pub(super) fn run_by(
    parts: usize,
    step: usize,
    totals: &(impl Iterator<Item = usize> + Clone + Sync),
    work: impl Fn(usize, Range<usize>) + Sync,
) {
    let steps = totals.clone().map(|total| total.div_ceil(step));
    run(parts, steps, |i, steps| {
        let total = totals.clone().nth(i).unwrap_or(0);
        work(i, steps.start * step..total.min(steps.end * step));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_done_once() {
        for parts in 1..5 {
            let totals = [0, 1, 5, 1000, 1001];
            let done =
                totals.map(|total| (0..total).map(|_| AtomicUsize::new(0)).collect::<Vec<_>>());
            run(parts, totals.into_iter(), |i, item| {
                for done in &done[i][item] {
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
    fn items_of_whole_steps_are_all_of_it() {
        for (parts, step) in [(1, 1), (2, 8), (3, 48)] {
            let totals = [0, 1, 47, 48, 1001];
            let done = totals.map(|_| AtomicUsize::new(0));
            run_by(parts, step, &totals.into_iter(), |i, item| {
                assert!(item.start.is_multiple_of(step) && item.end <= totals[i]);
                done[i].fetch_add(item.len(), Ordering::Relaxed);
            });
            assert_eq!(done.map(AtomicUsize::into_inner), totals);
        }
    }

    #[test]
    fn what_a_slow_thread_has_not_begun_is_taken_by_others() {
        let shares = [0, 1].map(|part| Share::new(64, 2, part));
        let slow = shares[1].take().unwrap();
        assert_eq!(slow, 32..33);
        let rest: usize = shares
            .iter()
            .flat_map(|share| std::iter::from_fn(|| share.take()))
            .map(|item| item.len())
            .sum();
        assert_eq!(rest, 63);
    }
}
