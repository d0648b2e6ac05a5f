//! Lists and removes the models of the cache. Deletes nothing outside the folder of the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::HubError;
use super::error::io_error;
use super::files::{Files, missing};
use super::layout::ModelFolder;
use super::names::{check_id, check_revision};

/// A model in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedModel {
    /// `org/name` or `name`.
    pub id: String,
    /// Its folder.
    pub path: PathBuf,
    /// Bytes of its files, each content counted once, unfinished downloads included.
    pub size_on_disk: u64,
    /// Its snapshots, by commit.
    pub revisions: Vec<CachedRevision>,
}

/// A snapshot of a model in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedRevision {
    /// The commit.
    pub commit: String,
    /// Branches and tags that pointed to it at the last request.
    pub refs: Vec<String>,
    /// The snapshot's folder, which a model is loaded from.
    pub path: PathBuf,
    /// Bytes of its files; a content that snapshots share counts in each.
    pub size_on_disk: u64,
    /// Whether config and weights are complete.
    pub is_complete: bool,
}

/// The models in `cache_dir`, sorted by id; none if the folder does not exist. Other folders, and
/// models that cannot be read, are skipped.
///
/// # Errors
/// [`HubError::Io`] if the folder itself cannot be read.
pub fn cached_models(cache_dir: &Path) -> Result<Vec<CachedModel>, HubError> {
    let names = match fs::read_dir(cache_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io_error("read", cache_dir))?,
    };
    let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let ids = names.filter_map(|name| Some(name.strip_prefix("models--")?.replace("--", "/")));
    let ids: BTreeSet<String> = ids.filter(|id| check_id(id).is_ok()).collect();
    Ok(ids
        .iter()
        .filter_map(|id| cached_model(cache_dir, id))
        .collect())
}

fn cached_model(cache_dir: &Path, id: &str) -> Option<CachedModel> {
    let folder = ModelFolder::new(cache_dir, id);
    let snapshots = fs::read_dir(folder.root().join("snapshots")).ok()?;
    let mut refs = refs_by_commit(&folder);
    let mut revisions: Vec<CachedRevision> = snapshots
        .filter_map(|entry| {
            let entry = entry.ok().filter(|entry| entry.path().is_dir())?;
            let commit = entry.file_name().into_string().ok()?;
            let path = entry.path();
            Some(CachedRevision {
                refs: refs.remove(&commit).unwrap_or_default(),
                size_on_disk: walk(&path)
                    .iter()
                    .filter_map(|file| fs::metadata(file).ok())
                    .map(|file| file.len())
                    .sum(),
                is_complete: missing(&path, Files::Model).is_empty(),
                commit,
                path,
            })
        })
        .collect();
    revisions.sort_by(|a, b| a.commit.cmp(&b.commit));
    // Blobs, and files that lie in a snapshot themselves. A blob that links to a store shared by
    // models (Python's client 2) counts: the model needs it.
    let files = walk(folder.root());
    let blobs = folder.root().join("blobs");
    let counted = files
        .iter()
        .filter(|file| file.starts_with(&blobs) || !file.is_symlink());
    Some(CachedModel {
        id: id.into(),
        size_on_disk: counted
            .filter_map(|file| Some(fs::metadata(file).ok()?.len()))
            .sum(),
        path: folder.root().into(),
        revisions,
    })
}

/// Removes a model or one revision of it from the cache, and returns the number of freed bytes.
///
/// `revision` is a branch or tag, whose snapshot stays if another name points to it, or a full
/// commit hash, whose snapshot is removed with all its names. Contents that another snapshot uses
/// stay. The last revision is removed with the model's folder.
///
/// # Errors
/// [`HubError::InvalidId`], [`HubError::InvalidRevision`], [`HubError::NothingCached`], and
/// [`HubError::Io`].
pub fn remove(cache_dir: &Path, id: &str, revision: Option<&str>) -> Result<u64, HubError> {
    check_id(id)?;
    let folder = ModelFolder::new(cache_dir, id);
    let nothing = |what: String| HubError::NothingCached {
        what,
        cache_dir: cache_dir.into(),
    };
    if !is_own_folder(&folder) {
        return Err(nothing(format!("model `{id}`")));
    }
    let Some(revision) = revision else {
        return remove_model(&folder);
    };
    check_revision(revision)?;
    let gone = || nothing(format!("revision `{revision}` of `{id}`"));
    let commit = folder.commit_of(revision).ok_or_else(gone)?;
    let names = refs_by_commit(&folder).remove(&commit).unwrap_or_default();
    if names.iter().any(|name| name == revision) {
        if names.len() > 1 {
            return delete_file(&folder.ref_path(revision)).map(|()| 0);
        }
    } else if !folder.snapshot(&commit).is_dir() {
        return Err(gone());
    }
    remove_snapshot(&folder, &commit, &names)
}

