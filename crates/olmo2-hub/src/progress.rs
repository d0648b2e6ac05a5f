//! What a download tells its caller; the library itself prints nothing.

use std::fmt;

/// Receives the progress of [`Hub::fetch`](super::Hub::fetch). `()` ignores it.
pub trait Progress {
    /// `done` of `total` bytes of `file` are on disk. The first call for a file tells what an
    /// earlier run left; the last one has `done == total`. A `done` below the last one means that
    /// the server could not resume and the file begins anew. Files in the cache are not reported.
    fn bytes(&mut self, file: &str, done: u64, total: Option<u64>);

    /// Something that the user should know while it goes on.
    fn notice(&mut self, notice: &Notice);
}

impl Progress for () {
    fn bytes(&mut self, _file: &str, _done: u64, _total: Option<u64>) {}

    fn notice(&mut self, _notice: &Notice) {}
}

/// An event that is no error; `Display` gives one line for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The hub gave no answer and the cache holds the revision, maybe not its newest commit.
    FromCache {
        /// Why the hub could not be asked.
        reason: String,
    },
    /// A connection broke; the file goes on from where it is.
    Retry {
        /// The file.
        file: String,
        /// What broke.
        reason: String,
    },
    /// Another process downloads this file; this one waits for it.
    Waiting {
        /// The file.
        file: String,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FromCache { reason } => write!(f, "using the cache: {reason}"),
            Self::Retry { file, reason } => write!(f, "trying `{file}` again: {reason}"),
            Self::Waiting { file } => {
                write!(f, "waiting for another process that downloads `{file}`")
            }
        }
    }
}
