//! `perplexity`: how well a model predicts a text, in strided windows.

use std::io::{self, Write};
use std::ops::Range;
use std::time::Instant;

use burn::prelude::*;
use olmo2::hub::Files;
use olmo2::sampling::log_prob;
use olmo2::{CacheOptions, Chunks, KvCache, LogitRows, Olmo2, prefill};
use serde::Serialize;

use super::json::print_json;
use super::to_host::to_host;
use crate::backend::OnBackend;
use crate::messages::{Failure, NOT_FINITE, Result};
use crate::model::{Model, Sequences, find};
use crate::prompt::Prompt;
use crate::request::PerplexityRequest;

/// Tokens of a pass: its logits are 100 MB with OLMo 2's vocabulary.
const CHUNK: usize = 256;

pub(super) fn run(request: &PerplexityRequest) -> Result<()> {
    let text = Prompt::read(&request.text)?;
    let checkpoint = find(&request.run.model, Files::Model)?;
    let ids = match text {
        Prompt::Text(text) => checkpoint.needed_tokenizer()?.encode(&text)?,
        Prompt::Ids(ids) => ids,
    };
    if ids.len() < 2 {
        return Err(Failure::new(
            format!("expected at least 2 tokens, found {}", ids.len()),
            "the first token of a text is not scored: give a longer one",
        ));
    }
    let model = Model::open(checkpoint, &request.run, Sequences::one(ids.len()))?;
    let context = model.positions();
    let stride = request.stride.unwrap_or(context / 2);
    if context < 2 || stride >= context {
        return Err(Failure::usage(
            format!("`--stride` is {stride}: expected less than the window of {context} tokens"),
            "each window scores the tokens that the previous one did not contain, given those that it did",
        ));
    }
    model.backend.dispatch(Perplexity {
        request,
        model,
        ids,
        context,
        stride,
    })
}

/// A window of a text, and the tokens of it that are scored.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Window {
    tokens: Range<usize>,
    scored: Range<usize>,
}

/// Windows that score each of `len` tokens once, but for the first.
fn windows(len: usize, context: usize, stride: usize) -> Vec<Window> {
    let mut windows = Vec::new();
    let (mut start, mut done) = (0, 1);
    while done < len {
        let end = len.min(start + context);
        windows.push(Window {
            tokens: start..end,
            scored: done..end,
        });
        (start, done) = (start + stride, end);
    }
    windows
}

struct Perplexity<'a> {
    request: &'a PerplexityRequest,
    model: Model,
    ids: Vec<u32>,
    context: usize,
    stride: usize,
}

impl OnBackend for Perplexity<'_> {
    fn run<B: Backend>(self, device: B::Device) -> Result<()> {
        let verbosity = self.model.verbosity;
        let model = self.model.load::<B>(&device)?;
        let mut cache = model.new_cache(CacheOptions {
            capacity: self.context,
            ..self.model.cache
        });
        let started = Instant::now();
        let (mut sum, mut tokens) = (0.0, 0);
        let windows = windows(self.ids.len(), self.context, self.stride);
        for (i, window) in windows.iter().enumerate() {
            sum -= log_likelihood(&model, &mut cache, &self.ids, window)?;
            tokens += window.scored.len();
            let mean = sum / tokens as f64;
            let (done, all) = (i + 1, windows.len());
            verbosity.detail(format_args!(
                "window {done} of {all}: {mean:.4} nats a token"
            ));
        }
        let mean = sum / tokens as f64;
        if !mean.is_finite() {
            return Err(Failure::new(
                format!("the mean log-likelihood is not a number but {mean}"),
                NOT_FINITE,
            ));
        }
        let report = Report {
            perplexity: mean.exp(),
            nats_per_token: mean,
            tokens,
            text_tokens: self.ids.len(),
            context: self.context,
            stride: self.stride,
            tokens_per_second: tokens as f64 / started.elapsed().as_secs_f64(),
        };
        report.print(self.request.json)
    }
}

/// Log-likelihood of the scored tokens of a window, in nats.
fn log_likelihood<B: Backend>(
    model: &Olmo2<B>,
    cache: &mut KvCache<B>,
    ids: &[u32],
    window: &Window,
) -> Result<f64> {
    let start = window.tokens.start;
    // The logits at a position score the token after it, so the last one is not run.
    let run = &ids[start..window.tokens.end - 1];
    let scoring = |positions: &Range<usize>| {
        let first = (window.scored.start - 1 - start).max(positions.start);
        first..positions.end.max(first)
    };
    let chunks = Chunks {
        len: CHUNK,
        hidden_states: false,
        rows: |positions: Range<usize>| {
            let rows = scoring(&positions).map(|position| position - positions.start);
            LogitRows::Rows(rows.collect())
        },
    };
    cache.clear();
    let vocab = model.config().vocab_size;
    let mut sum = 0.0;
    prefill(model, cache, run, &chunks, |positions, output| {
        let Some(logits) = output.logits else {
            return Ok(());
        };
        let logits = to_host(logits)?;
        for (row, position) in logits.chunks(vocab).zip(scoring(&positions)) {
            sum += log_prob(row, ids[start + position + 1]);
        }
        Ok::<_, Failure>(())
    })?;
    Ok(sum)
}

/// The object of `--json`.
#[derive(Debug, Serialize)]
struct Report {
    perplexity: f64,
    nats_per_token: f64,
    /// Tokens that were scored.
    tokens: usize,
    text_tokens: usize,
    context: usize,
    stride: usize,
    tokens_per_second: f64,
}

impl Report {
    fn print(&self, json: bool) -> Result<()> {
        if json {
            return print_json(self);
        }
        let mut out = io::stdout().lock();
        writeln!(out, "perplexity      {:.4}", self.perplexity)?;
        writeln!(out, "nats per token  {:.6}", self.nats_per_token)?;
        let (tokens, all) = (self.tokens, self.text_tokens);
        writeln!(out, "tokens scored   {tokens} of {all}")?;
        let (context, stride) = (self.context, self.stride);
        writeln!(out, "window, stride  {context}, {stride}")?;
        Ok(out.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_token_but_the_first_is_scored_once() {
        let window = |tokens, scored| Window { tokens, scored };
        assert_eq!(
            windows(10, 4, 2),
            [
                window(0..4, 1..4),
                window(2..6, 4..6),
                window(4..8, 6..8),
                window(6..10, 8..10),
            ]
        );
        assert_eq!(windows(6, 4, 3), [window(0..4, 1..4), window(3..6, 4..6)]);
        assert_eq!(windows(3, 4, 2), [window(0..3, 1..3)]);
        for (len, context, stride) in [(2, 2, 1), (57, 7, 3), (100, 64, 63), (9, 100, 1)] {
            let windows = windows(len, context, stride);
            let scored: Vec<usize> = windows.iter().flat_map(|w| w.scored.clone()).collect();
            assert_eq!(scored, (1..len).collect::<Vec<_>>());
            for window in windows {
                assert!(window.tokens.len() <= context);
                assert!(window.scored.start > window.tokens.start);
            }
        }
    }
}
