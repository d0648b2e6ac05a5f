//! Writes weights to a record, part after part; the receipt lists a part once it is complete.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::UNIX_EPOCH;

use super::atomic;
use super::check::hash_file;
use super::error::RecordError;
use super::part::PartPlan;
use super::progress::{ConvertEvent, ConvertProgress};
use super::receipt::{
    CopiedFile, FORMAT_VERSION, Formats, PartReceipt, Receipt, Source, SourceFile,
};
use crate::config::Olmo2Config;
use crate::quantize::QuantizeError;
use crate::storage::StoredDtype;
use crate::weights::layout::{RECEIPT, parts};
use crate::weights::{Weights, WeightsError};

/// The parts of a record, after a run that wrote it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Parts that this run wrote.
    pub written: usize,
    /// Parts that an earlier run wrote.
    pub kept: usize,
    /// Bytes of all parts.
    pub bytes: u64,
}

/// Locks a folder for this process while it writes a record.
///
/// The lock is on the folder itself, which only Unix opens as a file, and ends with the process.
pub(crate) fn lock(folder: &Path) -> Result<Option<File>, RecordError> {
    if !cfg!(unix) {
        return Ok(None);
    }
    let handle = File::open(folder).map_err(RecordError::io(folder))?;
    match handle.try_lock() {
        Ok(()) => Ok(Some(handle)),
        Err(TryLockError::WouldBlock) => Err(RecordError::Busy {
            folder: folder.to_owned(),
        }),
        // A file system without locks: the user must avoid two writers at once.
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// The source for a receipt: the files of the weights with their sizes and times.
pub(crate) fn source(
    weights: &Weights,
    label: String,
    revision: Option<String>,
) -> Result<Source, WeightsError> {
    let files = weights.files().iter().map(|path| source_file(path));
    Ok(Source {
        label,
        revision,
        files: files.collect::<Result<_, _>>()?,
    })
}

fn source_file(path: &Path) -> Result<SourceFile, WeightsError> {
    let metadata = fs::metadata(path).map_err(WeightsError::io(path))?;
    let modified = metadata.modified().map_err(WeightsError::io(path))?;
    let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    let name = path.file_name().unwrap_or(path.as_os_str());
    Ok(SourceFile {
        name: name.to_string_lossy().into_owned(),
        size: metadata.len(),
        modified_us: since.as_micros() as u64,
    })
}

/// Whether the files of the source are still those of the receipt: they are mapped, so that a file
/// that is overwritten meanwhile would mix two models.
fn check_unchanged(weights: &Weights, source: &Source) -> Result<(), RecordError> {
    for (path, expected) in weights.files().iter().zip(&source.files) {
        if source_file(path)? != *expected {
            let file = path.clone();
            return Err(RecordError::SourceChanged { file });
        }
    }
    Ok(())
}

/// Writes the missing parts of a record.
///
/// A part of an earlier run is kept if the receipt lists it with the same tensors, and its file has
/// the size and hash of the receipt. The file is read in full for that: reading costs a fraction of
/// writing, and a resumed record is as reliable as a fresh one.
pub(crate) fn write(
    folder: &Path,
    config: &Olmo2Config,
    weights: &Weights,
    mut receipt: Receipt,
    progress: &mut dyn ConvertProgress,
) -> Result<Written, RecordError> {
    let formats = receipt.formats();
    let plans = plan(config, weights, &formats)?;
    let bytes = plans.iter().map(PartPlan::bytes).sum();
    let parts = plans.len();
    report(progress, ConvertEvent::Started { bytes, parts })?;
    let standing = |plan: &PartPlan<'_>| receipt.part(&plan.file).cloned();
    let mut done: Vec<Option<PartReceipt>> = plans.iter().map(standing).collect();
    let mut total = Written::default();
    for (index, plan) in plans.iter().enumerate() {
        if let Some(part) = &done[index]
            && is_intact(folder, part, plan, progress)?
        {
            report(progress, ConvertEvent::Kept { part })?;
            total.kept += 1;
            total.bytes += part.size;
            continue;
        }
        let written = |bytes| report(progress, ConvertEvent::Written { bytes });
        let part = plan.write(folder, written)?;
        check_unchanged(weights, &receipt.source)?;
        done[index] = Some(part.clone());
        receipt.parts = done.iter().flatten().cloned().collect();
        store(folder, &receipt)?;
        total.written += 1;
        total.bytes += part.size;
        report(progress, ConvertEvent::Finished { part: &part })?;
    }
    // The receipt may list a part twice, or one that the model does not have.
    let parts: Vec<PartReceipt> = done.into_iter().flatten().collect();
    if receipt.parts != parts {
        receipt.parts = parts;
        store(folder, &receipt)?;
    }
    Ok(total)
}

/// Checks that the source can be stored in the formats, before anything is written.
pub(crate) fn check_source(
    config: &Olmo2Config,
    weights: &Weights,
    formats: &Formats,
) -> Result<(), RecordError> {
    plan(config, weights, formats)?;
    Ok(())
}

fn plan<'a>(
    config: &Olmo2Config,
    weights: &'a Weights,
    formats: &Formats,
) -> Result<Vec<PartPlan<'a>>, QuantizeError> {
    let plan = |part| PartPlan::new(part, weights, formats);
    parts(config).iter().map(plan).collect()
}

