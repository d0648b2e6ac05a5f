//! `chat`: a conversation, line by line, whose cache is kept from turn to turn.

mod command;
mod conversation;
mod interrupt;
mod lines;

use std::io::{self, Write};

use anyhow::Result;
use burn::prelude::*;
use olmo2::config::generation::GenerationConfig;
use olmo2::hub::Files;
use olmo2::{FinishReason, SamplingParams, Session, Tokenizer};

use crate::args::ChatArgs;
use crate::backend::Command;
use crate::failure::{self, Failure};
use crate::generate::summary;
use crate::memory::{Sequences, size};
use crate::model::{Checkpoint, Source, cache_options, end_of_positions};
use crate::sampling::{self, Ends};
use crate::stream::{Answer, Piece, TextStream, answer};
use crate::talk::Talk;
use crate::words::count;

use command::{HELP, Input};
use conversation::Conversation;
use interrupt::Interrupt;
use lines::Lines;

/// Tokens of an answer where nobody says how many.
const DEFAULT_NEW_TOKENS: usize = 1024;

pub(crate) fn run(args: &ChatArgs) -> Result<()> {
    let talk = Talk::new(&args.run.source);
    let source = Source::find(&args.run.source, Files::Model, talk)?;
    let tokenizer = source.tokenizer()?.ok_or_else(|| {
        let message = format!(
            "{} has no `tokenizer.json`, and a chat is text",
            source.name()
        );
        Failure::new(message, "`olmo2-cli generate --ids` runs it on token ids")
    })?;
    let template = source.template()?;
    if template.is_none() && args.system.is_some() {
        return Err(Failure::new(
            format!(
                "`--system` needs a chat template, and {} has none",
                source.name()
            ),
            "leave `--system` out, or choose an instruct model",
        )
        .into());
    }
    let mut conversation = Conversation::new(template);
    conversation.set_system(args.system.clone());
    let generation = source.generation()?;
    let sequences = Sequences {
        count: 1,
        longest: None,
    };
    let checkpoint = Checkpoint::open(source, &args.run, sequences)?;
    checkpoint.backend.dispatch(Chat {
        args,
        checkpoint,
        tokenizer,
        generation,
        conversation,
    })
}

struct Chat<'a> {
    args: &'a ChatArgs,
    checkpoint: Checkpoint,
    tokenizer: Tokenizer,
    generation: GenerationConfig,
    conversation: Conversation,
}

impl Command for Chat<'_> {
    fn run<B: Backend>(self, device: B::Device) -> Result<()> {
        let (config, talk) = (&self.checkpoint.config, self.checkpoint.talk);
        let sampling = sampling::checked(&self.args.sampling, &self.generation)?;
        talk.detail(sampling::describe_defaults(&self.generation));
        talk.detail(format_args!("sampling: {}", sampling::describe(&sampling)));
        if let Some(note) = sampling::surplus_ids(config, Some(&self.tokenizer)) {
            talk.note(note);
        }
        if let Some(note) = sampling::unused(&self.args.sampling, &sampling) {
            talk.note(note);
        }
        if !self.conversation.has_template() {
            talk.note(
                "this model has no chat template: it continues the text that you type, line after \
                 line",
            );
        }
        let model = self.checkpoint.load::<B>(&device)?;
        let lines = Lines::open()?;
        if lines.is_terminal() {
            talk.note("`/help` lists the commands, Ctrl-C ends an answer, Ctrl-D the chat");
        }
        let from_file = self.generation.max_new_tokens;
        let repl = Repl {
            ends: Ends::new(config, &self.generation, Some(&self.tokenizer)),
            session: Session::with_options(&model, cache_options(config, &self.args.run)),
            new_tokens: self.args.limit.max_new_tokens.or(from_file),
            stop: &self.args.limit.stop,
            tokenizer: self.tokenizer,
            conversation: self.conversation,
            sampling,
            interrupt: Interrupt::install()?,
            talk,
            end_of_positions: end_of_positions(config, self.args.run.context),
            last: None,
        };
        repl.run(lines)
    }
}

/// The state of a chat.
struct Repl<'a, 'm, B: Backend> {
    session: Session<'m, B>,
    conversation: Conversation,
    tokenizer: Tokenizer,
    sampling: SamplingParams,
    ends: Ends,
    /// Tokens of an answer at most.
    new_tokens: Option<usize>,
    stop: &'a [String],
    interrupt: Interrupt,
    talk: Talk,
    /// What is told where an answer ends for lack of room.
    end_of_positions: String,
    /// The last answer, and the tokens of its prompt.
    last: Option<(Answer, usize)>,
}

