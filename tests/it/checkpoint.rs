//! Checkpoints in a temporary folder, to be converted, changed or broken.

use std::fs;
use std::path::{Path, PathBuf};

use olmo2::{Olmo2Config, Weights, WeightsError};
use olmo2_tests::golden_folder;
use safetensors::SafeTensors;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// A tensor, as a safetensors file describes it.
#[derive(Debug, Clone)]
pub(crate) struct RawTensor {
    pub(crate) name: String,
    pub(crate) dtype: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

impl RawTensor {
    /// A tensor of f32.
    pub(crate) fn f32(name: &str, shape: &[usize], values: &[f32]) -> Self {
        Self {
            name: name.into(),
            dtype: "F32".into(),
            shape: shape.to_vec(),
            bytes: values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        }
    }
}

/// A checkpoint in memory, and the folder that it is written to.
pub(crate) struct Checkpoint {
    pub(crate) config: Value,
    pub(crate) tensors: Vec<RawTensor>,
    pub(crate) folder: TempDir,
}

impl Checkpoint {
    /// A copy of a golden with one file of weights.
    pub(crate) fn golden(name: &str) -> Self {
        let golden = golden_folder(name);
        let config = fs::read(golden.join("config.json")).expect("a config");
        let bytes = fs::read(golden.join("model.safetensors")).expect("weights");
        let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let tensor = |(name, view): (String, safetensors::tensor::TensorView<'_>)| RawTensor {
            name,
            dtype: format!("{:?}", view.dtype()),
            shape: view.shape().to_vec(),
            bytes: view.data().to_vec(),
        };
        Self {
            config: serde_json::from_slice(&config).expect("JSON"),
            tensors: file.tensors().into_iter().map(tensor).collect(),
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    /// The smallest model: one layer, width 4, some kilobytes in all.
    pub(crate) fn smallest() -> Self {
        let text = r#"{"model_type": "olmo2", "vocab_size": 5, "hidden_size": 4,
            "intermediate_size": 3, "num_hidden_layers": 1, "num_attention_heads": 2,
            "num_key_value_heads": 1, "max_position_embeddings": 32}"#;
        let config = Olmo2Config::from_json(text).expect("a valid config");
        let parts = olmo2::layout::parts(&config);
        let tensors = parts.iter().flat_map(|part| &part.tensors).map(|spec| {
            let elements = spec.elements().expect("few elements");
            let values: Vec<f32> = (0..elements).map(|i| i as f32 / 8.0).collect();
            RawTensor::f32(&spec.name, &spec.shape, &values)
        });
        Self {
            config: serde_json::from_str(text).expect("JSON"),
            tensors: tensors.collect(),
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The config as it was parsed.
    pub(crate) fn config(&self) -> Olmo2Config {
        Olmo2Config::from_json(&self.config.to_string()).expect("a valid config")
    }

    /// The tensor of that name.
    pub(crate) fn tensor(&mut self, name: &str) -> &mut RawTensor {
        let tensor = self.tensors.iter_mut().find(|tensor| tensor.name == name);
        tensor.expect("a tensor of that name")
    }

    /// Writes `config.json` and `model.safetensors`.
    pub(crate) fn write(&self) -> &Self {
        self.write_config();
        self.write_file("model.safetensors", &self.tensors);
        self
    }

    /// Writes `config.json`, `shards` of the tensors in turn, and the index that names them.
    pub(crate) fn write_sharded(&self, shards: usize) -> Value {
        self.write_config();
        let mut map = Map::new();
        for shard in 0..shards {
            let file = format!("model-{shard}.safetensors");
            let tensors: Vec<RawTensor> = self
                .tensors
                .iter()
                .skip(shard)
                .step_by(shards)
                .cloned()
                .collect();
            for tensor in &tensors {
                map.insert(tensor.name.clone(), json!(file));
            }
            self.write_file(&file, &tensors);
        }
        let index = json!({"metadata": {}, "weight_map": map});
        self.write_index(&index);
        index
    }

    pub(crate) fn write_index(&self, index: &Value) {
        self.put("model.safetensors.index.json", index.to_string().as_bytes());
    }

    fn write_config(&self) {
        self.put("config.json", self.config.to_string().as_bytes());
    }

    fn write_file(&self, file: &str, tensors: &[RawTensor]) {
        self.put(file, &encode(&header(tensors), &data(tensors)));
    }

    /// Writes any file of the folder.
    pub(crate) fn put(&self, file: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(file);
        fs::write(&path, bytes).expect("a file");
        path
    }

    /// Maps the weights.
    pub(crate) fn open(&self) -> Result<Weights, WeightsError> {
        olmo2::format::open(self.path(), &self.config())
    }

    /// The message of the error that opening ends with, the folder left out.
    #[track_caller]
    pub(crate) fn refusal(&self) -> String {
        let error = self.open().expect_err("the checkpoint is broken");
        self.plain(&error)
    }

    /// A message without the folder's name.
    pub(crate) fn plain(&self, error: &dyn std::error::Error) -> String {
        let folder = self.path().display().to_string();
        error
            .to_string()
            .replace(&format!("{folder}/"), "")
            .replace(&folder, "FOLDER")
    }
}

/// The header of a safetensors file that holds the tensors one after another.
pub(crate) fn header(tensors: &[RawTensor]) -> Map<String, Value> {
    let mut header = Map::new();
    let mut at = 0;
    for tensor in tensors {
        let end = at + tensor.bytes.len();
        let entry =
            json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [at, end]});
        header.insert(tensor.name.clone(), entry);
        at = end;
    }
    header
}

/// The tensors' bytes, one after another.
pub(crate) fn data(tensors: &[RawTensor]) -> Vec<u8> {
    tensors.iter().flat_map(|t| t.bytes.clone()).collect()
}

/// A safetensors file; the header is padded to a multiple of 8, as the format asks for.
pub(crate) fn encode(header: &Map<String, Value>, data: &[u8]) -> Vec<u8> {
    let mut text = Value::Object(header.clone()).to_string();
    while !text.len().is_multiple_of(8) {
        text.push(' ');
    }
    let mut file = (text.len() as u64).to_le_bytes().to_vec();
    file.extend(text.bytes());
    file.extend(data);
    file
}
