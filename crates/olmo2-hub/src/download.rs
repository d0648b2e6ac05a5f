//! One file from the hub into the cache: resumed, retried, checked, then put in place.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use ring::digest::{Context, SHA256};
use ureq::Body;
use ureq::http::Response;

use super::error::io_error;
use super::http::{Client, FileMetadata, text};
use super::layout::{ModelFolder, create_parent};
use super::{HubError, HubOptions, Notice, Progress};

/// Bytes between two reports.
const CHUNK: usize = 256 << 10;

/// The download of a commit's files, one after the other.
pub(super) struct Download<'a> {
    pub(super) client: &'a Client,
    pub(super) options: &'a HubOptions,
    pub(super) folder: &'a ModelFolder,
    pub(super) id: &'a str,
    pub(super) commit: &'a str,
    pub(super) progress: &'a mut dyn Progress,
}

/// The progress of one attempt at a file.
#[derive(Default)]
struct Reached {
    /// Bytes on disk.
    bytes: u64,
    /// Whether the attempt resumed an earlier one.
    resumed: bool,
}

impl Download<'_> {
    /// Downloads `file` unless the snapshot has it. Retries after a broken connection until
    /// `retries` attempts in a row have added no byte.
    pub(super) fn file(&mut self, file: &str) -> Result<(), HubError> {
        if self.folder.snapshot(self.commit).join(file).is_file() {
            return Ok(());
        }
        let mut best = 0;
        let mut tries = 0;
        loop {
            let mut reached = Reached::default();
            let Err(error) = self.attempt(file, &mut reached) else {
                return Ok(());
            };
            if reached.bytes > best {
                best = reached.bytes;
                tries = 0;
            }
            // The part of an earlier run may have been corrupt; it is deleted now.
            let stale = reached.resumed && matches!(error, HubError::Corrupt { .. });
            if !(stale || error.is_transient()) || tries >= self.options.retries {
                return Err(error);
            }
            tries += 1;
            self.progress.notice(&Notice::Retry {
                file: file.into(),
                reason: error.to_string(),
            });
            std::thread::sleep(self.options.retry_wait * tries);
        }
    }

    fn attempt(&mut self, file: &str, reached: &mut Reached) -> Result<(), HubError> {
        let metadata = self.client.metadata(self.id, self.commit, file)?;
        let etag = metadata.etag.as_str();
        let blob = self.folder.blob(etag);
        let waiting = || self.progress.notice(&Notice::Waiting { file: file.into() });
        let _lock = self.folder.lock(etag, waiting)?;
        // The process that held the lock may have downloaded the blob.
        if !blob.is_file() {
            let part = self.folder.part(etag);
            create_parent(&part)?;
            self.fill(file, &metadata, &part, reached)?;
            fs::rename(&part, &blob).map_err(io_error("write", &blob))?;
        }
        self.folder.point(self.commit, file, etag)
    }

    /// Completes `part` and checks it.
    fn fill(
        &mut self,
        file: &str,
        metadata: &FileMetadata,
        part: &Path,
        reached: &mut Reached,
    ) -> Result<(), HubError> {
        let mut options = OpenOptions::new();
        let options = options.create(true).truncate(false).write(true);
        let mut out = options.open(part).map_err(io_error("write", part))?;
        reached.bytes = out
            .seek(SeekFrom::End(0))
            .map_err(io_error("write", part))?;
        let mut sink = Sink {
            out: &mut out,
            part,
            reached,
        };
        if metadata.size.is_some_and(|size| sink.reached.bytes > size) {
            sink.restart()?;
        }
        sink.reached.resumed = sink.reached.bytes > 0;
        if metadata.size == Some(sink.reached.bytes) {
            self.progress.bytes(file, sink.reached.bytes, metadata.size);
        } else {
            self.transfer(file, metadata.size, &mut sink)?;
        }
        out.sync_all().map_err(io_error("write", part))?;
        check(file, metadata, part)
    }

    /// Requests the bytes that `sink` lacks and appends them.
    fn transfer(
        &mut self,
        file: &str,
        size: Option<u64>,
        sink: &mut Sink<'_>,
    ) -> Result<(), HubError> {
        let from = sink.reached.bytes;
        let response = self.client.open(self.id, self.commit, file, from)?;
        let range = text(response.headers(), "content-range").and_then(content_range);
        let total = size.or(match range {
            Some((_, total)) => total,
            None => response.body().content_length(),
        });
        match response.status().as_u16() {
            206 if range.is_some_and(|(start, _)| start == Some(from)) => {}
            416 if total == Some(from) => return Ok(()),
            206 | 416 => {
                sink.restart()?;
                return Err(self.client.broken(&response, "it cannot resume"));
            }
            // The server does not support ranges: this is the whole file.
            _ => sink.restart()?,
        }
        self.copy(file, total, response, sink)
    }

    /// Appends the body and compares its size with `total`.
    fn copy(
        &mut self,
        file: &str,
        total: Option<u64>,
        mut response: Response<Body>,
        sink: &mut Sink<'_>,
    ) -> Result<(), HubError> {
        let mut buffer = vec![0; CHUNK];
        self.progress.bytes(file, sink.reached.bytes, total);
        loop {
            match response.body_mut().as_reader().read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => sink.append(&buffer[..read])?,
                Err(error) => return Err(self.client.broken_by(&response, error)),
            }
            if let Some(total) = total.filter(|&total| sink.reached.bytes > total) {
                remove(sink.part);
                return Err(corrupt(file, size_text(total), "more".into()));
            }
            self.progress.bytes(file, sink.reached.bytes, total);
        }
        if let Some(total) = total.filter(|&total| sink.reached.bytes < total) {
            let reason = format!("closed after {} of {total} bytes", sink.reached.bytes);
            return Err(self.client.broken(&response, &reason));
        }
        Ok(())
    }
}

