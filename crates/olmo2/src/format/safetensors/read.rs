//! Reads safetensors files: each is mapped, and its header checked against the config.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use burn::tensor::DType;
use safetensors::tensor::{Dtype, SafeTensors};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::config::{Olmo2Config, json};
use crate::foreign;
use crate::weights::layout::HEAD;
use crate::weights::{
    StoredTensor, StoredWeight, Weights, WeightsBuilder, WeightsError, read_small, refuse_pre_norm,
};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Adapters, which Python's loaders would apply.
const ADAPTERS: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];

/// The largest checkpoint has a header of 90 KB; a length beyond this is damage.
const MAX_HEADER: u64 = 8 << 20;
/// The largest checkpoint has 29 shards.
const MAX_SHARDS: usize = 10_000;
/// The largest checkpoint has an index of 60 KB.
const MAX_INDEX: u64 = 8 << 20;

/// Maps the weights of a folder and checks every tensor against the config.
///
/// If there are both a single file and an index, the single file is used, as by transformers.
pub(crate) fn open(folder: &Path, config: &Olmo2Config) -> Result<Weights, WeightsError> {
    let mut builder = WeightsBuilder::new(config);
    let single = folder.join(SINGLE);
    let index = folder.join(INDEX);
    if let Some(adapter) = ADAPTERS.iter().find(|name| folder.join(name).exists()) {
        builder.warn(format!(
            "`{}`: `{adapter}` is left out: an adapter must be merged into the model",
            folder.display()
        ));
    }
    if single.exists() {
        add_file(&mut builder, &single, |_| Ok(()))?;
        return builder.finish(&single);
    }
    if !index.exists() {
        let shards = shards_by_name(folder);
        if shards.is_empty() {
            return Err(no_weights(folder));
        }
        // "i of n" tells that all are there.
        for shard in shards {
            add_file(&mut builder, &folder.join(shard), |_| Ok(()))?;
        }
        return builder.finish(folder);
    }
    let map = read_index(&index)?;
    for tensor in map.keys() {
        refuse_pre_norm(&index, tensor)?;
    }
    let shards: BTreeSet<&String> = map.values().collect();
    for shard in shards {
        add_file(&mut builder, &folder.join(shard), |tensor| {
            match map.get(tensor) {
                Some(named) if named != shard => Err(in_other_shard(&index, tensor, named, shard)),
                // Some programs leave tensors out of the index that they added to a shard.
                _ => Ok(()),
            }
        })?;
    }
    builder.finish(folder)
}

/// The weights of a `model.safetensors` in memory, such as an embedded one. Aligned tensors are not
/// copied.
///
/// Errors and notes name `origin` as the file.
///
/// # Errors
/// As [`format::open`](crate::format::open).
pub fn from_bytes(
    config: &Olmo2Config,
    origin: &Path,
    bytes: &bytes::Bytes,
) -> Result<Weights, WeightsError> {
    let mut builder = WeightsBuilder::new(config);
    add_tensors(&mut builder, origin, bytes, |_| Ok(()))?;
    builder.finish(origin)
}

fn no_weights(folder: &Path) -> WeightsError {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut other: Vec<String> = names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| {
            [".bin", ".safetensors", ".bpk"]
                .iter()
                .any(|end| name.ends_with(end))
        })
        .map(|name| format!("`{name}`"))
        .collect();
    other.sort();
    other.truncate(3);
    let found = match other.is_empty() {
        true if folder.is_dir() => "none".into(),
        true => "no such folder".into(),
        false => other.join(", "),
    };
    let folder = folder.to_owned();
    WeightsError::NoWeights { folder, found }
}

/// Names of all shards `model-00001-of-0000n.safetensors` of a folder without an index, those that are
/// missing too; none if there is no shard.
fn shards_by_name(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let count = names.find_map(|name| {
        let rest = name.strip_prefix("model-")?.strip_suffix(".safetensors")?;
        let (number, count) = rest.split_once("-of-")?;
        number.parse::<usize>().ok()?;
        count
            .parse::<usize>()
            .ok()
            .filter(|count| *count <= MAX_SHARDS)
    });
    let name = |i| format!("model-{i:05}-of-{:05}.safetensors", count.unwrap_or(0));
    (1..=count.unwrap_or(0)).map(name).collect()
}

fn in_other_shard(index: &Path, tensor: &str, named: &str, shard: &str) -> WeightsError {
    let expected = format!("`{named}`");
    WeightsError::mismatch(index, "shard", tensor, expected, format!("it in `{shard}`"))
}

/// The `weight_map` of an index: tensor to shard. Names of shards are not checked.
fn parse_index(text: &[u8]) -> serde_json::Result<BTreeMap<String, String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    serde_json::from_slice(&json::standard(text)).map(|index: Index| index.weight_map)
}

/// Reads an index and checks that its shards are in its folder.
fn read_index(path: &Path) -> Result<BTreeMap<String, String>, WeightsError> {
    let text = read_small(path, MAX_INDEX)?;
    let weight_map = parse_index(&text).map_err(|error| match foreign::kind(&text) {
        Some(kind) if !text.trim_ascii_start().starts_with(b"{") => {
            WeightsError::damaged(path, format!("expected an index, found {kind}"))
        }
        _ => WeightsError::damaged(path, error.to_string()),
    })?;
    for (tensor, shard) in &weight_map {
        // The name comes from the network: it may not lead out of the folder.
        let is_plain = Path::new(shard).file_name() == Some(shard.as_ref());
        if !is_plain || !shard.ends_with(".safetensors") {
            let (expected, found) = ("the name of a safetensors file", format!("`{shard}`"));
            return Err(WeightsError::mismatch(
                path, "shard", tensor, expected, found,
            ));
        }
    }
    Ok(weight_map)
}

