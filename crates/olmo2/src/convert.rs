//! Converts a checkpoint to a record: checked, streamed, hashed, resumable.

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

/// The source and the target of a conversion.
#[derive(Debug, Clone)]
pub struct ConvertOptions {
    /// Folder of a Hugging Face checkpoint, or of a record in floats.
    pub source: PathBuf,
    /// Folder of the record: new, empty, or with an unfinished run of the same conversion.
    pub out: PathBuf,
    /// Dtype in which to store floats; `None` keeps the dtype of the source.
    pub dtype: Option<StoredDtype>,
    /// The matrices to quantize. The source must be unquantized: quantized weights cannot be
    /// converted again.
    pub quantize: Quantize,
    /// Name of the source in the receipt, such as an id of the hub; `None` takes the folder.
    pub label: Option<String>,
    /// Revision on the hub, for the receipt.
    pub revision: Option<String>,
}

impl ConvertOptions {
    /// A conversion that keeps the dtypes of the source.
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

/// The result of a conversion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvertReport {
    /// The parts written and kept, and their bytes.
    pub parts: Written,
    /// Tensors of the source that were left out and choices without effect, one sentence each.
    pub notes: Vec<String>,
}

/// Why a checkpoint could not be converted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The `config.json` of the source.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weights of the source.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The record.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The folder for the record is the source.
    #[error("`{folder}` is the source: expected another folder for the record", folder = folder.display())]
    OutIsSource {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder for the record holds other files.
    #[error("`{folder}` is not empty: expected an empty folder or a record, found `{found}`", folder = folder.display())]
    OutNotEmpty {
        /// The folder.
        folder: PathBuf,
        /// The first of them.
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
/// streamed, some megabytes at a time, from the mapped source into the parts. Quantizing keeps the
/// scales of one matrix in memory until its quants are written, 1/32 of its size in bf16; `q4` reads
/// each matrix twice, since its scales are steps below the largest one.
///
/// Each file is written under another name, synced, and renamed; the receipt lists a part once it is
/// complete. After an interruption, even by `kill -9`, the next run resumes and ends with the same
/// bytes.
///
/// # Errors
/// The source is not an OLMo 2 or Olmo 3 checkpoint or has values beyond the range of the requested formats,
/// `out` is not free, or a file cannot be read or written; see [`ConvertError`].
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
    record::check_source(&config, &weights, &formats)?;
    let _lock = claim(options)?;
    let out = &options.out;
    let copied = copied_files(&options.source)?;
    let receipt = record::begin(out, source, copied, &formats)?;
    copy_files(&options.source, out)?;
    check_copies(&options.source, out, &receipt.copied)?;
    let note = options.quantize.note(&config);
    let parts = record::write(out, &config, &weights, receipt, progress)?;
    Ok(ConvertReport {
        parts,
        notes: [weights.warnings(), weights.notes()]
            .concat()
            .into_iter()
            .chain(note)
            .collect(),
    })
}

/// Creates and locks the folder of the record, if it is free.
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
    let (unfinished, other): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|name| is_unfinished(name));
    if let Some(found) = other.into_iter().find(|_| !is_record) {
        let folder = out.clone();
        return Err(ConvertError::OutNotEmpty { folder, found });
    }
    for name in unfinished {
        // A killed conversion left it.
        let path = out.join(name);
        fs::remove_file(&path).map_err(RecordError::io(&path))?;
    }
    Ok(lock)
}

/// Whether the file is an unfinished file of a conversion.
fn is_unfinished(name: &str) -> bool {
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

/// The files of the source that are copied, with their hashes.
fn copied_files(source: &Path) -> Result<Vec<CopiedFile>, ConvertError> {
    let names = COPIED.iter().filter(|name| source.join(name).exists());
    let copied = names.map(|name| {
        Ok(CopiedFile {
            file: (*name).into(),
            blake3: record::hash(&source.join(name))?,
        })
    });
    copied.collect()
}

/// Checks that the copies are those whose hashes the receipt has: the source may have changed
/// meanwhile.
fn check_copies(source: &Path, out: &Path, copied: &[CopiedFile]) -> Result<(), RecordError> {
    for copy in copied {
        if record::hash(&out.join(&copy.file))? != copy.blake3 {
            let file = source.join(&copy.file);
            return Err(RecordError::SourceChanged { file });
        }
    }
    Ok(())
}

/// Copies config, tokenizer and the like; removes from the record the files that the source lacks.
fn copy_files(source: &Path, out: &Path) -> Result<(), ConvertError> {
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
