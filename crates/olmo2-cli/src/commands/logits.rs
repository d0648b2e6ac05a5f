//! `logits`: the logits of every position, and the hidden states, in a safetensors file.

use std::path::{Path, PathBuf};

use burn::prelude::*;
use burn::tensor::DType;
use olmo2::format::write_safetensors;
use olmo2::hub::Files;
use olmo2::{Chunks, LogitRows, Olmo2, StoredTensor, prefill};

use super::to_host::to_host;
use crate::backend::OnBackend;
use crate::messages::{Failure, Result, count};
use crate::model::{Model, Sequences, find};
use crate::prompt::Prompt;
use crate::request::LogitsRequest;

pub(super) fn run(request: &LogitsRequest) -> Result<()> {
    let out = destination(&request.out)?;
    let prompt = Prompt::read_trimmed(&request.prompt)?;
    let checkpoint = find(&request.run.model, Files::Model)?;
    let tokenizer = match &prompt {
        Prompt::Text(_) => checkpoint.tokenizer()?,
        Prompt::Ids(_) => None,
    };
    let ids = prompt.into_ids(&checkpoint, tokenizer.as_ref())?;
    let model = Model::open(checkpoint, &request.run, Sequences::one(ids.len()))?;
    let limit = model.positions();
    if ids.len() > limit {
        return Err(Failure::new(
            format!(
                "{} do not fit {}",
                count(ids.len(), "token"),
                count(limit, "position")
            ),
            "shorten the input, or raise `--context` as far as the model goes",
        ));
    }
    model.backend.dispatch(Logits {
        request,
        out,
        model,
        ids,
    })
}

struct Logits<'a> {
    request: &'a LogitsRequest,
    out: PathBuf,
    model: Model,
    ids: Vec<u32>,
}

impl OnBackend for Logits<'_> {
    fn run<B: Backend>(self, device: B::Device) -> Result<()> {
        let model = self.model.load::<B>(&device)?;
        let tensors = self.tensors(&model)?;
        let tensors = tensors.iter().map(|(name, tensor)| (*name, tensor));
        write_safetensors(&self.out, tensors)?;
        let (out, seq) = (
            self.request.out.display(),
            count(self.ids.len(), "position"),
        );
        let verbosity = self.model.verbosity;
        verbosity.detail(format_args!("`{out}`: {seq}"));
        Ok(())
    }
}

impl Logits<'_> {
    /// Runs the model in chunks and gathers what it returns.
    fn tensors<B: Backend>(&self, model: &Olmo2<B>) -> Result<Vec<(&'static str, StoredTensor)>> {
        let config = model.config();
        let mut cache = model.new_cache(self.model.cache);
        let chunks = Chunks {
            hidden_states: self.request.hidden,
            ..Chunks::new(|_| LogitRows::All)
        };
        let (seq, layers) = (self.ids.len(), config.num_hidden_layers);
        let mut logits = Vec::with_capacity(4 * seq * config.vocab_size);
        let mut hidden = vec![Vec::new(); layers + 1];
        prefill(model, &mut cache, &self.ids, &chunks, |_, output| {
            if let Some(rows) = output.logits {
                append(&mut logits, &to_host(rows)?);
            }
            for (all, states) in hidden.iter_mut().zip(output.hidden_states) {
                append(all, &to_host(states)?);
            }
            Ok::<_, Failure>(())
        })?;
        let shape = vec![seq, config.vocab_size];
        let mut tensors = vec![("logits", f32s(shape, logits))];
        if self.request.hidden {
            let shape = vec![layers + 1, seq, config.hidden_size];
            tensors.push(("hidden", f32s(shape, hidden.concat())));
        }
        Ok(tensors)
    }
}

fn f32s(shape: Vec<usize>, bytes: Vec<u8>) -> StoredTensor {
    StoredTensor {
        dtype: DType::F32,
        shape,
        bytes: bytes.into(),
    }
}

/// Appends values in the byte order of safetensors.
fn append(bytes: &mut Vec<u8>, values: &[f32]) {
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

/// The file to write: the target of a link, and only a regular file, since it is replaced.
fn destination(out: &Path) -> Result<PathBuf> {
    let hint = "name a file that is new, or may be replaced";
    if out == Path::new("-") {
        return Err(Failure::usage(
            "`--out -`: expected a file, found stdout",
            hint,
        ));
    }
    let refused = |what| {
        let message = format!("`{}` {what}", out.display());
        Err(Failure::usage(message, hint))
    };
    match (out.canonicalize(), out.symlink_metadata()) {
        (Ok(path), _) if path.is_file() => Ok(path),
        (Ok(_), _) => refused("exists and is not a regular file"),
        (Err(_), Ok(_)) => refused("is a link to a file that does not exist"),
        (Err(_), Err(_)) => Ok(out.to_owned()),
    }
}