impl<B: Backend> Repl<'_, '_, B> {
    fn run(mut self, mut lines: Lines) -> Result<()> {
        let mut failed = false;
        while let Some(line) = lines.next()? {
            match self.line(&line) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) if failure::is_broken_pipe(&error) => return Err(error),
                // What was said so far is worth more than the line that failed.
                Err(error) => {
                    failure::tell(&error);
                    failed = true;
                }
            }
        }
        // Somebody who types has seen it; a script reads the exit code.
        let failed = failed && !lines.is_terminal();
        lines.close();
        match failed {
            true => Err(failure::Told.into()),
            false => Ok(()),
        }
    }

    /// Does what a line says; false ends the chat.
    fn line(&mut self, line: &str) -> Result<bool> {
        let mut out = io::stdout();
        match Input::parse(line)? {
            Input::Nothing => {}
            Input::Exit => return Ok(false),
            Input::Help => write!(out, "{HELP}")?,
            Input::Clear => self.conversation.clear(),
            Input::System(text) => {
                self.conversation.need_template()?;
                self.conversation.set_system(text);
            }
            Input::Show => writeln!(out, "{}", self.settings())?,
            Input::Set(name, value) => self.set(&name, &value)?,
            Input::Stats => write!(out, "{}", self.stats())?,
            Input::Save { file, replace } => self.conversation.save(&file, replace)?,
            Input::Say(text) => self.turn(&text)?,
        }
        out.flush()?;
        Ok(true)
    }

    /// One answer, streamed.
    fn turn(&mut self, text: &str) -> Result<()> {
        let prompt = self.conversation.prompt(text, &self.tokenizer)?;
        let room = self.session.room(prompt.len());
        if room == 0 {
            let held = count(prompt.len(), "token");
            let message = format!("the conversation has {held} and leaves no room");
            return Err(
                Failure::new(message, "`/clear` begins a new one; `--context` makes room").into(),
            );
        }
        let wanted = self.new_tokens.unwrap_or(DEFAULT_NEW_TOKENS);
        let params = self.ends.params(wanted.min(room), &self.sampling);
        let stream = TextStream::new(&self.tokenizer, self.stop)?;
        let answering = self.interrupt.answering();
        let generation = self.session.generate(&prompt, params)?;
        let mut out = io::stdout();
        let show = |piece: Piece<'_>| match piece {
            Piece::Text(text) => write!(out, "{text}").and_then(|()| out.flush()),
            Piece::Id(_) => Ok(()),
        };
        let answer = answer(generation, Some(stream), show, || {
            answering.is_interrupted()
        })?;
        drop(answering);
        writeln!(io::stdout())?;
        if room < wanted && answer.finish == Some(FinishReason::Length) {
            self.talk.note(&self.end_of_positions);
        }
        let answer = answer.sampled_by(&self.sampling);
        let said = answer.text.clone().unwrap_or_default();
        self.conversation.add(text, &prompt, &answer.ids, said);
        self.talk.detail(summary(&answer));
        self.last = Some((answer, prompt.len()));
        Ok(())
    }

    fn settings(&self) -> String {
        let new_tokens = self.new_tokens.unwrap_or(DEFAULT_NEW_TOKENS);
        let sampling = sampling::describe(&self.sampling);
        format!("{sampling}, max_new_tokens {new_tokens}")
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        match name.replace('-', "_").as_str() {
            "max_new_tokens" => self.new_tokens = Some(sampling::parse(name, value)?),
            _ => sampling::set(&mut self.sampling, name, value)?,
        }
        Ok(())
    }

    fn stats(&self) -> String {
        let cache = self.session.cache();
        let turns = self.conversation.turns();
        let held = count(cache.len(0), "position");
        let bytes = size(cache.size_bytes() as u64);
        let mut text = format!("turns {turns}; {held} in the cache, {bytes}\n");
        if let Some((answer, prompt)) = &self.last {
            let reused = prompt - answer.timings.prefill_tokens;
            let prompt = count(*prompt, "token");
            text += &format!("prompt of {prompt}, {reused} of them from the cache\n");
            text += &format!("{}\n", summary(answer));
        }
        text
    }
}
