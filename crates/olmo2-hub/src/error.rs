//! Errors between a model id and a folder of files, with hints.

use std::io;
use std::path::PathBuf;

/// An error of the hub or its cache.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The id breaks the rules of the hub.
    #[error("`{id}` is not a model id: {reason}")]
    InvalidId {
        /// The given id.
        id: String,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// The revision breaks the rules of the hub.
    #[error("`{revision}` is not a revision: {reason}")]
    InvalidRevision {
        /// The given revision.
        revision: String,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// An environment variable has an invalid value.
    #[error("`{name}` is `{value}`, expected {expected}")]
    InvalidSetting {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// The valid values.
        expected: &'static str,
    },
    /// There is neither a cache folder nor a home folder.
    #[error("no home folder for the cache of the hub")]
    NoHome,
    /// The hub has no such repository.
    #[error("no model `{id}` at `{endpoint}`")]
    RepoNotFound {
        /// The requested id.
        id: String,
        /// The address of the hub.
        endpoint: String,
    },
    /// The repository exists, but has no such branch, tag or commit.
    #[error("`{id}` has no revision `{revision}`")]
    RevisionNotFound {
        /// The repository.
        id: String,
        /// The requested revision.
        revision: String,
    },
    /// Status 401 or 403: the repository is private, gated, or does not exist.
    #[error("the hub refuses `{id}` (status {status}): {}", refusal(*gated, *token))]
    Refused {
        /// The repository.
        id: String,
        /// 401 or 403.
        status: u16,
        /// The owner must grant access.
        gated: bool,
        /// A token was sent.
        token: bool,
    },
    /// `HF_HUB_OFFLINE` forbids a necessary request.
    #[error("cannot ask the hub for {what}: offline mode is on")]
    Offline {
        /// The object of the request.
        what: String,
    },
    /// Offline, and the cache lacks files of this revision.
    #[error("offline mode is on, and {}`{id}` at revision `{revision}` is not in the cache `{}`", part_of(missing), cache_dir.display())]
    NotCached {
        /// The repository.
        id: String,
        /// The requested revision.
        revision: String,
        /// The files that the cache lacks; empty if it has nothing of the revision.
        missing: Vec<String>,
        /// The cache's folder.
        cache_dir: PathBuf,
    },
    /// The cache has no such model or revision to remove.
    #[error("the cache `{}` holds no {what}", cache_dir.display())]
    NothingCached {
        /// Repository, or repository and revision.
        what: String,
        /// The cache's folder.
        cache_dir: PathBuf,
    },
    /// No connection, or one that broke or timed out, after all retries.
    #[error("the network is down or `{host}` cannot be reached: {reason}")]
    Network {
        /// Scheme and host of the request that failed.
        host: String,
        /// The error of the connection.
        reason: String,
    },
    /// The server answered with another status.
    #[error("`{host}` answered {status} for `{what}`")]
    Status {
        /// Scheme and host.
        host: String,
        /// The requested file or repository.
        what: String,
        /// The HTTP status.
        status: u16,
    },
    /// An answer that is not one of a hub.
    #[error("`{host}` does not answer as a hub does: {reason}")]
    BadResponse {
        /// Scheme and host.
        host: String,
        /// The fault of the answer.
        reason: String,
    },
    /// A downloaded file differs from the size or hash that the hub announced; it was deleted.
    #[error("`{file}` arrived corrupt: expected {expected}, found {found}")]
    Corrupt {
        /// The file.
        file: String,
        /// Size or SHA-256 that the hub announced.
        expected: String,
        /// Size or SHA-256 of the download.
        found: String,
    },
    /// The repository has weights, but none in the safetensors format.
    #[error("`{id}` has no safetensors weights, only {}", listed(found))]
    NoSafetensors {
        /// The repository.
        id: String,
        /// Its weight files.
        found: Vec<String>,
    },
    /// The repository has no weights at all.
    #[error(
        "`{id}` has no weights: neither `model.safetensors` nor `model.safetensors.index.json`"
    )]
    NoWeights {
        /// The repository.
        id: String,
    },
    /// The repository lacks a required file.
    #[error("`{id}` has no `{file}`")]
    MissingFile {
        /// The repository.
        id: String,
        /// The file.
        file: String,
    },
    /// `model.safetensors.index.json` does not name shards.
    #[error("`{file}` is not an index of shards: {reason}")]
    BadIndex {
        /// The index.
        file: String,
        /// Its fault.
        reason: String,
    },
    /// A file or folder cannot be read, written or deleted.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// The action: `read`, `write`, `create`, ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// A function for `map_err` that adds the action and the path.
