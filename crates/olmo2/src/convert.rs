//! From a checkpoint's folder to a record: checked, streamed, hashed, resumable.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::config::ConfigError;
use crate::config::Olmo2Config;
use crate::format;
use crate::format::record::{
    self, COPIED, ConvertProgress, CopiedFile, Formats, RECEIPT, RecordError, UNFINISHED, Written,
};
use crate::hint::Hint;
use crate::quantize::Quantize;
use crate::storage::StoredDtype;
use crate::weights::WeightsError;

/// What to convert, and where to.
#[derive(Debug, Clone)]
pub struct ConvertOptions {
    /// Folder of a Hugging Face checkpoint, or of a record that is wanted in another type.
    pub source: PathBuf,
    /// Folder of the record: new, empty, or holding this conversion from an earlier run.
    pub out: PathBuf,
    /// Type to store the weights in; `None` keeps the type of the source.
    pub dtype: Option<StoredDtype>,
    /// Which matrices to store in quantized blocks; the source must be floats.
    pub quantize: Quantize,
    /// What the receipt calls the source: the hub's id; `None` takes the folder.
    pub label: Option<String>,
    /// The hub's revision, for the receipt.
    pub revision: Option<String>,
}

impl ConvertOptions {
    /// A conversion that keeps the types of the source.
    pub fn new(source: impl Into<PathBuf>, out: impl Into<PathBuf>) -> Self {
        Self {
            source: source.into(),
            out: out.into(),
            dtype: None,
            quantize: Quantize::default(),
            label: None,
            revision: None,
        }
    }
}

/// A conversion that ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvertReport {
    /// Parts written and kept, and their bytes.
    pub parts: Written,
    /// What was left out of the source or had to be worked around, a sentence each.
    pub notes: Vec<String>,
}

/// Why a checkpoint could not be converted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The source's `config.json`.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The source's weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The record.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A record would be written over its source.
    #[error("`{folder}` is the source: expected another folder for the record", folder = folder.display())]
    OutIsSource {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder holds something else.
    #[error("`{folder}` is not empty: expected an empty folder or a record, found `{found}`", folder = folder.display())]
    OutNotEmpty {
        /// The folder.
        folder: PathBuf,
        /// What lies there.
        found: String,
    },
}

impl Hint for ConvertError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::OutIsSource { .. } | Self::OutNotEmpty { .. } => {
                Some("choose a folder that does not exist yet".into())
            }
            _ => self.inner()?.hint(),
        }
    }

    fn inner(&self) -> Option<&(dyn Hint + 'static)> {
        match self {
            Self::Config(e) => Some(e),
            Self::Weights(e) => Some(e),
            Self::Record(e) => Some(e),
            _ => None,
        }
    }
}

/// Converts a checkpoint into a record.
///
/// The whole source is checked against its config before anything is written. Weights are then
/// streamed, some megabytes at a time, from the mapped source into the parts. Matrices that are
/// quantized are read twice for `q4`, whose scales count down from the largest number, and their
/// scales are kept until the quants are written: a thirty-second of bf16's size, and a sixty-fourth
/// of f32's. So memory grows with the largest matrix alone, and little. Everything is written under
/// another name, synchronized, and renamed; a part stands in the receipt once it is complete. A
/// conversion that was ended, even by `kill -9`, goes
/// on where it stopped when it is run again, and ends with the same bytes.
///
/// # Errors
/// The source is not an OLMo 2 checkpoint, does not fit the type asked for, `out` is not free, or
/// a file cannot be read or written; see [`ConvertError`].
pub fn convert(
    options: &ConvertOptions,
    progress: &mut dyn ConvertProgress,
) -> Result<ConvertReport, ConvertError> {
    let config = Olmo2Config::from_folder(&options.source)?;
    let weights = format::open(&options.source, &config)?;
    let folder = options.source.display().to_string();
    let label = options.label.clone().unwrap_or(folder);
    let source = record::source(&weights, label, options.revision.clone())?;
    let formats = Formats {
        dtype: options.dtype,
        quantize: options.quantize,
    };
    record::check(&config, &weights, &formats)?;
    let _lock = claim(options)?;
    let out = &options.out;
    let copied = beside(&options.source)?;
    let receipt = record::begin(out, source, copied, &formats)?;
    copy_beside(&options.source, out)?;
    let note = options.quantize.note(&config);
    let parts = record::write(out, &config, &weights, receipt, progress)?;
    Ok(ConvertReport {
        parts,
        notes: weights.notes().iter().cloned().chain(note).collect(),
    })
}

/// Creates and locks the folder of the record, if it is free to be one.
fn claim(options: &ConvertOptions) -> Result<Option<fs::File>, ConvertError> {
    let out = &options.out;
    fs::create_dir_all(out).map_err(RecordError::io(out))?;
    let same = |a: &Path, b: &Path| Ok(a.canonicalize()? == b.canonicalize()?);
    if same(&options.source, out).map_err(RecordError::io(out))? {
        let folder = out.clone();
        return Err(ConvertError::OutIsSource { folder });
    }
    let lock = record::lock(out)?;
    let is_record = out.join(RECEIPT).exists();
    let names = names(out).map_err(RecordError::io(out))?;
    let (unfinished, other): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| is_ours(name));
    if let Some(found) = other.into_iter().find(|_| !is_record) {
        let folder = out.clone();
        return Err(ConvertError::OutNotEmpty { folder, found });
    }
    for name in unfinished {
        // Left by a conversion that was killed.
        let path = out.join(name);
        fs::remove_file(&path).map_err(RecordError::io(&path))?;
    }
    Ok(lock)
}

/// Whether a conversion left the file: the unfinished form of a file that it writes.
fn is_ours(name: &str) -> bool {
    name.strip_suffix(UNFINISHED)
        .is_some_and(|name| name == RECEIPT || COPIED.contains(&name) || name.ends_with(".bpk"))
}

/// Names in a folder, sorted.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let name = |entry: io::Result<fs::DirEntry>| {
        entry.map(|entry| entry.file_name().to_string_lossy().into_owned())
    };
    let mut names: Vec<String> = fs::read_dir(folder)?.map(name).collect::<Result<_, _>>()?;
    names.sort();
    Ok(names)
}

/// Config, tokenizer and the like in the source, with their hashes.
fn beside(source: &Path) -> Result<Vec<CopiedFile>, ConvertError> {
    let names = COPIED.iter().filter(|name| source.join(name).exists());
    let copied = names.map(|name| {
        Ok(CopiedFile {
            file: (*name).into(),
            blake3: record::hash(&source.join(name))?,
        })
    });
    copied.collect()
}

/// Copies config and tokenizer; what the source has not, the record has no more.
fn copy_beside(source: &Path, out: &Path) -> Result<(), ConvertError> {
    for name in COPIED {
        let (from, to) = (source.join(name), out.join(name));
        if !from.exists() {
            if to.exists() {
                fs::remove_file(&to).map_err(RecordError::io(&to))?;
            }
            continue;
        }
        let mut file = fs::File::open(&from).map_err(WeightsError::io(&from))?;
        record::write_atomically(&to, |out| {
            io::copy(&mut file, out).map_err(RecordError::io(&to))?;
            Ok(())
        })?;
    }
    Ok(())
}
