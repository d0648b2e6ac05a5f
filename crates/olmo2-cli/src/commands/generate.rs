//! `generate`: the continuation of a prompt, as it comes or as JSON.

use std::io::{self, IsTerminal, Write};

use anyhow::Result;
use burn::prelude::*;
use olmo2::config::generation::GenerationConfig;
use olmo2::hub::Files;
use olmo2::{FinishReason, Session, Tokenizer};
use serde::Serialize;

use crate::args::GenerateArgs;
use crate::backend::Command;
use crate::failure::Failure;
use crate::memory::Sequences;
use crate::model::{Checkpoint, Source, cache_options, end_of_positions};
use crate::prompt::Prompt;
use crate::sampling::{self, Ends};
use crate::stream::{Answer, Piece, TextStream, answer};
use crate::talk::Talk;
use crate::words::count;

/// Tokens to generate where nobody says how many.
const DEFAULT_NEW_TOKENS: usize = 256;

pub(crate) fn run(args: &GenerateArgs) -> Result<()> {
    let talk = Talk::new(&args.run.source);
    let prompt = Prompt::read(&args.prompt)?;
    let source = Source::find(&args.run.source, Files::Model, talk)?;
    let tokenizer = source.tokenizer()?;
    if tokenizer.is_none() && !args.limit.stop.is_empty() {
        return Err(Failure::new(
            format!(
                "`--stop` needs text, and {} has no `tokenizer.json`",
                source.name()
            ),
            "leave `--stop` out",
        )
        .into());
    }
    let ids = prompt.into_ids(&source, tokenizer.as_ref())?;
    let generation = source.generation()?;
    let wanted = generation.max_new_tokens.unwrap_or(DEFAULT_NEW_TOKENS);
    let wanted = args.limit.max_new_tokens.unwrap_or(wanted);
    let longest = ids.len().saturating_add(wanted);
    let checkpoint = Checkpoint::open(source, &args.run, Sequences::one(longest))?;
    checkpoint.backend.dispatch(Generate {
        args,
        checkpoint,
        tokenizer,
        generation,
        ids,
        wanted,
    })
}

struct Generate<'a> {
    args: &'a GenerateArgs,
    checkpoint: Checkpoint,
    tokenizer: Option<Tokenizer>,
    generation: GenerationConfig,
    ids: Vec<u32>,
    /// Tokens to generate, as far as there is room where nobody said how many.
    wanted: usize,
}

impl Command for Generate<'_> {
    fn run<B: Backend>(self, device: B::Device) -> Result<()> {
        let (args, config, talk) = (self.args, &self.checkpoint.config, self.checkpoint.talk);
        let sampling = sampling::checked(&args.sampling, &self.generation)?;
        talk.detail(sampling::describe_defaults(&self.generation));
        talk.detail(format_args!("sampling: {}", sampling::describe(&sampling)));
        if let Some(note) = sampling::surplus_ids(config, self.tokenizer.as_ref()) {
            talk.note(note);
        }
        if let Some(note) = sampling::unused(&args.sampling, &sampling) {
            talk.note(note);
        }
        let mut ends = Ends::new(config, &self.generation, self.tokenizer.as_ref());
        if args.ignore_eos {
            ends.stop_ids.clear();
        }
        let tokenizer = self.tokenizer.as_ref();
        let stream = tokenizer
            .map(|tokenizer| TextStream::new(tokenizer, &args.limit.stop))
            .transpose()?;

        let model = self.checkpoint.load::<B>(&device)?;
        let mut session = Session::with_options(&model, cache_options(config, &args.run));
        // Only who asks for a number is told that it does not fit.
        let room = session.room(self.ids.len()).max(1);
        let is_cut = args.limit.max_new_tokens.is_none() && room < self.wanted;
        let new_tokens = if is_cut { room } else { self.wanted };
        let generation = session.generate(&self.ids, ends.params(new_tokens, &sampling))?;

        let mut printer = Printer::new(args.json);
        let answer = answer(generation, stream, |piece| printer.show(&piece), || false)?;
        let answer = answer.sampled_by(&sampling);
        printer.finish(&answer, self.ids.len())?;
        if is_cut && answer.finish == Some(FinishReason::Length) {
            talk.note(end_of_positions(config, args.run.context));
        }
        talk.detail(summary(&answer));
        Ok(())
    }
}

/// Puts pieces on stdout as they come, or the JSON object at the end.
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

    fn show(&mut self, piece: &Piece<'_>) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        match piece {
            Piece::Text(text) => write!(self.out, "{text}")?,
            Piece::Id(id) if self.ids == 0 => write!(self.out, "{id}")?,
            Piece::Id(id) => write!(self.out, ",{id}")?,
        }
        self.ids += 1;
        self.out.flush()
    }

    fn finish(&mut self, answer: &Answer, prompt_tokens: usize) -> Result<()> {
        if self.json {
            let json = serde_json::to_string(&Report::new(answer, prompt_tokens))?;
            writeln!(self.out, "{json}")?;
        } else if answer.text.is_none() || self.out.is_terminal() {
            // A file gets the text alone; a shell's prompt wants a line of its own.
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
pub(crate) fn summary(answer: &Answer) -> String {
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
