//! `compare`: what differs between two models, or in one under another setting.

mod tensors;
mod texts;

use std::io::{self, Write};

use burn::prelude::*;
use olmo2::hub::Files;
use olmo2::{Chunks, LogitRows, Weights, prefill};
use serde::Serialize;

use super::distance::Distance;
use super::fixed_ids::fixed_ids;
use super::json::print_json;
use super::to_host::to_host;
use crate::backend::OnBackend;
use crate::messages::{Failure, Result, count};
use crate::model::{Model, Sequences, find};
use crate::prompt::Prompt;
use crate::request::{CompareRequest, PromptRequest, RunRequest};
use tensors::Tensors;

/// Ids that both sides run where none are given.
const TOKENS: usize = 64;
/// Tensors that differ of which a line is printed; `--json` has all.
const LINES: usize = 8;

pub(super) fn run(request: &CompareRequest) -> Result<()> {
    let [a, b] = &request.sides;
    let ids = ids(request)?;
    let tokens = ids.as_ref().map_or(TOKENS, Vec::len);
    let sequences = Sequences::one(tokens);
    let first = Model::open(find(&a.model, Files::Model)?, a, sequences)?;
    let prepared = (first.backend, first.threads);
    let second = find(&b.model, Files::Model)?;
    let second = Model::open_on(second, b, sequences, || Ok(prepared))?;
    let models = [first, second];
    let ids = ids.unwrap_or_else(|| fixed_ids(TOKENS, &models[0].config));
    let [a, b] = [weights(&models[0], a)?, weights(&models[1], b)?];
    let (tensors, [a, b]) = (Tensors::of(&a, &b), models);
    let report = Report {
        config: texts::config(&a.checkpoint, &b.checkpoint),
        tokenizer: texts::tokenizer(&a.checkpoint, &b.checkpoint)?,
        template: texts::template(&a.checkpoint, &b.checkpoint)?,
        tensors,
        logits: match a.config.vocab_size == b.config.vocab_size {
            true => Some(Logits::of(a, b, &ids)?),
            false => None,
        },
    };
    match request.json {
        true => print_json(&report)?,
        false => report.print()?,
    }
    match report.is_within(request.tolerance) {
        true => Ok(()),
        false => Err(Failure::shown()),
    }
}

/// The ids that were asked for.
fn ids(request: &CompareRequest) -> Result<Option<Vec<u32>>> {
    Ok(match &request.prompt {
        None => None,
        Some(PromptRequest::Ids(ids)) => Some(ids.clone()),
        Some(prompt) => {
            let checkpoint = find(&request.sides[0].model, Files::Model)?;
            let tokenizer = checkpoint.tokenizer()?;
            let prompt = Prompt::read_trimmed(prompt)?;
            Some(prompt.into_ids(&checkpoint, tokenizer.as_ref())?)
        }
    })
}

/// The weights that a side computes with.
fn weights(model: &Model, side: &RunRequest) -> Result<Weights> {
    Ok(match &side.options.quantize {
        Some(quantize) => model.weights().quantized(quantize)?,
        None => model.weights().clone(),
    })
}

#[derive(Debug, Serialize)]
struct Report {
    /// Fields of `config.json`.
    config: Vec<String>,
    tokenizer: Option<String>,
    template: Option<String>,
    tensors: Tensors,
    /// `None` where the vocabularies have two sizes.
    logits: Option<Logits>,
}

/// How B's logits differ from A's.
#[derive(Debug, Serialize)]
struct Logits {
    tokens: usize,
    max: f32,
    /// Kullback-Leibler divergence of the next token's distribution, mean over positions, in nats.
    kl: f64,
    /// The first position at which another token is the most likely.
    first_other_token: Option<usize>,
}

