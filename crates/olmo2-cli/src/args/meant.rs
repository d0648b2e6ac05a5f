//! From typed arguments to plain requests, once.

use clap_complete::Shell;
use olmo2::LoadOptions;

use super::compare;
use super::prompt::PromptArgs;
use super::run::{DeviceArgs, RunArgs, SourceArgs};
use super::typed::{self, Command, ModelsCommand};
use crate::messages::{Failure, Result, Verbosity};
use crate::request::{
    AccuracyRequest, BenchRequest, ChatRequest, CheckRequest, CompareRequest, ConvertRequest,
    DeviceRequest, GenerateRequest, LimitRequest, LogitsRequest, ModelRequest, ModelsRequest,
    PerplexityRequest, PromptRequest, RunRequest, SamplingRequest, TokenizeRequest,
};

/// A command and its request.
#[derive(Debug)]
pub(crate) enum Request {
    Generate(GenerateRequest),
    Chat(ChatRequest),
    Tokenize(TokenizeRequest),
    Logits(LogitsRequest),
    Perplexity(PerplexityRequest),
    Bench(BenchRequest),
    Convert(ConvertRequest),
    Check(CheckRequest),
    Accuracy(AccuracyRequest),
    Compare(CompareRequest),
    Models(ModelsRequest),
    Completions(Shell),
}

/// The request of a command line.
///
/// # Errors
/// A command line that clap accepts and that makes no sense.
pub(crate) fn resolve(command: Command) -> Result<Request> {
    Ok(match command {
        Command::Generate(args) => Request::Generate(generate(args)?),
        Command::Chat(args) => Request::Chat(ChatRequest {
            system: args.system,
            limit: limit(args.limit),
            sampling: sampling(args.sampling),
            run: run(args.run),
        }),
        Command::Tokenize(args) => Request::Tokenize(tokenize(args)),
        Command::Logits(args) => Request::Logits(LogitsRequest {
            prompt: prompt(args.prompt)?,
            out: args.out,
            hidden: args.hidden,
            run: run(args.run),
        }),
        Command::Perplexity(args) => Request::Perplexity(PerplexityRequest {
            text: match args.file {
                Some(file) => PromptRequest::File(file),
                None => PromptRequest::Ids(args.ids.unwrap_or_default()),
            },
            stride: args.stride.map(|stride| stride as usize),
            json: args.json,
            run: run(args.run),
        }),
        Command::Bench(args) => Request::Bench(bench(args)),
        Command::Convert(args) => Request::Convert(ConvertRequest {
            source: args.source,
            revision: args.revision,
            out: args.out,
            dtype: args.dtype.map(Into::into),
            quantize: args.quantize.choice().unwrap_or_default(),
            verbosity: Verbosity::new(false, args.quiet),
        }),
        Command::Check(args) => Request::Check(CheckRequest {
            folder: args.model,
            verbosity: Verbosity::new(false, args.quiet),
        }),
        Command::Verify(_) => {
            return Err(Failure::usage(
                "`verify` is now called `check`",
                "`olmo2-cli check --model DIR` checks a record against its hashes",
            ));
        }
        Command::Accuracy(args) => Request::Accuracy(AccuracyRequest {
            model: model(args.source),
            device: device(&args.device),
            tokens: args.tokens,
        }),
        Command::Compare(args) => {
            let device = device(&args.device);
            Request::Compare(compare::request(args, device))
        }
        Command::Models(args) => Request::Models(match args.command {
            ModelsCommand::List { json } => ModelsRequest::List { json },
            ModelsCommand::Remove { id, revision } => ModelsRequest::Remove { id, revision },
            ModelsCommand::Revisions { id, json } => ModelsRequest::Revisions { id, json },
        }),
        Command::Completions(args) => Request::Completions(args.shell),
    })
}

fn model(args: SourceArgs) -> ModelRequest {
    ModelRequest {
        name: args.model,
        revision: args.revision,
        verbosity: Verbosity::new(args.verbose, args.quiet),
    }
}

fn device(args: &DeviceArgs) -> DeviceRequest {
    DeviceRequest {
        backend: args.backend,
        threads: args.threads.map(usize::from),
    }
}

fn run(args: RunArgs) -> RunRequest {
    RunRequest {
        model: model(args.source),
        device: device(&args.device),
        options: LoadOptions {
            precision: args.dtype.into(),
            quantize: args.quantize.choice(),
        },
        cache_dtype: args.cache_dtype.map(Into::into),
        context: args.context.map(|context| context as usize),
    }
}

fn prompt(args: PromptArgs) -> Result<PromptRequest> {
    if let Some(ids) = args.ids {
        return Ok(PromptRequest::Ids(ids));
    }
    if let Some(file) = args.prompt_file {
        return Ok(PromptRequest::File(file));
    }
    match args.prompt {
        Some(dash) if dash == "-" => Err(Failure::usage(
            "`-` is not a prompt",
            "`--prompt-file -` reads the prompt from stdin",
        )),
        Some(text) => Ok(PromptRequest::Text(text)),
        None => Err(Failure::usage(
            "no prompt was given",
            "give a text, `--prompt-file FILE` (`-` is stdin) or `--ids ID,ID,..`",
        )),
    }
}

fn limit(args: typed::LimitArgs) -> LimitRequest {
    LimitRequest {
        max_new_tokens: args.max_new_tokens,
        stop: args.stop,
    }
}

fn sampling(args: typed::SamplingArgs) -> SamplingRequest {
    SamplingRequest {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        repetition_penalty: args.repetition_penalty,
        presence_penalty: args.presence_penalty,
        frequency_penalty: args.frequency_penalty,
        logit_bias: args.logit_bias,
        seed: args.seed,
    }
}

fn generate(args: typed::GenerateArgs) -> Result<GenerateRequest> {
    Ok(GenerateRequest {
        prompt: prompt(args.prompt)?,
        limit: limit(args.limit),
        ignore_eos: args.ignore_eos,
        json: args.json,
        sampling: sampling(args.sampling),
        run: run(args.run),
    })
}

fn tokenize(args: typed::TokenizeArgs) -> TokenizeRequest {
    TokenizeRequest {
        input: match (args.text, args.file) {
            (Some(text), _) => PromptRequest::Text(text),
            (None, Some(file)) => PromptRequest::File(file),
            (None, None) => PromptRequest::Ids(args.decode.unwrap_or_default()),
        },
        json: args.json,
        model: model(args.source),
    }
}

fn bench(args: typed::BenchArgs) -> BenchRequest {
    BenchRequest {
        prompt_tokens: args.prompt_tokens,
        new_tokens: args.new_tokens,
        depth: args.depth,
        batch: args.batch.into(),
        repetitions: args.repetitions,
        json: args.json,
        run: run(args.run),
    }
}