/// Whether the model's folder and the folders in it are real: a link could lead out of the cache.
fn is_own_folder(folder: &ModelFolder) -> bool {
    let root = folder.root();
    let parts = ["blobs", "refs", "snapshots"].map(|part| root.join(part));
    root.is_dir() && !root.is_symlink() && !parts.iter().any(|part| part.is_symlink())
}

fn remove_model(folder: &ModelFolder) -> Result<u64, HubError> {
    let freed = walk(folder.root()).iter().map(|file| own_size(file)).sum();
    delete_folder(folder.root())?;
    delete_folder(folder.locks())?;
    Ok(freed)
}

/// Deletes a snapshot, its names, then the blobs that no other snapshot uses: an interruption leaves
/// no dangling link.
fn remove_snapshot(folder: &ModelFolder, commit: &str, names: &[String]) -> Result<u64, HubError> {
    let snapshots = folder.root().join("snapshots");
    let others = walk(&snapshots);
    let snapshot = folder.snapshot(commit);
    let (own, others): (Vec<PathBuf>, Vec<PathBuf>) = others
        .into_iter()
        .partition(|file| file.starts_with(&snapshot));
    let others_left = fs::read_dir(&snapshots).is_ok_and(|entries| {
        entries
            .filter_map(Result::ok)
            .any(|entry| entry.path() != snapshot)
    });
    if !others_left {
        return remove_model(folder);
    }
    let kept: BTreeSet<PathBuf> = others
        .iter()
        .filter_map(|file| blob_of(folder, file))
        .collect();
    let blobs: BTreeSet<PathBuf> = own
        .iter()
        .filter_map(|file| blob_of(folder, file))
        .collect();
    let mut freed = own.iter().map(|file| own_size(file)).sum();
    delete_folder(&snapshot)?;
    for name in names {
        delete_file(&folder.ref_path(name))?;
    }
    for blob in blobs.difference(&kept) {
        freed += own_size(blob);
        delete_file(blob)?;
    }
    // Python's client keeps notes on a commit.
    delete_file(&folder.root().join("trees").join(format!("{commit}.json")))?;
    delete_folder(&folder.root().join(".no_exist").join(commit))?;
    Ok(freed)
}

/// The blob of a snapshot's link. Only the last part of the target is used, so that nothing is
/// deleted elsewhere.
fn blob_of(folder: &ModelFolder, file: &Path) -> Option<PathBuf> {
    let target = fs::read_link(file).ok()?;
    let blob = folder.root().join("blobs").join(target.file_name()?);
    fs::symlink_metadata(&blob).is_ok().then_some(blob)
}

/// Bytes that deleting this file frees: none for a link.
fn own_size(file: &Path) -> u64 {
    match fs::symlink_metadata(file) {
        Ok(found) if found.is_file() => found.len(),
        _ => 0,
    }
}

/// The names in `refs`, sorted, for each commit.
fn refs_by_commit(folder: &ModelFolder) -> BTreeMap<String, Vec<String>> {
    let refs = folder.root().join("refs");
    let mut by_commit: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in walk(&refs) {
        let Some(name) = file.strip_prefix(&refs).ok().and_then(Path::to_str) else {
            continue;
        };
        let name = name.replace(std::path::MAIN_SEPARATOR, "/");
        if let Some(commit) = check_revision(&name)
            .ok()
            .and_then(|()| folder.commit_of(&name))
        {
            by_commit.entry(commit).or_default().push(name);
        }
    }
    by_commit
}

/// All files and links beneath a folder, sorted; links are not followed.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(folder).into_iter().flatten();
        for entry in entries.filter_map(Result::ok) {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                _ => files.push(entry.path()),
            }
        }
    }
    files.sort_unstable();
    files
}

fn delete_file(path: &Path) -> Result<(), HubError> {
    absent_is_fine(fs::remove_file(path)).map_err(io_error("delete", path))
}

/// `remove_dir_all` deletes a link and not what it points to.
fn delete_folder(path: &Path) -> Result<(), HubError> {
    absent_is_fine(fs::remove_dir_all(path)).map_err(io_error("delete", path))
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
