//! Text while it is generated: whole characters, and nothing of a stop string.

use std::io;

use anyhow::Result;
use burn::prelude::*;
use olmo2::tokenizer::{DecodeStream, SpecialTokens, StopStrings};
use olmo2::{FinishReason, Generation, SamplingParams, Timings, Tokenizer};

use crate::sampling::is_greedy;

/// Ids in, text that may be printed out.
#[derive(Debug)]
pub(crate) struct TextStream {
    decode: DecodeStream,
    stop: StopStrings,
    /// All of it so far.
    text: String,
}

impl TextStream {
    /// # Errors
    /// An empty stop string.
    pub(crate) fn new(tokenizer: &Tokenizer, stop: &[String]) -> Result<Self> {
        Ok(Self {
            decode: tokenizer.decode_stream(SpecialTokens::Skip),
            stop: StopStrings::new(stop)?,
            text: String::new(),
        })
    }

    /// The text that an id completes.
    fn push(&mut self, id: u32) -> &str {
        let piece = self.decode.push(id).unwrap_or_default();
        let piece = self.stop.push(&piece).text;
        self.add(&piece)
    }

    fn add(&mut self, piece: &str) -> &str {
        let start = self.text.len();
        self.text.push_str(piece);
        &self.text[start..]
    }

    fn is_stopped(&self) -> bool {
        self.stop.stopped_by().is_some()
    }

    /// What was held back, at the end.
    fn finish(&mut self) -> &str {
        let tail = self.decode.finish().unwrap_or_default();
        let mut piece = self.stop.push(&tail).text;
        if !self.is_stopped() {
            piece += &self.stop.finish();
        }
        self.add(&piece)
    }
}

/// A text that is done.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// The ids that were generated; without the one that ended the text.
    pub(crate) ids: Vec<u32>,
    /// `None` without a tokenizer.
    pub(crate) text: Option<String>,
    /// `None` where the user ended it.
    pub(crate) finish: Option<FinishReason>,
    pub(crate) timings: Timings,
    /// `None` where nothing was drawn.
    pub(crate) seed: Option<u64>,
}

impl Answer {
    /// Leaves out the seed of greedy decoding, which decided nothing.
    pub(crate) fn sampled_by(mut self, params: &SamplingParams) -> Self {
        self.seed = self.seed.filter(|_| !is_greedy(params));
        self
    }
}

/// What is shown as soon as it is there.
#[derive(Debug)]
pub(crate) enum Piece<'t> {
    Text(&'t str),
    /// Without a tokenizer.
    Id(u32),
}

/// Runs a generation to its end, or until `interrupted`.
///
/// # Errors
/// The model's, and those of `show`.
pub(crate) fn answer<B: Backend>(
    mut generation: Generation<'_, '_, B>,
    mut stream: Option<TextStream>,
    mut show: impl FnMut(Piece<'_>) -> io::Result<()>,
    interrupted: impl Fn() -> bool,
) -> Result<Answer> {
    let mut ids = Vec::new();
    while let Some(id) = generation.next() {
        let id = id?;
        ids.push(id);
        match &mut stream {
            Some(stream) => {
                show(Piece::Text(stream.push(id)))?;
                if stream.is_stopped() {
                    generation.stop();
                }
            }
            None => show(Piece::Id(id))?,
        }
        if interrupted() {
            break;
        }
    }
    let mut finish = generation.finish_reason();
    if let Some(stream) = &mut stream {
        show(Piece::Text(stream.finish()))?;
        if stream.is_stopped() {
            finish = Some(FinishReason::Stop);
        }
    }
    Ok(Answer {
        ids,
        text: stream.map(|stream| stream.text),
        finish,
        timings: generation.timings(),
        seed: Some(generation.seed()),
    })
}