/// The receipt of an earlier run of the same conversion, or a new one, which makes the folder a
/// record.
///
/// The source is the same if its files have the same names, sizes and times: a record must not mix
/// layers of two checkpoints of the same shape.
pub(crate) fn begin(
    folder: &Path,
    source: Source,
    copied: Vec<CopiedFile>,
    formats: &Formats,
) -> Result<Receipt, RecordError> {
    let Formats { dtype, quantize } = *formats;
    let Some(mut receipt) = Receipt::read(folder)? else {
        let receipt = Receipt {
            format_version: FORMAT_VERSION,
            tool: concat!("olmo2 ", env!("CARGO_PKG_VERSION")).into(),
            source,
            dtype,
            quantize,
            copied,
            parts: Vec::new(),
        };
        store(folder, &receipt)?;
        return Ok(receipt);
    };
    let other = |what, expected, found| {
        Err(RecordError::OtherRecord {
            folder: folder.to_owned(),
            what,
            expected,
            found,
        })
    };
    if receipt.dtype != dtype {
        let name = |dtype: Option<StoredDtype>| dtype.map_or("the source's", StoredDtype::name);
        return other("dtype", name(dtype).into(), name(receipt.dtype).into());
    }
    if receipt.quantize != quantize {
        let (expected, found) = (quantize.to_string(), receipt.quantize.to_string());
        return other("quantization", expected, found);
    }
    if receipt.source.files != source.files {
        let (expected, found) = difference(&source, &receipt.source);
        return other("source", expected, found);
    }
    if receipt.copied.is_empty() {
        // An older version wrote the receipt and did not list them.
        receipt.copied = copied;
        store(folder, &receipt)?;
    } else if receipt.copied != copied {
        let found = changed(&copied, &receipt.copied);
        let expected = "the source's, as it is now".to_owned();
        return other("config and tokenizer", expected, format!("another {found}"));
    }
    Ok(receipt)
}

/// The first file that is in only one of two lists.
fn changed(a: &[CopiedFile], b: &[CopiedFile]) -> String {
    let lone = |a: &[CopiedFile], b: &[CopiedFile]| {
        let file = a.iter().find(|file| !b.contains(file));
        file.map(|file| format!("`{}`", file.file))
    };
    lone(a, b).or_else(|| lone(b, a)).unwrap_or_default()
}

/// How two sources differ: by name, or else by the first file that differs.
fn difference(a: &Source, b: &Source) -> (String, String) {
    if a.label != b.label {
        return (format!("`{}`", a.label), format!("`{}`", b.label));
    }
    let files = a.files.iter().zip(&b.files).find(|(a, b)| a != b);
    let show = |file: &SourceFile| format!("`{}` of {} bytes", file.name, file.size);
    match files {
        Some((a, b)) if (&a.name, a.size) == (&b.name, b.size) => (
            format!("{} as it is now", show(a)),
            "one with another time of change".to_owned(),
        ),
        Some((a, b)) => (show(a), show(b)),
        None => (
            format!("{} files", a.files.len()),
            format!("{} files", b.files.len()),
        ),
    }
}

fn store(folder: &Path, receipt: &Receipt) -> Result<(), RecordError> {
    let path = folder.join(RECEIPT);
    let text = serde_json::to_vec_pretty(receipt)
        .map_err(|error| RecordError::io(&path)(io::Error::other(error)))?;
    atomic::write(&path, |file| {
        file.write_all(&text).map_err(RecordError::io(&path))?;
        file.write_all(b"\n").map_err(RecordError::io(&path))
    })
}

fn is_intact(
    folder: &Path,
    part: &PartReceipt,
    plan: &PartPlan<'_>,
    progress: &mut dyn ConvertProgress,
) -> Result<bool, RecordError> {
    let path = folder.join(&plan.file);
    let size = fs::metadata(&path).map(|metadata| metadata.len());
    if part.tensors != plan.receipt || size.ok() != Some(part.size) {
        return Ok(false);
    }
    let on_bytes = |bytes| progress.event(ConvertEvent::Checked { bytes });
    match hash_file(&path, on_bytes).map_err(WeightsError::io(&path))? {
        ControlFlow::Continue(found) => Ok(found == part.blake3),
        ControlFlow::Break(()) => Err(RecordError::Stopped),
    }
}

fn report(progress: &mut dyn ConvertProgress, event: ConvertEvent<'_>) -> Result<(), RecordError> {
    match progress.event(event) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(RecordError::Stopped),
    }
}
