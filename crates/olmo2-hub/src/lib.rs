//! Downloads models from the Hugging Face hub into the cache that Python's `huggingface_hub` uses.
//!
//! [`Hub::fetch`] turns an id and a revision into a folder of files; [`Hub::revisions`] lists
//! branches, tags and training checkpoints; [`cached_models`] and [`remove`] manage the cache.
//! Environment variables, layout and locks of the cache are those of `huggingface_hub`, so that
//! neither program downloads a file that the other has. Downloads resume, are checked against the
//! hub's SHA-256, and appear in the cache once they are complete.
//!
//! The crate prints nothing: a [`Progress`] receives bytes and notices. Every error is a
//! [`HubError`], and [`HubError::hint`] says what a user can do.
//!
//! ```no_run
//! use olmo2_hub::{Files, Hub, HubOptions};
//!
//! let hub = Hub::new(HubOptions::from_env()?);
//! let folder = hub.fetch("allenai/OLMo-2-0425-1B", "main", Files::Model, &mut ())?;
//! # Ok::<(), olmo2_hub::HubError>(())
//! ```

mod cached;
mod download;
mod error;
mod files;
mod http;
mod layout;
mod names;
mod options;
mod progress;
mod revisions;

use std::fmt;
use std::path::PathBuf;

use hf_hub::api::RepoInfo;

pub use cached::{CachedModel, CachedRevision, cached_models, remove};
pub use error::HubError;
pub use files::Files;
pub use names::{check_id, check_revision, parse_id};
pub use options::HubOptions;
pub use progress::{Notice, Progress};
pub use revisions::{Checkpoint, Revision};

use download::Download;
use http::Client;
use layout::ModelFolder;

/// The default revision.
pub const DEFAULT_REVISION: &str = "main";

/// A hub, and the cache on this machine.
pub struct Hub {
    options: HubOptions,
    client: Client,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hub").field(&self.options).finish()
    }
}

impl Hub {
    /// A hub with these options. Makes no request.
    pub fn new(options: HubOptions) -> Self {
        Self {
            client: Client::new(&options),
            options,
        }
    }

    /// The options.
    pub fn options(&self) -> &HubOptions {
        &self.options
    }

    /// Downloads the files of `id` at `revision` (a branch, a tag or a commit) that the cache lacks,
    /// and returns their folder, `models--org--name/snapshots/<commit>`.
    ///
    /// Online, each call asks the hub for the commit, as in Python. If the hub cannot be reached or
    /// refuses, and the cache holds the revision, the cache is used, with a [`Notice::FromCache`].
    /// Offline, no request is made. An interrupted download resumes, in this call (`retries`) or a
    /// later one.
    ///
    /// # Errors
    /// See [`HubError`]: a gated model, a missing revision and a broken network are variants of
    /// their own.
    pub fn fetch(
        &self,
        id: &str,
        revision: &str,
        files: Files,
        progress: &mut dyn Progress,
    ) -> Result<PathBuf, HubError> {
        check_id(id)?;
        check_revision(revision)?;
        let folder = ModelFolder::new(&self.options.cache_dir, id);
        if self.options.offline {
            return self.cached(&folder, id, revision, files);
        }
        let info = match self.resolve(id, revision) {
            Ok(info) => info,
            Err(error) => {
                let cached = self.cached(&folder, id, revision, files);
                let (true, Ok(path)) = (error.allows_cache(), cached) else {
                    return Err(error);
                };
                progress.notice(&Notice::FromCache {
                    reason: error.to_string(),
                });
                return Ok(path);
            }
        };
        let download = Download {
            client: &self.client,
            options: &self.options,
            folder: &folder,
            id,
            commit: &info.sha,
            progress,
        };
        download_all(download, &info, files)?;
        // Last, so that an interrupted download leaves the name at a complete commit.
        folder.set_ref(revision, &info.sha)?;
        Ok(folder.snapshot(&info.sha))
    }

    /// The branches and tags of a model: `main` first, checkpoints in the order of training.
    ///
    /// # Errors
    /// [`HubError::Offline`] in offline mode, and the errors of a request.
    pub fn revisions(&self, id: &str) -> Result<Vec<Revision>, HubError> {
        check_id(id)?;
        if self.options.offline {
            return Err(HubError::Offline {
                what: format!("the list of revisions of `{id}`"),
            });
        }
        let path = format!("models/{id}/refs");
        let refs: revisions::Refs = self.client.json(&path, id, DEFAULT_REVISION)?;
        Ok(refs.sorted())
    }

    /// Commit and files of a revision.
    fn resolve(&self, id: &str, revision: &str) -> Result<RepoInfo, HubError> {
        match self.client.info(id, revision) {
            Ok(info) if names::is_file_name(&info.sha) => Ok(info),
            Ok(info) => Err(HubError::BadResponse {
                host: self.options.endpoint.clone(),
                reason: format!("`{}` is not a commit", info.sha),
            }),
            // Mirrors may answer 404 without saying whether model or revision is missing.
            Err(HubError::RepoNotFound { .. })
                if revision != DEFAULT_REVISION
                    && self.client.info(id, DEFAULT_REVISION).is_ok() =>
            {
                Err(HubError::RevisionNotFound {
                    id: id.into(),
                    revision: revision.into(),
                })
            }
            Err(error) => Err(error),
        }
    }

    /// The snapshot of a revision, if the cache has all required files.
    fn cached(
        &self,
        folder: &ModelFolder,
        id: &str,
        revision: &str,
        files: Files,
    ) -> Result<PathBuf, HubError> {
        let snapshot = folder
            .commit_of(revision)
            .map(|commit| folder.snapshot(&commit));
        let missing = match &snapshot {
            Some(snapshot) => files::missing(snapshot, files),
            None => Vec::new(),
        };
        match snapshot.filter(|_| missing.is_empty()) {
            Some(snapshot) => Ok(snapshot),
            None => Err(HubError::NotCached {
                id: id.into(),
                revision: revision.into(),
                missing,
                cache_dir: self.options.cache_dir.clone(),
            }),
        }
    }
}

/// Downloads the small files, then the weights or the shards of the index.
fn download_all(mut download: Download<'_>, info: &RepoInfo, files: Files) -> Result<(), HubError> {
    let siblings = info
        .siblings
        .iter()
        .map(|sibling| sibling.rfilename.clone());
    let siblings: Vec<String> = siblings.collect();
    let small = files::small_files(download.id, &siblings, files)?;
    for name in &small {
        download.file(name)?;
    }
    if small.last().is_none_or(|name| name != files::INDEX) {
        return Ok(());
    }
    let snapshot = download.folder.snapshot(download.commit);
    let shards = files::shards(&snapshot.join(files::INDEX))?;
    if let Some(name) = shards.iter().find(|name| !siblings.contains(name)) {
        return Err(HubError::MissingFile {
            id: download.id.into(),
            file: name.clone(),
        });
    }
    shards.iter().try_for_each(|name| download.file(name))
}
