//! A run: the new tokens of one sequence in a pass.

/// Consecutive tokens of one sequence. The tokens of all runs of a pass lie one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    /// Slot of the cache; without a cache the number of the sequence.
    pub(crate) slot: usize,
    /// Positions that the slot held before the pass.
    pub(crate) start: usize,
    /// New tokens, at least one.
    pub(crate) tokens: usize,
    /// Row of the pass in which the first of them lies.
    pub(crate) row: usize,
    /// Longest length of the sequence so far, under dynamic rope; 0 under any other.
    pub(crate) rope_len: usize,
}

impl Run {
    /// Positions that the slot holds after the pass.
    pub(crate) fn end(&self) -> usize {
        self.start + self.tokens
    }

    /// The run's rows of the pass.
    pub(crate) fn rows(&self) -> std::ops::Range<usize> {
        self.row..self.row + self.tokens
    }
}
