//! `generate`: the continuation of a prompt, streamed or as JSON.

use std::io::{self, IsTerminal, Write};

use burn::prelude::*;
use olmo2::config::generation::GenerationConfig;
use olmo2::hub::Files;
use olmo2::{DEFAULT_NEW_TOKENS, FinishReason, GenerateParams, Session, TextStream, Tokenizer};
use serde::Serialize;

use super::json::print_json;
use crate::answer::{Answer, AnswerPiece, answer};
use crate::backend::OnBackend;
use crate::messages::{Failure, Result, count};
use crate::model::{Model, Sequences, find};
use crate::prompt::Prompt;
use crate::request::GenerateRequest;
use crate::sampling;

pub(super) fn run(request: &GenerateRequest) -> Result<()> {
    let prompt = Prompt::read_trimmed(&request.prompt)?;
    let checkpoint = find(&request.run.model, Files::Model)?;
    let tokenizer = checkpoint.tokenizer()?;
    if tokenizer.is_none() && !request.limit.stop.is_empty() {
        return Err(Failure::new(
            format!(
                "`--stop` needs text, and {} has no `tokenizer.json`",
                checkpoint.name()
            ),
            "leave `--stop` out",
        ));
    }
    let ids = prompt.into_ids(&checkpoint, tokenizer.as_ref())?;
    let generation = checkpoint.generation_config()?;
    let wanted = generation.max_new_tokens.unwrap_or(DEFAULT_NEW_TOKENS);
    let wanted = request.limit.max_new_tokens.unwrap_or(wanted);
    let max_tokens = ids.len().saturating_add(wanted);
    let model = Model::open(checkpoint, &request.run, Sequences::one(max_tokens))?;
    model.backend.dispatch(Generate {
        request,
        model,
        tokenizer,
        generation,
        ids,
        wanted,
    })
}

struct Generate<'a> {
    request: &'a GenerateRequest,
    model: Model,
    tokenizer: Option<Tokenizer>,
    generation: GenerationConfig,
    ids: Vec<u32>,
    /// Tokens to generate; where no flag gave the number, fewer if the positions end before.
    wanted: usize,
}

impl OnBackend for Generate<'_> {
    fn run<B: Backend>(self, device: B::Device) -> Result<()> {
        let (request, verbosity) = (self.request, self.model.verbosity);
        let mut params = self.params()?;
        let stream = self.tokenizer.as_ref();
        let stream = stream.map(|tokenizer| TextStream::new(tokenizer, &request.limit.stop));
        let stream = stream.transpose()?;

        let model = self.model.load::<B>(&device)?;
        let mut session = Session::with_options(model, self.model.cache);
        // Only a number that was given by flag is an error where it does not fit.
        let room = session.max_new_tokens(self.ids.len()).max(1);
        let is_cut = request.limit.max_new_tokens.is_none() && room < self.wanted;
        params.max_new_tokens = if is_cut { room } else { self.wanted };
        let sampling = params.sampling.clone();
        let generation = session.generate(&self.ids, params)?;

        let mut printer = Printer::new(request.json);
        let answer = answer(generation, stream, |piece| printer.show(&piece), || false)?;
        let answer = answer.sampled_by(&sampling);
        printer.finish(&answer, self.ids.len())?;
        if is_cut && answer.finish == Some(FinishReason::Length) {
            verbosity.note(self.model.end_of_positions());
        }
        verbosity.detail(summary(&answer));
        Ok(())
    }
}

impl Generate<'_> {
    /// The model's defaults, overridden by the request; `--verbose` prints them.
    fn params(&self) -> Result<GenerateParams> {
        let tokenizer = self.tokenizer.as_ref();
        let mut params = self.model.checkpoint.generate_params()?;
        params.sampling = sampling::chosen(
            &self.request.sampling,
            &self.generation,
            &self.model.config,
            tokenizer,
            self.model.verbosity,
        )?;
        if self.request.ignore_eos {
            params.stop_ids.clear();
        }
        Ok(params)
    }
}

/// Writes pieces to stdout as they come, or the JSON object at the end.
struct Printer {
    out: io::Stdout,
    json: bool,
    /// Ids shown so far.
    ids: usize,
}

impl Printer {
    fn new(json: bool) -> Self {
        Self {
            out: io::stdout(),
            json,
            ids: 0,
        }
    }

    fn show(&mut self, piece: &AnswerPiece<'_>) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        match piece {
            AnswerPiece::Text(text) => write!(self.out, "{text}")?,
            AnswerPiece::Id(id) if self.ids == 0 => write!(self.out, "{id}")?,
            AnswerPiece::Id(id) => write!(self.out, ",{id}")?,
        }
        self.ids += 1;
        self.out.flush()
    }

    fn finish(&mut self, answer: &Answer, prompt_tokens: usize) -> Result<()> {
        if self.json {
            print_json(&Report::new(answer, prompt_tokens))?;
        } else if answer.text.is_none() || self.out.is_terminal() {
            // On a terminal the shell's prompt then starts on a new line.
            writeln!(self.out)?;
        }
        Ok(self.out.flush()?)
    }
}

/// The object of `--json`.
#[derive(Debug, Serialize)]
struct Report<'a> {
    token_ids: &'a [u32],
    text: Option<&'a str>,
    finish_reason: Option<&'static str>,
    seed: Option<u64>,
    prompt_tokens: usize,
    timings: TimingsReport,
}

#[derive(Debug, Serialize)]
struct TimingsReport {
    prefill_tokens_per_second: f64,
    decode_tokens_per_second: f64,
    time_to_first_token_ms: f64,
}

impl<'a> Report<'a> {
    fn new(answer: &'a Answer, prompt_tokens: usize) -> Self {
        let timings = &answer.timings;
        Self {
            token_ids: &answer.ids,
            text: answer.text.as_deref(),
            finish_reason: answer.finish.map(name),
            seed: answer.seed,
            prompt_tokens,
            timings: TimingsReport {
                prefill_tokens_per_second: timings.prefill_tokens_per_second(),
                decode_tokens_per_second: timings.decode_tokens_per_second(),
                time_to_first_token_ms: timings.first_token.as_secs_f64() * 1e3,
            },
        }
    }
}

/// As the OpenAI API spells it.
fn name(finish: FinishReason) -> &'static str {
    match finish {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    }
}

/// One line about a text that is done.
pub(super) fn summary(answer: &Answer) -> String {
    let timings = &answer.timings;
    let seed = answer.seed.map(|seed| format!(", seed {seed}"));
    format!(
        "{} ({}){}; prefill of {} {:.1} tok/s, decode {:.1} tok/s, first token after {:.0} ms",
        count(answer.ids.len(), "token"),
        answer.finish.map_or("interrupted", name),
        seed.unwrap_or_default(),
        count(timings.prefill_tokens, "token"),
        timings.prefill_tokens_per_second(),
        timings.decode_tokens_per_second(),
        timings.first_token.as_secs_f64() * 1e3,
    )
}
