//! Read-only maps of weight files.
#![allow(
    unsafe_code,
    reason = "a memory map is only as stable as the file under it"
)]

use std::fs::File;
use std::io;
use std::path::Path;

/// Maps a whole file for reading. Pages are loaded on first use and shared between processes.
///
/// The file must not change while the map lives. If a process shortens it, the next read of a lost
/// page is a bus error (`SIGBUS`); if a process writes to it, the weights change. `convert` writes
/// records under another name and renames them, so that replacing a record never touches a mapped
/// file.
///
/// # Errors
/// The file cannot be opened or mapped, or is empty (`InvalidData`).
pub fn map_file(path: &Path) -> io::Result<memmap2::Mmap> {
    let file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("`{}` is empty", path.display()),
        ));
    }
    // SAFETY: the map is read-only, and nothing in this project writes to or shortens a record or
    // checkpoint in place; the doc comment above names the hazard for others.
    unsafe { memmap2::Mmap::map(&file) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_shows_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"weights").unwrap();
        assert_eq!(&map_file(file.path()).unwrap()[..], b"weights");
    }

    #[test]
    fn an_empty_file_is_an_error_that_names_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = map_file(file.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains(&*file.path().to_string_lossy()));
    }
}
