//! Why a record could not be written.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::hint::Hint;
use crate::quantize::QuantizeError;
use crate::storage::StoredDtype;
use crate::weights::WeightsError;

/// Why a record could not be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A file cannot be written, synced or renamed.
    #[error("cannot write `{path}`: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The weights of the source, or of an existing record.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The source cannot be quantized as requested.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// A finite value of the source is beyond the range of the requested dtype.
    #[error("`{file}`: tensor `{tensor}`: expected values within the range of {dtype}, found {found} at element {element}", file = file.display(), dtype = dtype.name())]
    Overflow {
        /// The file of the source.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The requested dtype.
        dtype: StoredDtype,
        /// The value.
        found: f32,
        /// Its index in row-major order.
        element: u64,
    },
    /// The folder holds a record of another source or in another format.
    #[error("`{folder}` holds another record: {what}: expected {expected}, found {found}", folder = folder.display())]
    OtherRecord {
        /// The folder.
        folder: PathBuf,
        /// What differs: source, dtype or quantization.
        what: &'static str,
        /// The requested value.
        expected: String,
        /// The value in the receipt.
        found: String,
    },
    /// A file of the source was written to while it was converted.
    #[error("`{file}` changed while it was converted", file = file.display())]
    SourceChanged {
        /// The file.
        file: PathBuf,
    },
    /// Another process writes to the folder.
    #[error("`{folder}` is being written to by another process", folder = folder.display())]
    Busy {
        /// The folder.
        folder: PathBuf,
    },
    /// [`ConvertProgress`](super::ConvertProgress) stopped the conversion.
    #[error("stopped")]
    Stopped,
}

impl RecordError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

impl Hint for RecordError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Io { source, .. } => return io_hint(source.kind()).map(Into::into),
            Self::Overflow { .. } => "bf16 has the range of f32 at the size of f16",
            Self::OtherRecord { .. } => "choose another folder, or remove that one",
            Self::Stopped => "run it again: it resumes",
            Self::SourceChanged { .. } => {
                "once nothing writes to the source, convert into a new folder"
            }
            _ => return self.inner()?.hint(),
        };
        Some(hint.into())
    }

    fn inner(&self) -> Option<&(dyn Hint + 'static)> {
        match self {
            Self::Weights(e) => Some(e),
            Self::Quantize(e) => Some(e),
            _ => None,
        }
    }
}

fn io_hint(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::StorageFull => Some("make room and run it again: it resumes"),
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            Some("a record is a folder: choose a path that is not a file")
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Some("choose a folder that you may write to")
        }
        _ => None,
    }
}