pub(super) fn io_error(
    action: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(io::Error) -> HubError {
    let path = path.into();
    move |source| HubError::Io {
        action,
        path,
        source,
    }
}

impl HubError {
    /// What the user can do, in one line without a full stop. `olmo2::Hint` has it, too.
    pub fn hint(&self) -> Option<String> {
        let fixed = match self {
            Self::InvalidId { .. } => {
                "ids look like `allenai/OLMo-2-0425-1B`; for a folder, check its path"
            }
            Self::InvalidRevision { .. } => {
                "revisions look like `main` or `stage1-step140000-tokens294B`"
            }
            Self::NoHome => "set `HF_HOME` to a folder",
            Self::RepoNotFound { .. } => {
                "check the spelling; a private model needs a token in `HF_TOKEN`"
            }
            Self::Offline { .. } => "unset `HF_HUB_OFFLINE` to allow requests",
            Self::NothingCached { .. } => "check the spelling of the id",
            Self::BadResponse { .. } => {
                "check `HF_ENDPOINT`, and whether a proxy or a login page answers instead"
            }
            Self::Corrupt { .. } => "the file was deleted; run the command again to download it",
            Self::NoSafetensors { .. } => {
                "pickled weights are never read; choose a revision or a model with safetensors"
            }
            Self::NoWeights { .. } | Self::MissingFile { .. } | Self::BadIndex { .. } => {
                "check that the id names a model in the format of transformers"
            }
            other => return other.own_hint(),
        };
        Some(fixed.into())
    }

    /// The hints that depend on what the error holds.
    fn own_hint(&self) -> Option<String> {
        const FOLDER: &str = "a model on disk needs no network";
        Some(match self {
            Self::InvalidSetting { name, .. } => format!("correct `{name}` or unset it"),
            Self::RevisionNotFound { .. } => "check the spelling of the revision".into(),
            Self::Refused {
                id, gated, token, ..
            } => refusal_hint(id, *gated, *token),
            Self::NotCached { .. } => format!("unset `HF_HUB_OFFLINE` to download it; {FOLDER}"),
            Self::Network { .. } => {
                format!("run the command again to resume the download; {FOLDER}")
            }
            Self::Status { status: 429, .. } => {
                "too many requests: wait some minutes, or set `HF_TOKEN`".into()
            }
            Self::Status { .. } => format!("try again later; {FOLDER}"),
            Self::Io { source, .. } => return io_hint(source),
            _ => return None,
        })
    }

    /// Whether a retry may succeed: after a broken connection, or with an overloaded server.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Network { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500..=599),
            _ => false,
        }
    }

    /// Whether a revision that the cache holds may be used in place of the hub's answer. As in
    /// Python's client a refusal counts (the files are on this disk already), and a revision that
    /// the hub says does not exist does not.
    pub(super) fn allows_cache(&self) -> bool {
        self.is_transient()
            || matches!(
                self,
                Self::Refused { .. } | Self::RepoNotFound { .. } | Self::BadResponse { .. }
            )
    }
}

/// Why a hub says 401 or 403.
fn refusal(gated: bool, token: bool) -> &'static str {
    match (gated, token) {
        (true, true) => "the model is gated, and this account has no access",
        (true, false) => "the model is gated, and no token was sent",
        (false, true) => "the token is not valid, or gives no access to it",
        (false, false) => "it is private, gated or does not exist, and no token was sent",
    }
}

/// What to do about a 401 or 403.
fn refusal_hint(id: &str, gated: bool, token: bool) -> String {
    let ask = format!("request access on the page of `{id}` on the hub");
    match (gated, token) {
        (true, true) => ask,
        (true, false) => format!("{ask}, then set `HF_TOKEN`"),
        (false, true) => "check the id and the token in `HF_TOKEN`".into(),
        (false, false) => "check the id; for a private or gated model set `HF_TOKEN`".into(),
    }
}

/// What to do about a full disk or a folder without rights.
fn io_hint(source: &io::Error) -> Option<String> {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some("free some space, or set `HF_HUB_CACHE` to another disk".into())
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Some("set `HF_HUB_CACHE` to a folder that you may write to".into())
        }
        _ => None,
    }
}

/// The beginning of "`config.json` of `org/name` is missing".
fn part_of(missing: &[String]) -> String {
    match missing.is_empty() {
        true => String::new(),
        false => format!("{} of ", listed(missing)),
    }
}

/// `a`, `b` and 3 more, each in backticks.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let mut text = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > SHOWN {
        text += &format!(" and {} more", names.len() - SHOWN);
    }
    text
}
