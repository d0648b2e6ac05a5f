//! The layout of the cache, which is that of Python's `huggingface_hub`.
//!
//! ```text
//! <cache>/models--org--name/
//!     blobs/<etag>                     a file's content
//!     blobs/<etag>.incomplete          the same, while it arrives
//!     refs/<revision>                  the commit of a branch or tag
//!     snapshots/<commit>/<file>        -> ../../blobs/<etag>
//! <cache>/.locks/models--org--name/<etag>.lock
//! ```

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use hf_hub::{Cache, CacheRepo, Repo};

use super::HubError;
use super::error::io_error;
use super::names::{is_commit, is_file_name};

/// One model's folder in the cache; its id has been checked.
pub(super) struct ModelFolder {
    root: PathBuf,
    locks: PathBuf,
    cache: CacheRepo,
}

impl ModelFolder {
    pub(super) fn new(cache_dir: &Path, id: &str) -> Self {
        let name = Repo::model(id.into()).folder_name();
        Self {
            root: cache_dir.join(&name),
            locks: cache_dir.join(".locks").join(name),
            cache: Cache::new(cache_dir.into()).model(id.into()),
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn locks(&self) -> &Path {
        &self.locks
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.cache.blob_path(etag)
    }

    /// The name that Python's client gives to an unfinished blob, and deletes as one.
    pub(super) fn part(&self, etag: &str) -> PathBuf {
        self.cache.blob_path(&format!("{etag}.incomplete"))
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.cache.pointer_path(commit)
    }

    pub(super) fn ref_path(&self, revision: &str) -> PathBuf {
        self.root.join("refs").join(revision)
    }

    /// The commit of `revision` at the last request; a full hash is its own.
    pub(super) fn commit_of(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.into());
        }
        let commit = fs::read_to_string(self.ref_path(revision)).ok()?;
        let commit = commit.trim();
        is_file_name(commit).then(|| commit.into())
    }

    /// Stores the commit of `revision`, atomically for concurrent readers.
    pub(super) fn set_ref(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        // Two threads must not write the same unfinished file.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if revision == commit || self.commit_of(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.ref_path(revision);
        create_parent(&path)?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut new = path.clone().into_os_string();
        new.push(format!(".{}-{number}.tmp", std::process::id()));
        let new = PathBuf::from(new);
        fs::write(&new, commit).map_err(io_error("write", &new))?;
        fs::rename(&new, &path).map_err(io_error("write", &path))
    }

    /// Locks the blob for this process, and calls `waiting` if another one holds the lock, which is
    /// that of Python's client. A file system without locks is safe too: a blob is checked by its
    /// hash and then renamed.
    pub(super) fn lock(
        &self,
        etag: &str,
        waiting: impl FnOnce(),
    ) -> Result<Option<File>, HubError> {
        let path = self.locks.join(format!("{etag}.lock"));
        create_parent(&path)?;
        let file = File::create(&path).map_err(io_error("create", &path))?;
        Ok(match file.try_lock() {
            Ok(()) => Some(file),
            Err(TryLockError::WouldBlock) => {
                waiting();
                file.lock().map_err(io_error("lock", &path))?;
                Some(file)
            }
            Err(TryLockError::Error(_)) => None,
        })
    }

    /// Points `file` of `commit` to the blob `etag`: by a link or, where links are not possible, by
    /// moving the blob, as Python's client does. The caller holds the blob's lock.
    pub(super) fn point(&self, commit: &str, file: &str, etag: &str) -> Result<(), HubError> {
        let pointer = self.snapshot(commit).join(file);
        if pointer.is_file() {
            return Ok(());
        }
        create_parent(&pointer)?;
        // A link to a blob that was lost.
        if fs::symlink_metadata(&pointer).is_ok() {
            fs::remove_file(&pointer).map_err(io_error("replace", &pointer))?;
        }
        let target = Path::new("../../blobs").join(etag);
        match symlink(&target, &pointer) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                let blob = self.blob(etag);
                fs::rename(&blob, &pointer).map_err(io_error("move to", &pointer))
            }
            _ => Ok(()),
        }
    }
}

/// Creates the folder in which `path` lies.
pub(super) fn create_parent(path: &Path) -> Result<(), HubError> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(io_error("create", parent))
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}

#[cfg(not(any(unix, windows)))]
fn symlink(_target: &Path, _link: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
