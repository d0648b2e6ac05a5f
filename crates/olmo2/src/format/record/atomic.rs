//! Files that are complete or absent.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::error::RecordError;

/// The end of the name of an incomplete file.
pub(crate) const UNFINISHED: &str = ".unfinished";

/// Writes a file under another name, syncs it, and renames it.
///
/// A failure leaves nothing; a crash may leave a file whose name ends in [`UNFINISHED`].
pub(crate) fn write<T>(
    path: &Path,
    content: impl FnOnce(&mut File) -> Result<T, RecordError>,
) -> Result<T, RecordError> {
    let unfinished = unfinished(path);
    let io = RecordError::io;
    let written = File::create(&unfinished)
        .map_err(io(&unfinished))
        .and_then(|mut file| {
            let value = content(&mut file)?;
            file.sync_all().map_err(io(&unfinished))?;
            Ok(value)
        });
    let renamed = written.and_then(|value| {
        fs::rename(&unfinished, path).map_err(io(path))?;
        Ok(value)
    });
    if renamed.is_err() {
        // The first error is the one to report; a full disk gets its space back.
        let _ = fs::remove_file(&unfinished);
    }
    let value = renamed?;
    sync_folder(path.parent().unwrap_or(Path::new("."))).map_err(io(path))?;
    Ok(value)
}

/// The name of a file until it is complete.
pub(crate) fn unfinished(path: &Path) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    name.into()
}

/// Syncs a folder, so that a rename survives a crash. Only Unix opens a folder as a file.
fn sync_folder(folder: &Path) -> io::Result<()> {
    match cfg!(unix) {
        true => File::open(folder)?.sync_all(),
        false => Ok(()),
    }
}
