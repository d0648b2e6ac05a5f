//! Small files that are read whole, with a limit on their size.

use std::fs;
use std::path::Path;

use super::WeightsError;

/// Reads a file of at most `max` bytes.
pub(crate) fn read_small(path: &Path, max: u64) -> Result<Vec<u8>, WeightsError> {
    let found = fs::metadata(path).map_err(WeightsError::io(path))?.len();
    if found > max {
        let reason = format!("expected at most {max} bytes, found {found}");
        return Err(WeightsError::damaged(path, reason));
    }
    fs::read(path).map_err(WeightsError::io(path))
}
