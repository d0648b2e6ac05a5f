//! The progress of a download, for the caller; this crate prints nothing.

use std::fmt;

/// Receives the progress of [`Hub::fetch`](super::Hub::fetch). `()` ignores it.
pub trait Progress {
    /// `done` of `total` bytes of `file` are on disk. The first call for a file counts the bytes of
    /// an earlier run; the last one has `done == total`. If `done` decreases, the server could not
    /// resume and the file starts anew. Files in the cache are not reported.
    fn bytes(&mut self, file: &str, done: u64, total: Option<u64>);

    /// An event to show to the user; the download continues.
    fn notice(&mut self, notice: &Notice);
}

impl Progress for () {
    fn bytes(&mut self, _file: &str, _done: u64, _total: Option<u64>) {}

    fn notice(&mut self, _notice: &Notice) {}
}

/// An event that is not an error; `Display` gives one line for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The hub did not answer, and the cache holds the revision, maybe not at its newest commit.
    FromCache {
        /// Why the hub did not answer.
        reason: String,
    },
    /// A connection broke; the file resumes.
    Retry {
        /// The file.
        file: String,
        /// Why it broke.
        reason: String,
    },
    /// Another process downloads this file, and this one waits for it.
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
