//! A link for tests that stands first in the chain: it answers one matmul and one attention and
//! declines the rest. That no other file than the chain's own names it shows that a new link needs
//! no change elsewhere.

use std::cell::Cell;

use burn::prelude::*;
use burn::tensor::DType;

use super::plain;
use super::request::{Attention, Matmul, MatmulWeight, Norm};
use super::rotation::Rotation;
use crate::cache::LayerStorage;

/// What was asked of the link, and answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) matmuls_asked: usize,
    pub(super) matmuls_answered: usize,
    pub(super) attentions_asked: usize,
    pub(super) attentions_answered: usize,
    pub(super) declined: usize,
}

thread_local! {
    /// `None` while the link is not part of the chain.
    static COUNTS: Cell<Option<Counts>> = const { Cell::new(None) };
}

/// Runs `work` with the link in the chain of this thread.
pub(super) fn counted<T>(work: impl FnOnce() -> T) -> (T, Counts) {
    COUNTS.set(Some(Counts::default()));
    let result = work();
    (result, COUNTS.take().unwrap_or_default())
}

/// Counts, and says whether to answer.
fn asked(count: impl FnOnce(&mut Counts) -> bool) -> bool {
    let Some(mut counts) = COUNTS.get() else {
        return false;
    };
    let answers = count(&mut counts);
    COUNTS.set(Some(counts));
    answers
}

fn declined<T>() -> Option<T> {
    asked(|counts| {
        counts.declined += 1;
        false
    });
    None
}

pub(super) fn matmul<B: Backend, const N: usize>(
    matmul: &Matmul<B>,
    weights: &[MatmulWeight<'_, B>; N],
) -> Option<[Tensor<B, 2>; N]> {
    let answers = asked(|counts| {
        counts.matmuls_asked += 1;
        let first = counts.matmuls_asked == 1;
        counts.matmuls_answered += usize::from(first);
        first
    });
    answers.then(|| plain::matmul(matmul, weights))
}

pub(super) fn matmul_gated<B: Backend>(
    _matmul: &Matmul<B>,
    _weights: &[MatmulWeight<'_, B>; 2],
) -> Option<Tensor<B, 2>> {
    declined()
}

pub(super) fn rms_norm<B: Backend, const D: usize>(
    _x: &Tensor<B, D>,
    _norm: &Norm<B>,
    _residual: Option<&Tensor<B, D>>,
) -> Option<Tensor<B, D>> {
    declined()
}

pub(super) fn norm_rotate<B: Backend>(
    _x: &Tensor<B, 3>,
    _norm: &Norm<B>,
    _rotation: &Rotation<B>,
) -> Option<Tensor<B, 4>> {
    declined()
}

pub(super) fn attention<B: Backend>(
    attention: &Attention<'_, B>,
    storage: &mut Option<&mut LayerStorage<B>>,
) -> Option<Tensor<B, 3>> {
    let answers = asked(|counts| {
        counts.attentions_asked += 1;
        let first = counts.attentions_asked == 1;
        counts.attentions_answered += usize::from(first);
        first
    });
    answers.then(|| plain::attention(attention.clone(), storage))
}

pub(super) fn zeros<B: Backend>(
    _shape: [usize; 4],
    _dtype: DType,
    _device: &B::Device,
) -> Option<Tensor<B, 4>> {
    declined()
}

pub(super) fn int_zeros<B: Backend>(
    _shape: [usize; 4],
    _dtype: DType,
    _device: &B::Device,
) -> Option<Tensor<B, 4, Int>> {
    declined()
}
