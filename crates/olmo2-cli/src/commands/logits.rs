//! `logits`: the logits of every position, and the hidden states, in a safetensors file.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use burn::prelude::*;
use olmo2::hub::Files;
use olmo2::{LogitRows, Olmo2};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize_to_file};

use crate::args::LogitsArgs;
use crate::backend::Command;
use crate::failure::Failure;
use crate::memory::Sequences;
use crate::model::{Checkpoint, Source, cache_options, positions};
use crate::passes::{self, Wanted};
use crate::prompt::Prompt;
use crate::talk::Talk;
use crate::words::count;

/// Tokens of a pass.
const CHUNK: usize = 512;

pub(crate) fn run(args: &LogitsArgs) -> Result<()> {
    let talk = Talk::new(&args.run.source);
    let out = destination(&args.out)?;
    let prompt = Prompt::read(&args.prompt)?;
    let source = Source::find(&args.run.source, Files::Model, talk)?;
    let tokenizer = match &prompt {
        Prompt::Text(_) => source.tokenizer()?,
        Prompt::Ids(_) => None,
    };
    let ids = prompt.into_ids(&source, tokenizer.as_ref())?;
    let checkpoint = Checkpoint::open(source, &args.run, Sequences::one(ids.len()))?;
    let limit = positions(&checkpoint.config, args.run.context);
    if ids.len() > limit {
        return Err(Failure::new(
            format!(
                "{} do not fit {}",
                count(ids.len(), "token"),
                count(limit, "position")
            ),
            "shorten the input, or raise `--context` as far as the model goes",
        )
        .into());
    }
    checkpoint.backend.dispatch(Logits {
        args,
        out,
        checkpoint,
        ids,
    })
}

struct Logits<'a> {
    args: &'a LogitsArgs,
    out: PathBuf,
    checkpoint: Checkpoint,
    ids: Vec<u32>,
}

impl Command for Logits<'_> {
    fn run<B: Backend>(self, device: B::Device) -> Result<()> {
        let model = self.checkpoint.load::<B>(&device)?;
        let tensors = self.tensors(&model)?;
        write(&self.out, &tensors)?;
        let (out, seq) = (self.args.out.display(), count(self.ids.len(), "position"));
        let talk = self.checkpoint.talk;
        talk.detail(format_args!("`{out}`: {seq}"));
        Ok(())
    }
}

impl Logits<'_> {
    /// Runs the model in pieces and gathers what it returns.
    fn tensors<B: Backend>(&self, model: &Olmo2<B>) -> Result<Vec<F32>> {
        let config = model.config();
        let mut cache = model.new_cache(cache_options(config, &self.args.run));
        let wanted = Wanted {
            chunk: CHUNK,
            hidden: self.args.hidden,
            rows: |_| LogitRows::All,
        };
        let (seq, layers) = (self.ids.len(), config.num_hidden_layers);
        let mut logits = Vec::with_capacity(4 * seq * config.vocab_size);
        let mut hidden = vec![Vec::new(); layers + 1];
        passes::run(model, &mut cache, &self.ids, &wanted, |_, output| {
            if let Some(rows) = output.logits {
                append(&mut logits, &passes::values(rows)?);
            }
            for (all, states) in hidden.iter_mut().zip(output.hidden_states) {
                append(all, &passes::values(states)?);
            }
            Ok(())
        })?;
        let mut tensors = vec![F32 {
            name: "logits",
            shape: vec![seq, config.vocab_size],
            bytes: logits,
        }];
        if self.args.hidden {
            tensors.push(F32 {
                name: "hidden",
                shape: vec![layers + 1, seq, config.hidden_size],
                bytes: hidden.concat(),
            });
        }
        Ok(tensors)
    }
}

/// A named tensor of a file, and its values.
struct F32 {
    name: &'static str,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// Adds values as a safetensors file holds them.
fn append(bytes: &mut Vec<u8>, values: &[f32]) {
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

/// Where to write: the file that a link stands for, and nothing but a file, since what is there
/// is replaced.
fn destination(out: &Path) -> Result<PathBuf> {
    let hint = "name a file that is new, or may be replaced";
    if out == Path::new("-") {
        return Err(Failure::usage("`--out -`: expected a file, found stdout", hint).into());
    }
    let refused = |what| {
        let message = format!("`{}` {what}", out.display());
        Err(Failure::usage(message, hint).into())
    };
    match (out.canonicalize(), out.symlink_metadata()) {
        (Ok(path), _) if path.is_file() => Ok(path),
        (Ok(_), _) => refused("is there and is no file"),
        (Err(_), Ok(_)) => refused("is a link to nothing"),
        (Err(_), Err(_)) => Ok(out.to_owned()),
    }
}

/// Writes under another name and renames, so that `out` is whole or not there.
fn write(out: &Path, tensors: &[F32]) -> Result<()> {
    let views = tensors
        .iter()
        .map(|tensor| {
            let view = TensorView::new(Dtype::F32, tensor.shape.clone(), &tensor.bytes)?;
            Ok((tensor.name, view))
        })
        .collect::<Result<Vec<_>>>()?;
    let part = part_name(out);
    let written = create(&part, views).and_then(|()| Ok(fs::rename(&part, out)?));
    if written.is_err() {
        // What is half written is of no use; the error that led here is told.
        let _ = fs::remove_file(&part);
    }
    written.with_context(|| format!("cannot write `{}`", out.display()))
}

/// Writes a file with the permissions that every new file gets: `safetensors` makes its own for
/// its owner alone.
fn create(path: &Path, views: Vec<(&'static str, TensorView<'_>)>) -> Result<()> {
    let ordinary = fs::File::create(path)?.metadata()?.permissions();
    serialize_to_file(views, None, path)?;
    Ok(fs::set_permissions(path, ordinary)?)
}

/// `out` with the process's number behind it: two runs do not write one file.
fn part_name(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    name.into()
}
