//! What a forward pass takes and returns.

use burn::prelude::*;
use thiserror::Error;

use crate::cache::{CacheDtypeError, KvCache};
use crate::hint::Hint;

/// Tokens of a pass.
#[derive(Debug, Clone)]
pub(crate) enum Tokens<B: Backend> {
    /// Ids on the host, `[batch][seq]`; checked against the vocabulary.
    Host(Vec<Vec<u32>>),
    /// Ids on the host, of sequences that may differ in length.
    Runs(Vec<Vec<u32>>),
    /// Ids on the device, `[batch, seq]`; not read back, so not checked.
    Device(Tensor<B, 2, Int>),
    /// Embeddings `[batch, seq, hidden_size]` in place of ids.
    Embeds(Tensor<B, 3>),
}

/// The positions whose logits are wanted; others cost nothing in the head.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LogitRows {
    /// Every position: `[batch * seq, vocab_size]`, row-major; zeros where a token is padding.
    #[default]
    All,
    /// The last token of each row: `[batch, vocab_size]`.
    Last,
    /// The given rows of `[batch * seq]`, in this order.
    Rows(Vec<usize>),
    /// None: only hidden states or a filled cache are wanted.
    None,
}

/// One forward pass.
///
/// Without a cache it is a pass over whole sequences, as for training or scoring. With a cache
/// each row of the batch continues the sequence of its slot.
#[derive(Debug)]
pub struct ForwardInput<'c, B: Backend> {
    pub(crate) tokens: Tokens<B>,
    pub(crate) position_ids: Option<Vec<Vec<usize>>>,
    pub(crate) attention_mask: Option<Vec<Vec<bool>>>,
    pub(crate) cache: Option<&'c mut KvCache<B>>,
    pub(crate) slots: Option<Vec<usize>>,
    pub(crate) logits: LogitRows,
    pub(crate) hidden_states: bool,
}

impl<'c, B: Backend> ForwardInput<'c, B> {
    fn new(tokens: Tokens<B>) -> Self {
        Self {
            tokens,
            position_ids: None,
            attention_mask: None,
            cache: None,
            slots: None,
            logits: LogitRows::All,
            hidden_states: false,
        }
    }

    /// One sequence.
    pub fn ids(ids: &[u32]) -> Self {
        Self::new(Tokens::Host(vec![ids.to_vec()]))
    }

    /// Several sequences of one length; pad on the left and say where with
    /// [`attention_mask`](Self::attention_mask).
    pub fn batch(ids: Vec<Vec<u32>>) -> Self {
        Self::new(Tokens::Host(ids))
    }

    /// Sequences of any lengths in one pass, without padding: a prefill chunk beside sequences that
    /// decode. `runs[i]` continues slot `i`, or that of [`slots`](Self::slots).
    ///
    /// Rows of logits count through the tokens of all runs, one run after the other; hidden states
    /// are `[1, tokens, hidden_size]`.
    pub fn runs(runs: Vec<Vec<u32>>) -> Self {
        Self::new(Tokens::Runs(runs))
    }

    /// Ids `[batch, seq]` that are on the device. They are not checked: an id beyond the
    /// vocabulary is the caller's error, and what a backend then does is its own.
    pub fn device_ids(ids: Tensor<B, 2, Int>) -> Self {
        Self::new(Tokens::Device(ids))
    }

    /// Embeddings `[batch, seq, hidden_size]` in place of ids.
    pub fn input_embeds(embeds: Tensor<B, 3>) -> Self {
        Self::new(Tokens::Embeds(embeds))
    }

    /// Rotary positions `[batch][seq]`. Default: they count on from the cache's length, padding
    /// left out, as in transformers' `generate` (`cumsum(mask) - 1`).
    pub fn position_ids(mut self, positions: Vec<Vec<usize>>) -> Self {
        self.position_ids = Some(positions);
        self
    }

    /// `[batch][seq]`, false where a token is padding. With a cache padding stands on the left,
    /// is not stored, and the mask speaks of the new tokens alone.
    pub fn attention_mask(mut self, mask: Vec<Vec<bool>>) -> Self {
        self.attention_mask = Some(mask);
        self
    }

    /// Continues the sequences in `cache`: row `i` in slot `i`.
    pub fn with_cache(mut self, cache: &'c mut KvCache<B>) -> Self {
        self.cache = Some(cache);
        self
    }

    /// The slot of each row, where row `i` is not in slot `i`.
    pub fn slots(mut self, slots: Vec<usize>) -> Self {
        self.slots = Some(slots);
        self
    }

    /// Chooses the positions whose logits are computed.
    pub fn logits(mut self, rows: LogitRows) -> Self {
        self.logits = rows;
        self
    }

