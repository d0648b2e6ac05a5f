//! Read-only memory maps of weight files.

use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::Mmap;

/// Maps a file read-only, so that its pages are shared with every process that maps it.
///
/// The file must not be truncated or rewritten while it is mapped: the process would read other
/// weights, or be stopped by the system. Weight files are replaced by renaming, never in place.
///
/// # Errors
/// The file cannot be opened or mapped, or is empty.
pub fn map_file(path: &Path) -> io::Result<Mmap> {
    let file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the file is empty",
        ));
    }
    // SAFETY: the map is read-only and private to this process; that nobody shortens the file
    // below it is the contract stated above, which the operating system cannot enforce for us.
    #[expect(unsafe_code, reason = "a file map cannot be made without it")]
    unsafe {
        Mmap::map(&file)
    }
}
