//! Where the caller's tokens lie among the rows of a pass: a rectangle with padding goes in, rows
//! without padding are computed, and a rectangle comes out.

use burn::prelude::*;
use burn::tensor::Slice;

use super::LogitRows;
use crate::backend::DECODE_TOKENS;
use crate::cache::Run;
use crate::forward::InputError;

/// The caller's tokens `[batch, seq]`, and their rows in the pass.
#[derive(Debug)]
pub(crate) struct Layout {
    shape: [usize; 2],
    /// The row of each token, `None` of padding.
    row_of: Vec<Option<usize>>,
    /// The token of each row.
    token_of: Vec<usize>,
    /// Rows and tokens are the same, in the same order.
    is_plain: bool,
}

/// The rows whose logits are wanted, each with the run that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Rows of the pass, in the order in which the head multiplies them: those of runs that want few
    /// rows first. `None` is a row of zeros.
    pub(crate) rows: Vec<Option<usize>>,
    /// How many of `rows` go through decode kernels.
    pub(crate) decode: usize,
    /// Where each row of the answer lies in `rows`; `None` where the order is the same.
    pub(crate) order: Option<Vec<usize>>,
}

impl Layout {
    /// `tokens` are the rows' tokens as the caller counts them, in the order of the pass.
    pub(super) fn new(shape: [usize; 2], token_of: Vec<usize>) -> Self {
        let mut row_of = vec![None; shape[0] * shape[1]];
        for (row, &token) in token_of.iter().enumerate() {
            row_of[token] = Some(row);
        }
        let in_order = token_of
            .iter()
            .enumerate()
            .all(|(row, token)| row == *token);
        Self {
            is_plain: in_order && token_of.len() == row_of.len(),
            shape,
            row_of,
            token_of,
        }
    }

    /// The ids of the rows, in order.
    pub(crate) fn ids(&self, ids: &[Vec<u32>]) -> Vec<u32> {
        let flat = ids.concat();
        match self.is_plain {
            true => flat,
            false => self.token_of.iter().map(|&token| flat[token]).collect(),
        }
    }

    /// The caller's tensor `[batch, seq, width]` as rows `[1, tokens, width]`.
    pub(crate) fn enter<B: Backend>(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let [batch, seq, width] = x.dims();
        let x = x.reshape([1, batch * seq, width]);
        match self.is_plain {
            true => x,
            false => select_rows(x, self.token_of.iter().copied()),
        }
    }

    /// Rows `[1, tokens, width]` as the caller's tensor `[batch, seq, width]`, zero in padding.
    pub(crate) fn leave<B: Backend>(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let width = x.dims()[2];
        let x = match self.is_plain {
            true => x,
            false => gather(x, &self.row_of),
        };
        x.reshape([self.shape[0], self.shape[1], width])
    }

    /// The rows whose logits are wanted.
    pub(super) fn wanted(&self, rows: LogitRows, runs: &[Run]) -> Result<Wanted, InputError> {
        let rows = match rows {
            LogitRows::All => self.row_of.clone(),
            LogitRows::None => Vec::new(),
            LogitRows::Last => self.last_rows(runs),
            LogitRows::Rows(tokens) => {
                let rows = self.row_of.len();
                if let Some(&row) = tokens.iter().find(|token| **token >= rows) {
                    return Err(InputError::LogitRow { row, rows });
                }
                tokens.iter().map(|&token| self.row_of[token]).collect()
            }
        };
        Ok(Wanted::new(rows, runs))
    }

    /// The last row of each run, in the caller's order.
    fn last_rows(&self, runs: &[Run]) -> Vec<Option<usize>> {
        let mut last: Vec<usize> = runs.iter().map(|run| run.rows().end - 1).collect();
        last.sort_by_key(|&row| self.token_of[row]);
        last.into_iter().map(Some).collect()
    }
}

impl Wanted {
    fn new(rows: Vec<Option<usize>>, runs: &[Run]) -> Self {
        let run_of = |row: usize| runs.partition_point(|run| run.rows().end <= row);
        let mut counts = vec![0; runs.len()];
        for row in rows.iter().flatten() {
            counts[run_of(*row)] += 1;
        }
        let is_few =
            |row: &Option<usize>| row.is_none_or(|row| counts[run_of(row)] <= DECODE_TOKENS);
        let (few, many): (Vec<usize>, Vec<usize>) =
            (0..rows.len()).partition(|&i| is_few(&rows[i]));
        let decode = few.len();
        if few.is_empty() || many.is_empty() {
            let order = None;
            return Self {
                rows,
                decode,
                order,
            };
        }
        let sorted: Vec<usize> = few.into_iter().chain(many).collect();
        let mut order = vec![0; sorted.len()];
        for (place, &i) in sorted.iter().enumerate() {
            order[i] = place;
        }
        Self {
            rows: sorted.into_iter().map(|i| rows[i]).collect(),
            decode,
            order: Some(order),
        }
    }

    /// The wanted rows of `x` `[1, tokens, width]`.
    pub(crate) fn select<B: Backend>(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        gather(x, &self.rows)
    }

    /// Logits `[rows, vocab_size]` in the order in which they were wanted.
    pub(crate) fn in_order<B: Backend>(&self, logits: Tensor<B, 2>) -> Tensor<B, 2> {
        match &self.order {
            Some(order) => {
                let logits = select_rows(logits.unsqueeze(), order.iter().copied());
                logits.squeeze_dim(0)
            }
            None => logits,
        }
    }
}

/// Rows of `x` `[1, rows, width]`, zeros for `None`.
fn gather<B: Backend>(x: Tensor<B, 3>, rows: &[Option<usize>]) -> Tensor<B, 3> {
    let [_, count, width] = x.dims();
    let zeros = || Tensor::zeros([1, 1, width], (&x.device(), x.dtype()));
    let x = match rows.contains(&None) {
        true => Tensor::cat(vec![x.clone(), zeros()], 1),
        false => x,
    };
    select_rows(x, rows.iter().map(|row| row.unwrap_or(count)))
}

/// Rows of `x` `[1, rows, width]`; a view, without an upload, where they lie one after the other.
fn select_rows<B: Backend>(
    x: Tensor<B, 3>,
    rows: impl ExactSizeIterator<Item = usize> + Clone,
) -> Tensor<B, 3> {
    let (count, first) = (rows.len(), rows.clone().next().unwrap_or(0));
    let are_neighbors = rows.clone().enumerate().all(|(i, row)| row == first + i);
    if are_neighbors {
        return match count == x.dims()[1] {
            true => x,
            false => x.slice([Slice::full(), (first..first + count).into()]),
        };
    }
    let rows: Vec<i32> = rows.map(|row| row as i32).collect();
    let device = x.device();
    x.select(1, Tensor::from_data(rows.as_slice(), &device))
}