    /// Logits of the last position of each row only.
    pub fn last_logits(self) -> Self {
        self.logits(LogitRows::Last)
    }

    /// Also returns the hidden states of each layer.
    pub fn hidden_states(mut self) -> Self {
        self.hidden_states = true;
        self
    }
}

/// What a forward pass returns.
#[derive(Debug, Clone)]
pub struct ForwardOutput<B: Backend> {
    /// `[rows, vocab_size]`, f32; see [`LogitRows`]. No rows with [`LogitRows::None`].
    pub logits: Option<Tensor<B, 2>>,
    /// `num_hidden_layers + 1` tensors `[batch, seq, hidden_size]` in the compute dtype: the
    /// embeddings, the output of each layer but the last, and the last after the final norm (as
    /// transformers returns them). Empty unless asked for.
    pub hidden_states: Vec<Tensor<B, 3>>,
}

/// A forward pass that was asked for the impossible; nothing was computed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InputError {
    /// No rows, or rows without tokens.
    #[error("the input is empty: expected at least one token, found {rows} rows of {seq}")]
    Empty {
        /// Rows of the batch.
        rows: usize,
        /// Tokens of a row.
        seq: usize,
    },
    /// Rows of different lengths, or a mask, positions or slots of another shape than the ids.
    #[error("`{what}` row {row}: expected {expected} entries, found {found}")]
    Shape {
        /// The argument.
        what: &'static str,
        /// The first row that differs; the number of rows itself where it is the batch.
        row: usize,
        /// Entries that the ids have.
        expected: usize,
        /// Entries given.
        found: usize,
    },
    /// A token id of `vocab_size` or more.
    #[error("token id {id} at position {position}: expected ids below {vocab_size}")]
    TokenId {
        /// The id.
        id: u32,
        /// Its place in its row.
        position: usize,
        /// Rows of the embedding.
        vocab_size: usize,
    },
    /// A row of padding alone, or, in a pass with a cache, padding that is not on the left.
    #[error(
        "`attention_mask` row {row}: expected at least one token, and with a cache padding on the left alone"
    )]
    Padding {
        /// The row.
        row: usize,
    },
    /// A slot that the cache does not have, or that two rows name.
    #[error("slot {slot}: expected distinct slots below {slots}")]
    Slot {
        /// The slot.
        slot: usize,
        /// Slots of the cache.
        slots: usize,
    },
    /// More tokens than the cache was made for.
    #[error("{wanted} positions do not fit the cache's capacity of {capacity}")]
    Capacity {
        /// Cached positions and new ones together.
        wanted: usize,
        /// The cache's capacity.
        capacity: usize,
    },
    /// A longer run than sliding layers have room for.
    #[error(
        "a run of {tokens} tokens does not fit the chunk of {chunk} of a cache with sliding layers"
    )]
    Chunk {
        /// Tokens of the run.
        tokens: usize,
        /// [`CacheOptions::chunk`](crate::CacheOptions::chunk).
        chunk: usize,
    },
    /// A position beyond those of the model.
    #[error("position {position}: the model has {max} positions")]
    Position {
        /// The position.
        position: usize,
        /// Positions of the model.
        max: usize,
    },
    /// A cache that the backend does not have.
    #[error(transparent)]
    CacheDtype(#[from] CacheDtypeError),
    /// A cache whose sliding layers are not those of the model.
    #[error("the cache is of another model: its sliding layers or their window differ")]
    CacheWindows,
    /// A cache made for another model.
    #[error(
        "the cache is of another model: expected {expected:?} layers, key-value heads and head \
         dimension, found {found:?}"
    )]
    Cache {
        /// `num_hidden_layers`, `num_key_value_heads` and `head_dim` of the model.
        expected: [usize; 3],
        /// The same of the cache.
        found: [usize; 3],
    },
    /// A row of logits beyond the batch.
    #[error("logits of row {row}: expected rows below {rows}")]
    LogitRow {
        /// The row.
        row: usize,
        /// `batch * seq`.
        rows: usize,
    },
}

impl Hint for InputError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Capacity { .. } => Some("make the cache larger, or shorten the prompt".into()),
            Self::Chunk { .. } => {
                Some("cut the prompt, as `prefill` does, or raise `CacheOptions::chunk`".into())
            }
            Self::Position { .. } => {
                Some("shorten the prompt or the output; the model knows no such position".into())
            }
            Self::TokenId { .. } => Some("do the ids come from this model's tokenizer?".into()),
            _ => self.inner()?.hint(),
        }
    }

    fn inner(&self) -> Option<&(dyn Hint + 'static)> {
        match self {
            Self::CacheDtype(e) => Some(e),
            _ => None,
        }
    }
}
