//! Which keys a query sees: the one place that decides between no mask and an explicit one.
//!
//! burn's `is_causal` is not used: where there are more keys than queries, as with a cache, its
//! backends align the diagonal differently (bottom-right in the fallback and on Flex, top-left in
//! cubek's flash kernel, and tuning may choose either).

use burn::prelude::*;
use burn::tensor::TensorData;

/// The mask of a pass, `[batch or 1, 1, seq, keys]`, true where a key is hidden; `None` where
/// every query sees every key.
///
/// `hidden(row, query, key)` speaks for one pair; `alike` says that all rows of the batch have the
/// same answers.
pub(crate) fn attention_mask<B: Backend>(
    [batch, seq, keys]: [usize; 3],
    alike: bool,
    hidden: impl Fn(usize, usize, usize) -> bool,
    device: &B::Device,
) -> Option<Tensor<B, 4, Bool>> {
    let rows = if alike { 1 } else { batch };
    let mut mask = Vec::with_capacity(rows * seq * keys);
    for row in 0..rows {
        for query in 0..seq {
            mask.extend((0..keys).map(|key| hidden(row, query, key)));
        }
    }
    mask.contains(&true)
        .then(|| Tensor::from_data(TensorData::new(mask, [rows, 1, seq, keys]), device))
}