impl Logits {
    fn of(a: Model, b: Model, ids: &[u32]) -> Result<Self> {
        let vocab = a.config.vocab_size;
        let [a, b] = [logits(a, ids)?, logits(b, ids)?];
        let gaps = a.iter().zip(&b).map(|(x, y)| (x - y).abs());
        let best = |row: &[f32]| (0..vocab).max_by(|&i, &j| row[i].total_cmp(&row[j]));
        let mut rows = a.chunks_exact(vocab).zip(b.chunks_exact(vocab));
        Ok(Self {
            tokens: ids.len(),
            // Not a number is as far as can be.
            max: gaps.fold(0.0, |max, gap| {
                if gap.is_nan() {
                    f32::INFINITY
                } else {
                    gap.max(max)
                }
            }),
            kl: Distance::between(&b, &a, vocab).divergence,
            first_other_token: rows.position(|(a, b)| best(a) != best(b)),
        })
    }
}

/// The logits of all ids, `[tokens, vocab]`.
fn logits(model: Model, ids: &[u32]) -> Result<Vec<f32>> {
    let mut all = Vec::new();
    let backend = model.backend;
    backend.dispatch(LogitsOf {
        model,
        ids,
        all: &mut all,
    })?;
    Ok(all)
}

struct LogitsOf<'a> {
    model: Model,
    ids: &'a [u32],
    all: &'a mut Vec<f32>,
}

impl OnBackend for LogitsOf<'_> {
    fn run<B: Backend>(self, device: B::Device) -> Result<()> {
        let model = self.model.load::<B>(&device)?;
        let mut cache = model.new_cache(self.model.cache);
        let chunks = Chunks::new(|_| LogitRows::All);
        prefill(&model, &mut cache, self.ids, &chunks, |_, output| {
            if let Some(rows) = output.logits {
                self.all.extend(to_host(rows)?);
            }
            Ok(())
        })
    }
}

impl Report {
    fn is_within(&self, tolerance: f32) -> bool {
        let texts = [&self.tokenizer, &self.template];
        let logits = self.logits.as_ref();
        texts.iter().all(|text| text.is_none())
            && logits.is_some_and(|logits| logits.max <= tolerance)
    }

    fn print(&self) -> Result<()> {
        let mut out = io::stdout().lock();
        for field in &self.config {
            writeln!(out, "config.json: {field}")?;
        }
        let alike = |text: &Option<String>| text.clone().unwrap_or_else(|| "alike".into());
        writeln!(out, "tokenizer: {}", alike(&self.tokenizer))?;
        writeln!(out, "chat template: {}", alike(&self.template))?;
        self.print_tensors(&mut out)?;
        let Some(logits) = &self.logits else {
            writeln!(out, "logits: not compared, the vocabularies have two sizes")?;
            return Ok(());
        };
        let other = match logits.first_other_token {
            Some(at) => format!("another token is the most likely at position {at}"),
            None => "the most likely tokens are the same".into(),
        };
        let (tokens, max, kl) = (count(logits.tokens, "token"), logits.max, logits.kl);
        writeln!(
            out,
            "logits of {tokens}: max {max:.1e}, KL {kl:.1e} nats; {other}"
        )?;
        Ok(out.flush()?)
    }

    fn print_tensors(&self, out: &mut impl Write) -> Result<()> {
        let Tensors {
            equal,
            different,
            missing,
            surplus,
            reshaped,
        } = &self.tensors;
        writeln!(out, "tensors: {equal} equal, {} different", different.len())?;
        for tensor in different.iter().take(LINES) {
            let (max, rmse, percent) = (tensor.max, tensor.rmse, 100.0 * tensor.relative);
            let name = &tensor.name;
            writeln!(
                out,
                "  `{name}`: max {max:.1e}, RMSE {rmse:.1e}, {percent:.2}%"
            )?;
        }
        if different.len() > LINES {
            writeln!(out, "  and {} more", different.len() - LINES)?;
        }
        let lists = [
            ("in A alone", missing),
            ("in B alone", surplus),
            ("of another shape", reshaped),
        ];
        for (what, names) in lists.iter().filter(|(_, names)| !names.is_empty()) {
            writeln!(out, "  {what}: `{}`", names.join("`, `"))?;
        }
        Ok(())
    }
}
