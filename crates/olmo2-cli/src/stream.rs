//! Text while it is generated: whole characters, and nothing of a stop string.

use std::io;

use anyhow::Result;
use burn::prelude::*;
use olmo2::tokenizer::{DecodeStream, SpecialTokens, StopStrings};
use olmo2::{FinishReason, Generation, Timings, Tokenizer};

/// Ids in, text that may be printed out.
#[derive(Debug)]
pub(crate) struct TextStream {
    decode: DecodeStream,
    stop: StopStrings,
}

impl TextStream {
    /// # Errors
    /// An empty stop string.
    pub(crate) fn new(tokenizer: &Tokenizer, stop: &[String]) -> Result<Self> {
        Ok(Self {
            decode: tokenizer.decode_stream(SpecialTokens::Skip),
            stop: StopStrings::new(stop)?,
        })
    }

    /// The text that an id completes.
    fn push(&mut self, id: u32) -> String {
        let piece = self.decode.push(id).unwrap_or_default();
        self.stop.push(&piece).text
    }

    fn is_stopped(&self) -> bool {
        self.stop.stopped_by().is_some()
    }

    /// What was held back, at the end.
    fn finish(&mut self) -> String {
        if self.is_stopped() {
            return String::new();
        }
        let tail = self.decode.finish().unwrap_or_default();
        let text = self.stop.push(&tail).text;
        match self.is_stopped() {
            true => text,
            false => text + &self.stop.finish(),
        }
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
    pub(crate) seed: u64,
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
    let mut text = stream.as_ref().map(|_| String::new());
    while let Some(id) = generation.next() {
        let id = id?;
        ids.push(id);
        match (&mut stream, &mut text) {
            (Some(stream), Some(text)) => {
                let piece = stream.push(id);
                show(Piece::Text(&piece))?;
                text.push_str(&piece);
                if stream.is_stopped() {
                    generation.stop();
                }
            }
            _ => show(Piece::Id(id))?,
        }
        if interrupted() {
            break;
        }
    }
    if let (Some(stream), Some(text)) = (&mut stream, &mut text) {
        let piece = stream.finish();
        show(Piece::Text(&piece))?;
        text.push_str(&piece);
    }
    let stopped = stream.is_some_and(|stream| stream.is_stopped());
    Ok(Answer {
        ids,
        text,
        finish: match stopped {
            true => Some(FinishReason::Stop),
            false => generation.finish_reason(),
        },
        timings: generation.timings(),
        seed: generation.seed(),
    })
}
