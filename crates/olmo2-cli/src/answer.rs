//! A generation run to its end, shown piece by piece.

use std::io;

use burn::prelude::*;
use olmo2::{FinishReason, Generation, SamplingParams, TextStream, Timings};

use crate::messages::Result;
use crate::sampling::is_greedy;

/// A finished generation.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// The ids that were generated, without the one that ended the text.
    pub(crate) ids: Vec<u32>,
    /// `None` without a tokenizer.
    pub(crate) text: Option<String>,
    /// `None` where the user ended it.
    pub(crate) finish: Option<FinishReason>,
    pub(crate) timings: Timings,
    /// `None` for greedy decoding.
    pub(crate) seed: Option<u64>,
}

impl Answer {
    /// Leaves out the seed of greedy decoding, which decided nothing.
    pub(crate) fn sampled_by(mut self, params: &SamplingParams) -> Self {
        self.seed = self.seed.filter(|_| !is_greedy(params));
        self
    }
}

/// What can be shown so far.
#[derive(Debug)]
pub(crate) enum AnswerPiece<'t> {
    Text(&'t str),
    /// Without a tokenizer.
    Id(u32),
}

/// Runs a generation to its end, or until `interrupted`.
///
/// # Errors
/// The model's, and those of `show`.
pub(crate) fn answer<B: Backend>(
    mut generation: Generation<'_, B>,
    mut stream: Option<TextStream>,
    mut show: impl FnMut(AnswerPiece<'_>) -> io::Result<()>,
    interrupted: impl Fn() -> bool,
) -> Result<Answer> {
    let mut ids = Vec::new();
    while let Some(id) = generation.next() {
        let id = id?;
        ids.push(id);
        match &mut stream {
            Some(stream) => {
                show(AnswerPiece::Text(stream.push(id)))?;
                if stream.is_stopped() {
                    generation.stop();
                }
            }
            None => show(AnswerPiece::Id(id))?,
        }
        if interrupted() {
            break;
        }
    }
    let mut finish = generation.finish_reason();
    if let Some(stream) = &mut stream {
        show(AnswerPiece::Text(stream.finish()))?;
        if stream.is_stopped() {
            finish = Some(FinishReason::Stop);
        }
    }
    Ok(Answer {
        ids,
        text: stream.map(TextStream::into_text),
        finish,
        timings: generation.timings(),
        seed: Some(generation.seed()),
    })
}
