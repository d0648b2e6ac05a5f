//! The receipt of a record: source, formats, and the tensors and hash of each part.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::quantize::Quantize;
use crate::storage::{StoredDtype, StoredFormat};
use crate::weights::layout::RECEIPT;
use crate::weights::{WeightsError, read_small};

/// The version of the record format that this code writes, and the only one that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// The receipt of a record of 4096 layers is smaller.
const MAX_RECEIPT: u64 = 16 << 20;

/// The content of `olmo2-record.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// [`FORMAT_VERSION`] of the writer.
    pub format_version: u32,
    /// Name and version of the writer.
    pub tool: String,
    /// The source of the weights.
    pub source: Source,
    /// The dtype of floats that the conversion requested; `None` if each tensor keeps the dtype of
    /// its source.
    pub dtype: Option<StoredDtype>,
    /// The matrices that the conversion quantized.
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

/// The files that are copied beside the parts; only the first must exist.
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

/// The source of the weights of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// A folder, or an id of the hub.
    pub label: String,
    /// The revision on the hub, for a source from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The files of the weights; a conversion resumes only if they are unchanged.
    pub files: Vec<SourceFile>,
}

/// One file of the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Name in the folder.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Time of the last change, in microseconds since 1970.
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
    /// The tensors, in the order of the file.
    pub tensors: Vec<TensorReceipt>,
}

/// One tensor of a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorReceipt {
    /// Name, in the source and in the part.
    pub name: String,
    /// Dtype of the elements in the part, or format of the blocks.
    pub dtype: StoredFormat,
    /// File of the source.
    pub source_file: String,
    /// Dtype of the elements in the source.
    pub source_dtype: StoredDtype,
}

impl Receipt {
    /// Reads the receipt of a folder; `None` if the folder has none.
    ///
    /// # Errors
    /// The file cannot be read, is not a receipt, or has another version.
    pub fn read(folder: &Path) -> Result<Option<Self>, WeightsError> {
        let path = folder.join(RECEIPT);
        if !path.exists() {
            return Ok(None);
        }
        let text = read_small(&path, MAX_RECEIPT)?;
        let damaged = |error: serde_json::Error| WeightsError::damaged(&path, error.to_string());
        // The version first: errors on fields of a later format would mislead.
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
