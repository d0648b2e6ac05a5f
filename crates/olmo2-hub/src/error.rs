//! What can go wrong between a model id and a folder of files, and what to do about it.

use std::io;
use std::path::PathBuf;

/// Everything that can fail in this module.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The id cannot be one of the hub, whatever the hub holds.
    #[error("`{id}` is not a model id: {reason}")]
    InvalidId {
        /// The id as it was given.
        id: String,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// The revision cannot be one of the hub, whatever the hub holds.
    #[error("`{revision}` is not a revision: {reason}")]
    InvalidRevision {
        /// The revision as it was given.
        revision: String,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// An environment variable has a value that means nothing.
    #[error("`{name}` is `{value}`, expected {expected}")]
    InvalidSetting {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// Neither a cache folder nor a home folder is known.
    #[error("no home folder, so no place for the cache of the hub")]
    NoHome,
    /// The hub has no such repository.
    #[error("no model `{id}` at `{endpoint}`")]
    RepoNotFound {
        /// The id asked for.
        id: String,
        /// The hub asked.
        endpoint: String,
    },
    /// The repository exists and this branch, tag or commit of it does not.
    #[error("`{id}` has no revision `{revision}`")]
    RevisionNotFound {
        /// The repository.
        id: String,
        /// The revision asked for.
        revision: String,
    },
    /// Status 401 or 403: private, gated, or (the hub does not tell) not there at all.
    #[error("the hub refuses `{id}` (status {status}): {}", refusal(*gated, *token))]
    Refused {
        /// The repository.
        id: String,
        /// 401 or 403.
        status: u16,
        /// The hub said that its owner must grant access.
        gated: bool,
        /// A token was sent.
        token: bool,
    },
    /// A request was needed and `HF_HUB_OFFLINE` forbids them.
    #[error("{what} is asked of the hub, and offline mode is on")]
    Offline {
        /// What was wanted.
        what: String,
    },
    /// Offline, and the cache lacks files of this revision.
    #[error("offline mode is on, and {}`{id}` at revision `{revision}` is not in the cache `{}`", part_of(missing), cache_dir.display())]
    NotCached {
        /// The repository.
        id: String,
        /// The revision asked for.
        revision: String,
        /// The files that the cache lacks; empty if it has nothing of the revision.
        missing: Vec<String>,
        /// The cache's folder.
        cache_dir: PathBuf,
    },
    /// Nothing, or nothing of that revision, is there to be removed.
    #[error("the cache `{}` holds no {what}", cache_dir.display())]
    NothingCached {
        /// Repository, or repository and revision.
        what: String,
        /// The cache's folder.
        cache_dir: PathBuf,
    },
    /// No connection, or one that broke or fell silent, after all retries.
    #[error("the network is down or `{host}` cannot be reached: {reason}")]
    Network {
        /// Scheme and host of the request that failed.
        host: String,
        /// What the connection said.
        reason: String,
    },
    /// The server answered with a status that means neither yes nor no.
    #[error("`{host}` answered {status} for `{what}`")]
    Status {
        /// Scheme and host.
        host: String,
        /// The file or repository asked for.
        what: String,
        /// The HTTP status.
        status: u16,
    },
    /// An answer that a hub would not give.
    #[error("`{host}` does not answer as a hub does: {reason}")]
    BadResponse {
        /// Scheme and host.
        host: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// A downloaded file is not the one that the hub announced; it was deleted.
    #[error("`{file}` arrived corrupt: expected {expected}, found {found}")]
    Corrupt {
        /// The file.
        file: String,
        /// Size or SHA-256 that the hub announced.
        expected: String,
        /// What arrived.
        found: String,
    },
    /// The repository has weights, and none of them in the safetensors format.
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
    /// A file that the model cannot do without is not in the repository.
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
        /// What is wrong with it.
        reason: String,
    },
    /// The disk said no.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried: `write`, `create`, ..
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A function for `map_err` that says what was tried and where.
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

    /// Whether a second try may well succeed: a broken connection, an overloaded server.
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
    let ask = format!("ask for access on the hub's page of `{id}`");
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

/// The beginning of "`config.json` of `org/name` is not there".
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
