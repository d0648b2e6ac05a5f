//! What a forward pass was asked for, checked: rows, positions, and who sees whom.

use burn::prelude::*;

use crate::backend::plain::attention::attended_keys;
use crate::cache::KvCache;
use crate::config::Olmo2Config;
use crate::forward::mask::attention_mask;
use crate::forward::{ForwardInput, InputError, LogitRows, Tokens};
use crate::nn::rope::{RotaryEmbedding, Rotation};

/// Positions beyond this are no longer whole numbers in the rotation's f32, under any rope.
const MAX_POSITION: usize = 1 << 24;

/// One row of a batch: where its tokens stand in its slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// Slot of the cache; the row's own number without one.
    pub(crate) slot: usize,
    /// Positions that the slot held before the pass.
    pub(crate) start: usize,
    /// Columns of padding on the left.
    pub(crate) padding: usize,
    /// Tokens behind the padding.
    pub(crate) tokens: usize,
    /// Longest length of the sequence, of dynamic rope alone.
    pub(crate) longest: usize,
}

impl Row {
    /// Positions that the slot holds after the pass.
    pub(crate) fn end(&self) -> usize {
        self.start + self.tokens
    }
}

/// A checked request: shapes fit, positions exist, slots are distinct and have room.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) batch: usize,
    pub(crate) seq: usize,
    pub(crate) rows: Vec<Row>,
    /// Rotary position of each token, `[batch][seq]`.
    positions: Vec<Vec<usize>>,
    /// `[batch][seq]`, false where a token is padding.
    valid: Option<Vec<Vec<bool>>>,
}

impl Plan {
    pub(crate) fn new<B: Backend>(
        config: &Olmo2Config,
        rope: &RotaryEmbedding,
        input: &ForwardInput<'_, B>,
    ) -> Result<Self, InputError> {
        let [batch, seq] = check_tokens(config, &input.tokens)?;
        let valid = input.attention_mask.as_deref();
        if let Some(mask) = valid {
            check_shape("attention_mask", mask, [batch, seq])?;
        }
        let cache = input.cache.as_deref();
        let mut rows = match cache {
            Some(cache) => cached_rows(config, cache, input.slots.as_deref(), [batch, seq], valid)?,
            None => (0..batch).map(|slot| Row::whole(slot, seq)).collect(),
        };
        let positions = match &input.position_ids {
            Some(positions) => {
                check_shape("position_ids", positions, [batch, seq])?;
                positions.clone()
            }
            None => count_positions(&rows, seq, valid),
        };
        for (row, positions) in rows.iter_mut().zip(&positions) {
            let last = positions.iter().copied().max().unwrap_or(0);
            let max = config.max_position_embeddings;
            if last >= max && !(config.rope.is_dynamic() && last < MAX_POSITION) {
                let position = last;
                return Err(InputError::Position { position, max });
            }
            let longest = cache.map_or(0, |cache| cache.longest(row.slot));
            row.longest = rope.longest(longest, last + 1);
        }
        Ok(Self {
            batch,
            seq,
            rows,
            positions,
            valid: input.attention_mask.clone(),
        })
    }

    /// Longest of the sequences after the pass.
    pub(crate) fn len(&self) -> usize {
        self.rows.iter().map(Row::end).max().unwrap_or(0)
    }

    /// The rows of `[batch * seq]` whose logits are wanted; `None` is all of them.
    pub(crate) fn logit_rows(&self, wanted: LogitRows) -> Result<Option<Vec<usize>>, InputError> {
        let total = self.batch * self.seq;
        match wanted {
            LogitRows::All => Ok(None),
            LogitRows::None => Ok(Some(Vec::new())),
            LogitRows::Last => Ok(Some(
                (1..=self.batch).map(|row| row * self.seq - 1).collect(),
            )),
            LogitRows::Rows(rows) => match rows.iter().find(|row| **row >= total) {
                Some(&row) => Err(InputError::LogitRow { row, rows: total }),
                None => Ok(Some(rows)),
            },
        }
    }

    /// Cosines and sines of the pass; one row where all rows stand at the same positions.
    pub(crate) fn rotation<B: Backend>(
        &self,
        rope: &RotaryEmbedding,
        device: &B::Device,
    ) -> Rotation<B> {
        let alike = self.positions.iter().all(|row| *row == self.positions[0])
            && self
                .rows
                .iter()
                .all(|row| row.longest == self.rows[0].longest);
        let count = if alike { 1 } else { self.batch };
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for (row, positions) in self.rows.iter().zip(&self.positions).take(count) {
            let inv_freq = rope.inv_freq(row.longest);
            for &position in positions {
                rope.push(&inv_freq, position, &mut cos, &mut sin);
            }
        }
        let half = cos.len() / (count * self.seq);
        Rotation::new(&cos, &sin, [count, self.seq, half], device)
    }

    /// Mask of a pass without a cache: keys are the tokens of the pass, and padding behind them.
    pub(crate) fn mask<B: Backend>(&self, device: &B::Device) -> Option<Tensor<B, 4, Bool>> {
        let valid = |row: usize, key: usize| self.valid.as_ref().is_none_or(|mask| mask[row][key]);
        let hidden = |row, query, key| key > query || !valid(row, key);
        let shape = [self.batch, self.seq, attended_keys(self.seq)];
        attention_mask(shape, self.valid.is_none(), hidden, device)
    }