/// The unfinished blob and its size.
struct Sink<'a> {
    out: &'a mut File,
    part: &'a Path,
    reached: &'a mut Reached,
}

impl Sink<'_> {
    /// Empties the blob.
    fn restart(&mut self) -> Result<(), HubError> {
        self.out.set_len(0).map_err(io_error("write", self.part))?;
        self.out.rewind().map_err(io_error("write", self.part))?;
        *self.reached = Reached::default();
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), HubError> {
        self.out
            .write_all(bytes)
            .map_err(io_error("write", self.part))?;
        self.reached.bytes += bytes.len() as u64;
        Ok(())
    }
}

/// Compares a complete blob with the size and hash that the hub announced, and deletes it if it
/// differs.
fn check(file: &str, metadata: &FileMetadata, part: &Path) -> Result<(), HubError> {
    let found = fs::metadata(part).map_err(io_error("read", part))?.len();
    if let Some(expected) = metadata.size.filter(|&size| size != found) {
        remove(part);
        return Err(corrupt(file, size_text(expected), size_text(found)));
    }
    let Some(expected) = &metadata.sha256 else {
        return Ok(());
    };
    let found = sha256(part)?;
    if *expected != found {
        remove(part);
        let expected = format!("SHA-256 {expected}");
        return Err(corrupt(file, expected, found));
    }
    Ok(())
}

fn corrupt(file: &str, expected: String, found: String) -> HubError {
    HubError::Corrupt {
        file: file.into(),
        expected,
        found,
    }
}

fn size_text(bytes: u64) -> String {
    format!("{bytes} bytes")
}

/// Deletes a corrupt part; if that fails, the next run finds it corrupt.
fn remove(part: &Path) {
    let _ = fs::remove_file(part);
}

/// SHA-256 of a file, in lower-case hexadecimal.
fn sha256(path: &Path) -> Result<String, HubError> {
    let mut file = File::open(path).map_err(io_error("read", path))?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 4 * CHUNK];
    loop {
        match file.read(&mut buffer).map_err(io_error("read", path))? {
            0 => break,
            read => context.update(&buffer[..read]),
        }
    }
    let digest = context.finish();
    Ok(digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// First byte and total of `bytes 5-9/10`, `bytes */10` or `bytes 5-9/*` (RFC 9110, 14.4).
fn content_range(value: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let start = range
        .split_once('-')
        .and_then(|(start, _)| start.parse().ok());
    Some((start, total.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_as_in_rfc_9110() {
        assert_eq!(content_range("bytes 5-9/10"), Some((Some(5), Some(10))));
        assert_eq!(content_range("bytes */10"), Some((None, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((Some(5), None)));
        assert_eq!(content_range("5-9/10"), None);
    }

    #[test]
    fn sha256_is_that_of_fips_180() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        fs::write(&path, "abc").unwrap();
        // FIPS 180-4's example, "abc".
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&path).unwrap(), expected);
    }
}
