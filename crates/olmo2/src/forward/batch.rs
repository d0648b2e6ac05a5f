//! What a forward pass was asked for, checked and turned into runs.

use std::ops::Range;

use burn::prelude::*;

use super::checks::{check_shape, check_slots, check_tokens};
use super::input::{ForwardInput, InputError, LogitRows, Tokens};
use super::layout::{Layout, Wanted};
use crate::backend::{DECODE_TOKENS, Rotation};
use crate::cache::{KvCache, Run};
use crate::config::Olmo2Config;
use crate::nn::{LayerKinds, RotaryEmbedding};

/// Positions beyond this are no longer whole numbers in the rotation's f32, under any rope.
const MAX_POSITION: usize = 1 << 24;

/// A checked request: shapes fit, positions exist, slots are distinct and have room.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Runs of at most [`DECODE_TOKENS`] tokens first, so that each family of kernels has its rows
    /// together.
    pub(super) runs: Vec<Run>,
    /// Rotary position of each row.
    positions: Vec<usize>,
    layout: Layout,
}

/// A row of the request: its tokens as the caller counts them, without padding.
struct Row {
    slot: usize,
    start: usize,
    tokens: Vec<usize>,
    positions: Vec<usize>,
}

impl Batch {
    pub(crate) fn new<B: Backend>(
        config: &Olmo2Config,
        kinds: &LayerKinds,
        input: &ForwardInput<'_, B>,
    ) -> Result<Self, InputError> {
        let lengths = check_tokens(config, &input.tokens)?;
        if let Some(mask) = &input.attention_mask {
            check_shape("attention_mask", mask, &lengths)?;
        }
        if let Some(positions) = &input.position_ids {
            check_shape("position_ids", positions, &lengths)?;
        }
        let cache = input.cache.as_deref();
        let slots = match cache {
            Some(cache) => check_slots(config, cache, input.slots.as_deref(), lengths.len())?,
            None => (0..lengths.len()).collect(),
        };
        let mut rows = Vec::with_capacity(lengths.len());
        let mut first = 0;
        for (i, (&len, slot)) in lengths.iter().zip(slots).enumerate() {
            let row = Row::new(i, first..first + len, slot, input)?;
            row.check(config, cache)?;
            rows.push(row);
            first += len;
        }
        let shape = match input.tokens {
            Tokens::Runs(_) => [1, first],
            _ => [lengths.len(), lengths[0]],
        };
        Ok(Self::of_rows(rows, shape, kinds, cache))
    }

    fn of_rows<B: Backend>(
        mut rows: Vec<Row>,
        shape: [usize; 2],
        kinds: &LayerKinds,
        cache: Option<&KvCache<B>>,
    ) -> Self {
        // Short runs come first, and runs of one length, whose attention is one batch, together.
        rows.sort_by_key(|row| row.tokens.len());
        let (mut runs, mut token_of, mut positions) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            let rope_len = cache.map_or(0, |cache| cache.rope_len(row.slot));
            runs.push(Run {
                slot: row.slot,
                start: row.start,
                tokens: row.tokens.len(),
                row: token_of.len(),
                rope_len: kinds.rope_len(rope_len, row.last_position() + 1),
            });
            token_of.extend(row.tokens);
            positions.extend(row.positions);
        }
        Self {
            runs,
            positions,
            layout: Layout::new(shape, token_of),
        }
    }

    /// Where the caller's tokens lie.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The rows whose logits are wanted.
    ///
    /// # Errors
    /// A row that the pass does not have.
    pub(crate) fn wanted(&self, rows: LogitRows) -> Result<Wanted, InputError> {
        self.layout.wanted(rows, &self.runs)
    }

    /// Rows of runs that go through decode kernels; they come first.
    pub(super) fn decode_rows(&self) -> usize {
        let is_short = |run: &&Run| run.tokens <= DECODE_TOKENS;
        self.runs
            .iter()
            .filter(is_short)
            .map(|run| run.tokens)
            .sum()
    }

    /// Cosines and sines of each row, by the rope of one layer kind.
    pub(super) fn rotation<B: Backend>(
        &self,
        rope: &RotaryEmbedding,
        device: &B::Device,
    ) -> Rotation<B> {
        let half = rope.head_dim() / 2;
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for (i, run) in self.runs.iter().enumerate() {
            let same = |other: &&Run| {
                other.rope_len == run.rope_len
                    && self.positions[other.rows()] == self.positions[run.rows()]
            };
            // Rows of a batch mostly stand at the same positions.
            if let Some(other) = self.runs[..i].first().filter(same) {
                let known = other.row * half..other.rows().end * half;
                cos.extend_from_within(known.clone());
                sin.extend_from_within(known);
                continue;
            }
            let inv_freq = rope.inv_freq(run.rope_len);
            for &position in &self.positions[run.rows()] {
                rope.push(&inv_freq, position, &mut cos, &mut sin);
            }
        }
        Rotation::new(&cos, &sin, rope.head_dim(), device)
    }
}

impl Row {
    /// Row `i` of the input, whose tokens are `places` of all; padding is left out.
    fn new<B: Backend>(
        i: usize,
        places: Range<usize>,
        slot: usize,
        input: &ForwardInput<'_, B>,
    ) -> Result<Self, InputError> {
        let mask = input.attention_mask.as_ref().map(|mask| &mask[i]);
        let is_token = |column: &usize| mask.is_none_or(|mask| mask[*column]);
        let columns: Vec<usize> = (0..places.len()).filter(is_token).collect();
        let padding = columns.first().copied().unwrap_or(places.len());
        let on_the_left = padding + columns.len() == places.len();
        if columns.is_empty() || (input.cache.is_some() && !on_the_left) {
            return Err(InputError::Padding { row: i });
        }
        let start = input.cache.as_ref().map_or(0, |cache| cache.len(slot));
        let positions = match &input.position_ids {
            Some(positions) => columns.iter().map(|&column| positions[i][column]).collect(),
            None => (start..start + columns.len()).collect(),
        };
        Ok(Self {
            slot,
            start,
            tokens: columns.iter().map(|column| places.start + column).collect(),
            positions,
        })
    }

    fn last_position(&self) -> usize {
        self.positions.iter().copied().max().unwrap_or(0)
    }

    /// Whether the positions exist and the slot has room.
    fn check<B: Backend>(
        &self,
        config: &Olmo2Config,
        cache: Option<&KvCache<B>>,
    ) -> Result<(), InputError> {
        let wanted = self.start + self.tokens.len();
        if let Some(cache) = cache.filter(|cache| wanted > cache.capacity()) {
            let capacity = cache.capacity();
            return Err(InputError::Capacity { wanted, capacity });
        }
        let tokens = self.tokens.len();
        if let Some(chunk) = cache.and_then(KvCache::chunk).filter(|max| tokens > *max) {
            return Err(InputError::Chunk { tokens, chunk });
        }
        let position = self.last_position();
        let max = config.max_positions().unwrap_or(MAX_POSITION);
        if position >= max {
            return Err(InputError::Position { position, max });
        }
        Ok(())
    }
}
