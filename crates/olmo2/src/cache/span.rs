//! Which positions the layers of one kind keep, and where they lie.

use super::Run;

/// The positions that layers of one kind keep of each slot: all of them, or those that a sliding
/// window can still reach.
///
/// A window's positions lie in their order from the beginning of the slot. When a run does not fit
/// behind them, the last `window - 1` move to the beginning: once for each chunk of tokens, so that
/// kernels read one range of keys, which costs less than a ring, whose keys lie in two.
#[derive(Debug, Clone)]
pub(super) struct Span {
    pub(super) window: Option<usize>,
    /// The first position that is kept of each slot.
    first: Vec<usize>,
    /// Positions that are allocated for a slot.
    pub(super) allocated: usize,
}

/// A move of positions inside a slot, `len` of them from `from` to the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) slot: usize,
    pub(super) from: usize,
    pub(super) len: usize,
}

impl Span {
    pub(super) fn new(window: Option<usize>, slots: usize) -> Self {
        Self {
            window,
            first: vec![0; slots],
            allocated: 0,
        }
    }

    /// Maximum number of positions of a slot in a cache of `capacity`, in runs of up to `chunk`
    /// tokens.
    pub(super) fn max_positions(&self, capacity: usize, chunk: usize) -> usize {
        max_positions(self.window, capacity, chunk)
    }

    /// The first position that must be kept for tokens from `start` on.
    fn first_needed(&self, start: usize) -> usize {
        self.window
            .map_or(0, |window| (start + 1).saturating_sub(window))
    }

    /// Whether a sequence can go on from position `len` of a slot.
    pub(super) fn can_continue(&self, slot: usize, len: usize) -> bool {
        self.first[slot] <= self.first_needed(len)
    }

    /// Number of positions in memory of the first `len` of a slot.
    pub(super) fn kept(&self, slot: usize, len: usize) -> usize {
        len - self.first[slot]
    }

    pub(super) fn clear(&mut self, slot: usize) {
        self.first[slot] = 0;
    }

    /// Slot `to` gets what `from` has.
    pub(super) fn copy(&mut self, from: usize, to: usize) {
        self.first[to] = self.first[from];
    }

    /// Drops what no window reaches any more where `max` positions have no room for a run; returns
    /// the moves that this takes.
    pub(super) fn make_room(&mut self, runs: &[Run], max: usize) -> Vec<Move> {
        let mut moves = Vec::new();
        for run in runs {
            let first = self.first[run.slot];
            if run.end() - first <= max {
                continue;
            }
            let needed = self.first_needed(run.start);
            self.first[run.slot] = needed;
            moves.push(Move {
                slot: run.slot,
                from: needed - first,
                len: run.start - needed,
            });
        }
        moves
    }

    /// Positions in memory that the slots of the runs need.
    pub(super) fn needed(&self, runs: &[Run]) -> usize {
        let ends = runs.iter().map(|run| self.kept(run.slot, run.end()));
        ends.max().unwrap_or(0)
    }

    /// The runs with their starts counted from the first position that is kept.
    pub(super) fn placed(&self, runs: &[Run]) -> Vec<Run> {
        let placed = |run: &Run| Run {
            start: self.kept(run.slot, run.start),
            ..run.clone()
        };
        runs.iter().map(placed).collect()
    }
}

/// Maximum number of positions of a slot that layers with `window` keep in a cache of `capacity`, in
/// runs of up to `chunk` tokens.
pub(super) fn max_positions(window: Option<usize>, capacity: usize, chunk: usize) -> usize {
    let reach = window.map_or(capacity, |window| window.saturating_add(chunk));
    reach.min(capacity)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(start: usize, tokens: usize) -> Run {
        Run {
            slot: 0,
            start,
            tokens,
            row: 0,
            rope_len: 0,
        }
    }

    #[test]
    fn a_window_moves_when_a_run_does_not_fit() {
        let mut span = Span::new(Some(4), 1);
        let max = span.max_positions(100, 6);
        assert_eq!(max, 10);
        assert_eq!(span.make_room(&[run(0, 6)], max), []);
        assert_eq!(span.make_room(&[run(6, 4)], max), []);
        // Position 10 sees 7 to 10.
        let moved = Move {
            slot: 0,
            from: 7,
            len: 3,
        };
        assert_eq!(span.make_room(&[run(10, 6)], max), [moved]);
        assert_eq!(span.placed(&[run(10, 6)])[0].start, 3);
        assert_eq!(span.needed(&[run(10, 6)]), 9);
        assert!(span.can_continue(0, 10) && !span.can_continue(0, 9));
    }

    #[test]
    fn all_positions_stay_without_a_window() {
        let mut span = Span::new(None, 1);
        assert_eq!(span.max_positions(100, 6), 100);
        assert_eq!(span.make_room(&[run(90, 10)], 100), []);
        assert_eq!(span.placed(&[run(90, 10)])[0].start, 90);
        assert!(span.can_continue(0, 1));
    }
}
