//! The training loss.

use burn::prelude::*;
use burn::tensor::{DType, activation::log_softmax};

/// Cross entropy of the next token, in nats, averaged over the targets that are not ignored, as
/// transformers' `ForCausalLMLoss`: position `i` predicts `labels[i + 1]`.
///
/// # Shapes
/// - `logits`: `[batch * seq, vocab_size]`, as a pass returns them for all positions
/// - `labels`: `[batch, seq]`, ids or `ignore_index` (transformers' is -100)
/// - returns: `[1]`, f32; NaN where every target is ignored, as in torch
///
/// # Panics
/// If shapes do not fit, or `seq` is less than 2.
pub fn causal_lm_loss<B: Backend>(
    logits: Tensor<B, 2>,
    labels: Tensor<B, 2, Int>,
    ignore_index: i64,
) -> Tensor<B, 1> {
    let [batch, seq] = labels.dims();
    let [rows, vocab] = logits.dims();
    assert_eq!(
        rows,
        batch * seq,
        "logits of {rows} rows do not fit labels [{batch}, {seq}]"
    );
    assert!(seq > 1, "a sequence of {seq} token has no next one");

    let logits = logits
        .reshape([batch, seq, vocab])
        .slice([0..batch, 0..seq - 1]);
    let logits = logits.reshape([batch * (seq - 1), vocab]).cast(DType::F32);
    let targets = labels
        .slice([0..batch, 1..seq])
        .reshape([batch * (seq - 1), 1]);
    let ignored = targets.clone().equal_elem(ignore_index);

    let targets = targets.mask_fill(ignored.clone(), 0);
    let log_probs = log_softmax(logits, 1).gather(1, targets);
    let kept = ignored.bool_not().float().cast(DType::F32);
    -(log_probs * kept.clone()).sum() / kept.sum()
}