/// Maps one file and adds the tensors that `check_name` accepts.
fn add_file(
    builder: &mut WeightsBuilder,
    path: &Path,
    check_name: impl Fn(&str) -> Result<(), WeightsError>,
) -> Result<(), WeightsError> {
    let map = olmo2_kernels::map_file(path).map_err(WeightsError::io(path))?;
    add_tensors(builder, path, &bytes::Bytes::from_owner(map), check_name)
}

fn add_tensors(
    builder: &mut WeightsBuilder,
    path: &Path,
    bytes: &bytes::Bytes,
    check_name: impl Fn(&str) -> Result<(), WeightsError>,
) -> Result<(), WeightsError> {
    let header = header_len(path, bytes).map_err(|error| match foreign::kind(bytes) {
        Some(kind) => {
            let file = path.to_owned();
            WeightsError::Foreign { file, kind }
        }
        None => error,
    })?;
    let (_, metadata) =
        SafeTensors::read_metadata(bytes).map_err(|error| explain(path, bytes, header, &error))?;
    let names = metadata.offset_keys();
    for name in &names {
        refuse_pre_norm(path, name)?;
    }
    let file = builder.file(path);
    let data = bytes.slice(8 + header..);
    for name in &names {
        check_name(name)?;
        let Some(info) = metadata.info(name) else {
            continue;
        };
        let tensor = || {
            let (start, end) = info.data_offsets;
            Ok(StoredTensor {
                dtype: dtype(path, name, info.dtype)?,
                shape: info.shape.clone(),
                bytes: data.slice(start..end),
            })
        };
        if let Some(known) = builder.known_name(name) {
            builder.add(file, &known, StoredWeight::Float(tensor()?))?;
        } else if !(name.ends_with(HEAD) && builder.keep_tied_head(path, name, tensor()?)) {
            builder.leave_out(path, name, &info.shape)?;
        }
    }
    Ok(())
}

fn dtype(path: &Path, name: &str, dtype: Dtype) -> Result<DType, WeightsError> {
    match dtype {
        Dtype::F32 => Ok(DType::F32),
        Dtype::BF16 => Ok(DType::BF16),
        Dtype::F16 => Ok(DType::F16),
        other => {
            let (expected, found) = ("F32, BF16 or F16", format!("{other:?}"));
            Err(WeightsError::mismatch(path, "dtype", name, expected, found))
        }
    }
}

/// Length of the JSON header, which must fit into the file and the limit.
fn header_len(path: &Path, bytes: &[u8]) -> Result<usize, WeightsError> {
    let Some((len, rest)) = bytes.split_first_chunk() else {
        let reason = format!("expected a header of 8 bytes, found {}", bytes.len());
        return Err(WeightsError::damaged(path, reason));
    };
    let len = u64::from_le_bytes(*len);
    let max = MAX_HEADER.min(rest.len() as u64);
    if len > max {
        let reason = format!("expected a header of at most {max} bytes, found a length of {len}");
        return Err(WeightsError::damaged(path, reason));
    }
    Ok(len as usize)
}

/// A header without the checks of the `safetensors` crate.
#[derive(Deserialize)]
struct LooseHeader {
    #[serde(rename = "__metadata__")]
    _metadata: Option<IgnoredAny>,
    #[serde(flatten)]
    tensors: BTreeMap<String, LooseTensor>,
}

#[derive(Deserialize)]
struct LooseTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// Finds the tensor and the values at fault in a header that the `safetensors` crate refused.
fn explain(
    path: &Path,
    bytes: &[u8],
    header: usize,
    error: &safetensors::SafeTensorError,
) -> WeightsError {
    let text = &bytes[8..8 + header];
    let loose: LooseHeader = match serde_json::from_slice(text) {
        Ok(loose) => loose,
        Err(json) => return WeightsError::damaged(path, format!("its header: {json}")),
    };
    let mut tensors: Vec<_> = loose.tensors.iter().collect();
    tensors.sort_by_key(|(_, tensor)| tensor.data_offsets);
    let mut at = 0;
    for (name, tensor) in tensors {
        if let Some((what, expected, found)) = tensor.fault(at) {
            return WeightsError::mismatch(path, what, name, expected, found);
        }
        at = tensor.data_offsets.1;
    }
    let size = (bytes.len() - header - 8) as u64;
    let reason = match size == at {
        true => error.to_string(),
        false => format!("expected {at} bytes of tensors, found {size}"),
    };
    WeightsError::damaged(path, reason)
}

impl LooseTensor {
    /// The fault of a tensor that should start at `at`: what, expected, found.
    fn fault(&self, at: u64) -> Option<(&'static str, String, String)> {
        let (start, end) = self.data_offsets;
        let Some(size) = element_size(&self.dtype) else {
            let expected = "F32, BF16 or F16".into();
            return Some(("dtype", expected, self.dtype.clone()));
        };
        let found = format!("{start}..{end}");
        if start != at {
            let expected = format!("{at}.., right after its neighbor");
            return Some(("offsets", expected, found));
        }
        let multiply = |product: u64, &dim: &u64| product.checked_mul(dim);
        let len = self.shape.iter().try_fold(size, multiply);
        if len.is_none() || end.checked_sub(start) != len {
            let expected = format!("the bytes of {:?} {}", self.shape, self.dtype);
            return Some(("offsets", expected, found));
        }
        None
    }
}

fn element_size(dtype: &str) -> Option<u64> {
    match dtype {
        "F64" | "I64" | "U64" => Some(8),
        "F32" | "I32" | "U32" => Some(4),
        "BF16" | "F16" | "I16" | "U16" => Some(2),
        "U8" | "I8" | "BOOL" => Some(1),
        _ => None,
    }
}
