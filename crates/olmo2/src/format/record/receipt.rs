//! The receipt of a record: what each part holds, where it came from, and its hash.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::quantize::Quantize;
use crate::storage::{StoredDtype, StoredFormat};
use crate::weights::layout::RECEIPT;
use crate::weights::{WeightsError, read_small};

/// The format that this version writes, and the only one that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// The receipt of a record of 4096 layers stays below.
const MAX_RECEIPT: u64 = 16 << 20;

/// What is written beside the parts, as `olmo2-record.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// [`FORMAT_VERSION`] of the writer.
    pub format_version: u32,
    /// Name and version of the writer.
    pub tool: String,
    /// Where the weights came from.
    pub source: Source,
    /// `f32`, `bf16` or `f16` where the conversion was asked for one; otherwise each tensor has
    /// the type of its source.
    pub dtype: Option<StoredDtype>,
    /// Which matrices the conversion was asked to quantize.
    #[serde(default, skip_serializing_if = "Quantize::is_none")]
    pub quantize: Quantize,
    /// Config, tokenizer and the like, copied as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copied: Vec<CopiedFile>,
    /// Parts that are complete, in the order of the layout.
    pub parts: Vec<PartReceipt>,
}

/// The formats that a conversion writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Formats {
    /// Dtype of the weights that stay floats; `None` keeps the dtype of the source.
    pub(crate) dtype: Option<StoredDtype>,
    /// The matrices to quantize.
    pub(crate) quantize: Quantize,
}

/// What is copied beside the weights; only the first must be there.
pub(crate) const COPIED: [&str; 6] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
];

/// A file that was copied beside the parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiedFile {
    /// Name of the file.
    pub file: String,
    /// BLAKE3 of the file, in hexadecimal.
    pub blake3: String,
}

/// Where the weights of a record came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// A folder, or an id of the hub.
    pub label: String,
    /// The hub's revision, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The files that were read; a conversion goes on only if they are still the same.
    pub files: Vec<SourceFile>,
}

/// One file of the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Name in the folder.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Last change, in microseconds since 1970.
    pub modified_us: u64,
}

/// One complete part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartReceipt {
    /// Name of the file.
    pub file: String,
    /// Bytes of the file.
    pub size: u64,
    /// BLAKE3 of the file, in hexadecimal.
    pub blake3: String,
    /// In the order of the file.
    pub tensors: Vec<TensorReceipt>,
}

/// One tensor of a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorReceipt {
    /// Name, in the source and here.
    pub name: String,
    /// Type of the elements here, or format of the blocks.
    pub dtype: StoredFormat,
    /// File of the source.
    pub source_file: String,
    /// Type of the elements there.
    pub source_dtype: StoredDtype,
}

impl Receipt {
    /// Reads the receipt of a folder; `None` where there is none.
    ///
    /// # Errors
    /// The file cannot be read, is no receipt, or is one of another version.
    pub fn read(folder: &Path) -> Result<Option<Self>, WeightsError> {
        let path = folder.join(RECEIPT);
        if !path.exists() {
            return Ok(None);
        }
        let text = read_small(&path, MAX_RECEIPT)?;
        let damaged = |error: serde_json::Error| WeightsError::damaged(&path, error.to_string());
        // The version first: fields of a later format would only confuse.
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let Version { format_version } = serde_json::from_slice(&text).map_err(damaged)?;
        if format_version != FORMAT_VERSION {
            return Err(WeightsError::mismatch(
                &path,
                "value",
                "format_version",
                FORMAT_VERSION,
                format_version,
            ));
        }
        serde_json::from_slice(&text).map(Some).map_err(damaged)
    }

    /// The formats of the conversion.
    pub(crate) fn formats(&self) -> Formats {
        Formats {
            dtype: self.dtype,
            quantize: self.quantize,
        }
    }

    /// The entry of a part, if it is complete.
    pub fn part(&self, file_name: &str) -> Option<&PartReceipt> {
        self.parts.iter().find(|part| part.file == file_name)
    }
}
