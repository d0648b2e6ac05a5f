//! The finished model as a Hugging Face folder: bf16 `model.safetensors`, configs, tokenizer.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::prelude::*;
use burn::tensor::DType;
use olmo2::Olmo2;
use serde_json::{Map, Value, json};
use tokenizers::Tokenizer;

use crate::shape::CONTEXT;
use crate::tokenizer::config_json;

/// A tensor as it will lie in the file.
struct Stored {
    name: String,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// Rounds every weight to bf16, the precision of the exported file.
pub(crate) fn round_to_bf16<B: Backend>(model: Olmo2<B>) -> Olmo2<B> {
    struct Round;
    impl<B: Backend> ModuleMapper<B> for Round {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
            param.map(|tensor| {
                let device = tensor.device();
                let data = tensor
                    .into_data()
                    .convert_dtype(DType::BF16)
                    .convert_dtype(DType::F32);
                Tensor::from_data(data, &device)
            })
        }
    }
    model.map(&mut Round)
}

/// Writes the folder's files, the model card excepted.
///
/// # Errors
/// The file system.
pub(crate) fn write_folder<B: Backend>(
    folder: &Path,
    model: &Olmo2<B>,
    config: &Value,
    tokenizer: &Tokenizer,
) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    let generation = json!({
        "_from_model_config": true,
        "eos_token_id": config["eos_token_id"],
        "pad_token_id": config["pad_token_id"],
    });
    let json = |name: &str, value: &Value| -> Result<()> {
        write(
            folder,
            name,
            (serde_json::to_string_pretty(value)? + "\n").as_bytes(),
        )
    };
    json("config.json", config)?;
    json("generation_config.json", &generation)?;
    json("tokenizer_config.json", &config_json(CONTEXT))?;
    let tokenizer = tokenizer
        .to_string(false)
        .map_err(|error| anyhow!("{error}"))?;
    write(folder, "tokenizer.json", tokenizer.as_bytes())?;
    write(folder, "model.safetensors", &safetensors(&tensors(model)?)?)
}

/// Under another name first: a reader never sees half a file.
pub(crate) fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let (new, path) = (folder.join(format!("{name}.new")), folder.join(name));
    fs::write(&new, bytes).with_context(|| format!("cannot write `{}`", new.display()))?;
    fs::rename(&new, &path).with_context(|| format!("cannot write `{}`", path.display()))
}

/// Every parameter under its path, which is the checkpoint's key, sorted by name.
fn tensors<B: Backend>(model: &Olmo2<B>) -> Result<Vec<Stored>> {
    #[derive(Default)]
    struct Collect {
        path: Vec<String>,
        tensors: Vec<Stored>,
        error: Option<anyhow::Error>,
    }
    impl<B: Backend> ModuleVisitor<B> for Collect {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            let data = param.val().into_data().convert_dtype(DType::BF16);
            let shape = param.val().dims().to_vec();
            match data.as_bytes().len() == 2 * shape.iter().product::<usize>() {
                true => self.tensors.push(Stored {
                    name: self.path.join("."),
                    shape,
                    bytes: data.as_bytes().to_vec(),
                }),
                false => {
                    self.error = Some(anyhow!(
                        "`{}` is not two bytes a weight",
                        self.path.join(".")
                    ))
                }
            }
        }
    }
    let mut collect = Collect::default();
    model.visit(&mut collect);
    if let Some(error) = collect.error {
        return Err(error);
    }
    collect.tensors.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(collect.tensors)
}

/// The safetensors format: the header's length, the header, the tensors one after another.
fn safetensors(tensors: &[Stored]) -> Result<Vec<u8>> {
    let mut header = Map::from_iter([("__metadata__".to_owned(), json!({"format": "pt"}))]);
    let mut offset = 0;
    for tensor in tensors {
        let end = offset + tensor.bytes.len();
        header.insert(
            tensor.name.clone(),
            json!({"dtype": "BF16", "shape": tensor.shape, "data_offsets": [offset, end]}),
        );
        offset = end;
    }
    let mut header = serde_json::to_vec(&header)?;
    // Spaces up to a multiple of 8, so that the data is aligned.
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(&header);
    for tensor in tensors {
        file.extend_from_slice(&tensor.bytes);
    }
    Ok(file)
}
