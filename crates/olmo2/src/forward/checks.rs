//! Whether an input fits the model and the cache, before any work is done.

use burn::prelude::*;

use super::input::{InputError, Tokens};
use crate::cache::KvCache;
use crate::config::Olmo2Config;

/// Tokens of each row; ids on the host are checked against the vocabulary.
pub(super) fn check_tokens<B: Backend>(
    config: &Olmo2Config,
    tokens: &Tokens<B>,
) -> Result<Vec<usize>, InputError> {
    let lengths = match tokens {
        Tokens::Host(ids) => {
            let seq = ids.first().map_or(0, Vec::len);
            if seq == 0 {
                let rows = ids.len();
                return Err(InputError::Empty { rows, seq });
            }
            check_shape("ids", ids, &vec![seq; ids.len()])?;
            vec![seq; ids.len()]
        }
        Tokens::Runs(ids) => ids.iter().map(Vec::len).collect(),
        Tokens::Device(ids) => rectangle(ids.dims()),
        Tokens::Embeds(embeds) => {
            let [batch, seq, found] = embeds.dims();
            let expected = config.hidden_size;
            if found != expected {
                let what = "input_embeds";
                return Err(shape_error(what, 0, expected, found));
            }
            rectangle([batch, seq])
        }
    };
    if lengths.is_empty() || lengths.contains(&0) {
        let seq = lengths.iter().copied().min().unwrap_or(0);
        let rows = lengths.len();
        return Err(InputError::Empty { rows, seq });
    }
    if let Tokens::Host(ids) | Tokens::Runs(ids) = tokens {
        for row in ids {
            check_ids(config, row)?;
        }
    }
    Ok(lengths)
}

fn rectangle([batch, seq]: [usize; 2]) -> Vec<usize> {
    vec![seq; batch]
}

/// Checks the ids of one row against the vocabulary.
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

/// Checks that `rows` has a value for each token.
pub(super) fn check_shape<T>(
    what: &'static str,
    rows: &[Vec<T>],
    lengths: &[usize],
) -> Result<(), InputError> {
    if rows.len() != lengths.len() {
        return Err(shape_error(what, rows.len(), lengths.len(), rows.len()));
    }
    let mut rows = rows.iter().zip(lengths).enumerate();
    match rows.find(|(_, (row, len))| row.len() != **len) {
        Some((i, (row, &len))) => Err(shape_error(what, i, len, row.len())),
        None => Ok(()),
    }
}

fn shape_error(what: &'static str, row: usize, expected: usize, found: usize) -> InputError {
    InputError::Shape {
        what,
        row,
        expected,
        found,
    }
}

/// The slots of the rows; checks that the cache is one of this model and backend.
pub(super) fn check_slots<B: Backend>(
    config: &Olmo2Config,
    cache: &KvCache<B>,
    slots: Option<&[usize]>,
    rows: usize,
) -> Result<Vec<usize>, InputError> {
    let expected = [
        config.num_hidden_layers,
        config.num_key_value_heads,
        config.head_dim,
    ];
    let found = cache.geometry();
    if found != expected {
        return Err(InputError::Cache { expected, found });
    }
    let mut layers = 0..config.num_hidden_layers;
    if layers.any(|layer| cache.window(layer) != config.window(layer)) {
        return Err(InputError::CacheWindows);
    }
    cache.check()?;
    let named = slots.map_or_else(|| (0..rows).collect(), <[usize]>::to_vec);
    if named.len() != rows {
        return Err(shape_error("slots", 0, rows, named.len()));
    }
    let slots = cache.num_slots();
    let mut seen = vec![false; slots];
    for &slot in &named {
        match seen.get_mut(slot) {
            Some(seen) if !*seen => *seen = true,
            _ => return Err(InputError::Slot { slot, slots }),
        }
    }
    Ok(named)
}
