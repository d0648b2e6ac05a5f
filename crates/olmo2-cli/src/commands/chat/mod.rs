//! `chat`: a conversation, line by line, whose cache is kept from turn to turn.

mod command;
mod conversation;
mod interrupt;
mod lines;

use std::io::{self, Write};

use burn::prelude::*;
use olmo2::config::generation::GenerationConfig;
use olmo2::hub::Files;
use olmo2::{FinishReason, GenerateParams, Session, TextStream, Tokenizer};

use super::generate::summary;
use crate::answer::{Answer, AnswerPiece, answer};
use crate::backend::OnBackend;
use crate::memory::size;
use crate::messages::{Failure, Result, Verbosity, count};
use crate::model::{Model, Sequences, find};
use crate::request::ChatRequest;
use crate::sampling;
use command::{HELP, Input};
use conversation::Conversation;
use interrupt::Interrupt;
use lines::Lines;

/// Tokens of an answer where neither a flag nor the model's files give the number.
const DEFAULT_NEW_TOKENS: usize = 1024;

pub(super) fn run(request: &ChatRequest) -> Result<()> {
    let checkpoint = find(&request.run.model, Files::Model)?;
    let tokenizer = checkpoint.tokenizer()?.ok_or_else(|| {
        let message = format!(
            "{} has no `tokenizer.json`, and a chat is text",
            checkpoint.name()
        );
        Failure::new(message, "`olmo2-cli generate --ids` runs it on token ids")
    })?;
    let template = checkpoint.chat_template()?;
    if template.is_none() && request.system.is_some() {
        return Err(Failure::new(
            format!(
                "`--system` needs a chat template, and {} has none",
                checkpoint.name()
            ),
            "leave `--system` out, or choose an instruct model",
        ));
    }
    let mut conversation = Conversation::new(template);
    conversation.set_system(request.system.clone());
    let generation = checkpoint.generation_config()?;
    let sequences = Sequences {
        count: 1,
        max_tokens: None,
    };
    let model = Model::open(checkpoint, &request.run, sequences)?;
    model.backend.dispatch(Chat {
        request,
        model,
        tokenizer,
        generation,
        conversation,
    })
}

struct Chat<'a> {
    request: &'a ChatRequest,
    model: Model,
    tokenizer: Tokenizer,
    generation: GenerationConfig,
    conversation: Conversation,
}

impl OnBackend for Chat<'_> {
    fn run<B: Backend>(self, device: B::Device) -> Result<()> {
        let (opened, verbosity) = (&self.model, self.model.verbosity);
        let (config, tokenizer) = (&opened.config, Some(&self.tokenizer));
        let mut params = opened.checkpoint.generate_params()?;
        let sampling = &self.request.sampling;
        params.sampling =
            sampling::chosen(sampling, &self.generation, config, tokenizer, verbosity)?;
        if !self.conversation.has_template() {
            verbosity.note(
                "this model has no chat template: it continues the text that you type, line after \
                 line",
            );
        }
        let model = opened.load::<B>(&device)?;
        let lines = Lines::open()?;
        if lines.is_terminal() {
            verbosity.note("`/help` lists the commands, Ctrl-C ends an answer, Ctrl-D the chat");
        }
        let from_file = self.generation.max_new_tokens;
        let repl = Repl {
            params,
            session: Session::with_options(model, opened.cache),
            new_tokens: self.request.limit.max_new_tokens.or(from_file),
            stop: &self.request.limit.stop,
            tokenizer: self.tokenizer,
            conversation: self.conversation,
            interrupt: Interrupt::install()?,
            verbosity,
            end_of_positions: opened.end_of_positions(),
            last: None,
        };
        repl.run(lines)
    }
}

/// The state of a chat.
struct Repl<'a, B: Backend> {
    session: Session<B>,
    conversation: Conversation,
    tokenizer: Tokenizer,
    params: GenerateParams,
    /// Tokens of an answer at most.
    new_tokens: Option<usize>,
    stop: &'a [String],
    interrupt: Interrupt,
    verbosity: Verbosity,
    /// What is said where an answer ends for lack of room.
    end_of_positions: String,
    /// The last answer, and the tokens of its prompt.
    last: Option<(Answer, usize)>,
}

impl<B: Backend> Repl<'_, B> {
    fn run(mut self, mut lines: Lines) -> Result<()> {
        let mut failed = false;
        while let Some(line) = lines.next()? {
            match self.line(&line) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) if error.is_broken_pipe() => return Err(error),
                // The conversation so far is worth more than the line that failed.
                Err(error) => {
                    error.show();
                    failed = true;
                }
            }
        }
        // On a terminal the error was seen; a script reads the exit code.
        let failed = failed && !lines.is_terminal();
        lines.close();
        match failed {
            true => Err(Failure::shown()),
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
        let room = self.session.max_new_tokens(prompt.len());
        if room == 0 {
            let held = count(prompt.len(), "token");
            let message = format!("the conversation has {held} and leaves no room");
            let hint = "`/clear` begins a new one; `--context` makes room";
            return Err(Failure::new(message, hint));
        }
        let wanted = self.new_tokens.unwrap_or(DEFAULT_NEW_TOKENS);
        let params = self.params.clone().with_max_new_tokens(wanted.min(room));
        let stream = TextStream::new(&self.tokenizer, self.stop)?;
        let answering = self.interrupt.answering();
        let generation = self.session.generate(&prompt, params)?;
        let mut out = io::stdout();
        let show = |piece: AnswerPiece<'_>| match piece {
            AnswerPiece::Text(text) => write!(out, "{text}").and_then(|()| out.flush()),
            AnswerPiece::Id(_) => Ok(()),
        };
        let answer = answer(generation, Some(stream), show, || {
            answering.is_interrupted()
        })?;
        drop(answering);
        writeln!(io::stdout())?;
        if room < wanted && answer.finish == Some(FinishReason::Length) {
            self.verbosity.note(&self.end_of_positions);
        }
        let answer = answer.sampled_by(&self.params.sampling);
        let said = answer.text.clone().unwrap_or_default();
        self.conversation.add(text, &prompt, &answer.ids, said);
        self.verbosity.detail(summary(&answer));
        self.last = Some((answer, prompt.len()));
        Ok(())
    }

    fn settings(&self) -> String {
        let new_tokens = self.new_tokens.unwrap_or(DEFAULT_NEW_TOKENS);
        let sampling = sampling::describe(&self.params.sampling);
        format!("{sampling}, max_new_tokens {new_tokens}")
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        match name.replace('-', "_").as_str() {
            "max_new_tokens" => self.new_tokens = Some(sampling::parse(name, value)?),
            _ => sampling::set(&mut self.params.sampling, name, value)?,
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
