//! Hashes the files of a record and compares with the receipt.

use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::Path;

use crate::config::Olmo2Config;
use crate::weights::WeightsError;
use crate::weights::layout::RECEIPT;

use super::receipt::{COPIED, CopiedFile, Receipt};

/// The files that [`check`] read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// Number of parts.
    pub parts: usize,
    /// Bytes of all parts together.
    pub bytes: u64,
    /// Number of other files: config, tokenizer and the like.
    pub copied: usize,
}

/// Reads a whole record and compares the BLAKE3 of each part and each copied file with the receipt.
///
/// Loading maps a record without reading it, and checks names, shapes, dtypes and sizes alone. This
/// finds damage of the content, by a failing disk or a broken copy. `on_bytes` gets the number of
/// bytes after each read.
///
/// # Errors
/// The folder holds no record, a record that cannot be loaded, or a file with another hash.
pub fn check(
    folder: &Path,
    config: &Olmo2Config,
    mut on_bytes: impl FnMut(u64),
) -> Result<Checked, WeightsError> {
    let Some(receipt) = Receipt::read(folder)? else {
        let missing = io::Error::from(io::ErrorKind::NotFound);
        return Err(WeightsError::io(&folder.join(RECEIPT))(missing));
    };
    check_copied(folder, &receipt)?;
    super::read::open(folder, config, &receipt)?;
    let mut checked = Checked {
        parts: 0,
        bytes: 0,
        copied: receipt.copied.len(),
    };
    for part in &receipt.parts {
        let path = folder.join(&part.file);
        let on_bytes = |bytes| {
            on_bytes(bytes);
            ControlFlow::Continue(())
        };
        if let ControlFlow::Continue(found) =
            hash_file(&path, on_bytes).map_err(WeightsError::io(&path))?
        {
            check_hash(&path, &part.file, &part.blake3, found)?;
        }
        checked.parts += 1;
        checked.bytes += part.size;
    }
    Ok(checked)
}

fn check_hash(path: &Path, name: &str, expected: &str, found: String) -> Result<(), WeightsError> {
    match found == expected {
        true => Ok(()),
        false => Err(WeightsError::mismatch(
            path, "BLAKE3", name, expected, found,
        )),
    }
}

/// Checks the copied files, if the receipt lists them.
fn check_copied(folder: &Path, receipt: &Receipt) -> Result<(), WeightsError> {
    let damaged = |reason| Err(WeightsError::damaged(&folder.join(RECEIPT), reason));
    if receipt.copied.is_empty() {
        return Ok(());
    }
    for CopiedFile { file, blake3 } in &receipt.copied {
        // A receipt may come from anywhere, and must not point outside the folder.
        if !COPIED.contains(&file.as_str()) {
            return damaged(format!("`{file}` is not a file that a record copies"));
        }
        let path = folder.join(file);
        check_hash(&path, file, blake3, hash(&path)?)?;
    }
    let listed = |name: &str| receipt.copied.iter().any(|copied| copied.file == name);
    match COPIED
        .iter()
        .find(|name| folder.join(name).exists() && !listed(name))
    {
        Some(name) => damaged(format!("`{name}` exists and is not listed")),
        None => Ok(()),
    }
}

/// BLAKE3 of a whole file in hexadecimal.
pub(crate) fn hash(path: &Path) -> Result<String, WeightsError> {
    let found = hash_file(path, |_| ControlFlow::Continue(()));
    match found.map_err(WeightsError::io(path))? {
        ControlFlow::Continue(hash) => Ok(hash),
        ControlFlow::Break(()) => unreachable!("the closure never breaks"),
    }
}

/// BLAKE3 of a file in hexadecimal, unless `on_bytes` breaks.
pub(super) fn hash_file(
    path: &Path,
    mut on_bytes: impl FnMut(u64) -> ControlFlow<()>,
) -> io::Result<ControlFlow<(), String>> {
    let mut file = File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => {
                return Ok(ControlFlow::Continue(
                    hasher.finalize().to_hex().to_string(),
                ));
            }
            read => {
                hasher.update(&buffer[..read]);
                if on_bytes(read as u64).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
    }
}
