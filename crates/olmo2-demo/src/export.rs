//! The finished model as a Hugging Face folder: bf16 `model.safetensors`, configs, tokenizer.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use ::safetensors::tensor::TensorView;
use ::safetensors::{Dtype, serialize};
use anyhow::{Context, Result, anyhow};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::prelude::*;
use burn::tensor::DType;
use olmo2::Olmo2;
use serde_json::{Value, json};
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

/// The bytes of `model.safetensors`.
fn safetensors(tensors: &[Stored]) -> Result<Vec<u8>> {
    let views = tensors.iter().map(|tensor| {
        let view = TensorView::new(Dtype::BF16, tensor.shape.clone(), &tensor.bytes)?;
        Ok((tensor.name.as_str(), view))
    });
    let views = views.collect::<Result<Vec<_>>>()?;
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    Ok(serialize(views, Some(metadata))?)
}

#[cfg(test)]
mod tests {
    use ::safetensors::SafeTensors;

    use super::*;

    #[test]
    fn the_embedded_model_is_written_byte_for_byte() {
        let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../olmo2/assets/demo");
        let file = fs::read(Path::new(demo).join("model.safetensors")).unwrap();
        let parsed = SafeTensors::deserialize(&file).unwrap();
        let stored = |(name, view): (String, TensorView<'_>)| Stored {
            name,
            shape: view.shape().to_vec(),
            bytes: view.data().to_vec(),
        };
        let mut tensors: Vec<Stored> = parsed.tensors().into_iter().map(stored).collect();
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        assert!(safetensors(&tensors).unwrap() == file);
    }
}