    /// Mask of a pass over a cache: keys are the first `keys` positions of each slot.
    pub(crate) fn cached_mask<B: Backend>(
        &self,
        keys: usize,
        device: &B::Device,
    ) -> Option<Tensor<B, 4, Bool>> {
        let hidden = |row: usize, query: usize, key: usize| {
            let row = &self.rows[row];
            key + row.padding > row.start + query
        };
        let first = &self.rows[0];
        let alike = self
            .rows
            .iter()
            .all(|row| (row.start, row.padding) == (first.start, first.padding));
        attention_mask([self.batch, self.seq, keys], alike, hidden, device)
    }
}

impl Row {
    /// A whole sequence, without a cache.
    fn whole(slot: usize, tokens: usize) -> Self {
        Self {
            slot,
            start: 0,
            padding: 0,
            tokens,
            longest: 0,
        }
    }
}

/// `[batch, seq]` of the tokens; ids on the host are held against the vocabulary.
fn check_tokens<B: Backend>(
    config: &Olmo2Config,
    tokens: &Tokens<B>,
) -> Result<[usize; 2], InputError> {
    let [batch, seq] = match tokens {
        Tokens::Host(ids) => [ids.len(), ids.first().map_or(0, Vec::len)],
        Tokens::Device(ids) => ids.dims(),
        Tokens::Embeds(embeds) => {
            let [batch, seq, found] = embeds.dims();
            if found != config.hidden_size {
                return Err(InputError::Shape {
                    what: "input_embeds",
                    row: 0,
                    expected: config.hidden_size,
                    found,
                });
            }
            [batch, seq]
        }
    };
    if batch == 0 || seq == 0 {
        return Err(InputError::Empty { rows: batch, seq });
    }
    if let Tokens::Host(ids) = tokens {
        check_shape("ids", ids, [batch, seq])?;
        for row in ids {
            check_ids(config, row)?;
        }
    }
    Ok([batch, seq])
}

/// Holds the ids of one row against the vocabulary.
pub(crate) fn check_ids(config: &Olmo2Config, ids: &[u32]) -> Result<(), InputError> {
    let vocab_size = config.vocab_size;
    match ids.iter().position(|id| *id as usize >= vocab_size) {
        Some(position) => Err(InputError::TokenId {
            id: ids[position],
            position,
            vocab_size,
        }),
        None => Ok(()),
    }
}

fn check_shape<T>(
    what: &'static str,
    rows: &[Vec<T>],
    [batch, seq]: [usize; 2],
) -> Result<(), InputError> {
    let fail = |row, expected, found| {
        Err(InputError::Shape {
            what,
            row,
            expected,
            found,
        })
    };
    if rows.len() != batch {
        return fail(rows.len(), batch, rows.len());
    }
    match rows.iter().position(|row| row.len() != seq) {
        Some(row) => fail(row, seq, rows[row].len()),
        None => Ok(()),
    }
}

/// Places each row behind what its slot holds.
fn cached_rows<B: Backend>(
    config: &Olmo2Config,
    cache: &KvCache<B>,
    slots: Option<&[usize]>,
    [batch, seq]: [usize; 2],
    mask: Option<&[Vec<bool>]>,
) -> Result<Vec<Row>, InputError> {
    let expected = [
        config.num_hidden_layers,
        config.num_key_value_heads,
        config.head_dim,
    ];
    let found = cache.geometry();
    if found != expected {
        return Err(InputError::Cache { expected, found });
    }
    cache.check()?;
    let slots = slots.map_or_else(|| (0..batch).collect(), <[usize]>::to_vec);
    if slots.len() != batch {
        return Err(InputError::Shape {
            what: "slots",
            row: 0,
            expected: batch,
            found: slots.len(),
        });
    }
    let mut rows: Vec<Row> = Vec::with_capacity(batch);
    for (row, slot) in slots.into_iter().enumerate() {
        if slot >= cache.num_slots() || rows.iter().any(|other| other.slot == slot) {
            let slots = cache.num_slots();
            return Err(InputError::Slot { slot, slots });
        }
        let padding = mask.map_or(0, |mask| {
            mask[row].iter().take_while(|valid| !**valid).count()
        });
        if padding == seq || mask.is_some_and(|mask| mask[row][padding..].contains(&false)) {
            return Err(InputError::Padding { row });
        }
        let place = Row {
            start: cache.len(slot),
            padding,
            ..Row::whole(slot, seq - padding)
        };
        if place.end() > cache.capacity() {
            return Err(InputError::Capacity {
                wanted: place.end(),
                capacity: cache.capacity(),
            });
        }
        rows.push(place);
    }
    Ok(rows)
}

/// `start + cumsum(mask) - 1` of each row, 0 in padding.
fn count_positions(rows: &[Row], seq: usize, valid: Option<&[Vec<bool>]>) -> Vec<Vec<usize>> {
    let counted = |(i, row): (usize, &Row)| {
        let mut next = row.start;
        let place = |column: usize| {
            if valid.is_some_and(|valid| !valid[i][column]) {
                return 0;
            }
            next += 1;
            next - 1
        };
        (0..seq).map(place).collect()
    };
    rows.iter().enumerate().map(counted).collect()
}
