//! The output of `--json`.

use std::io::{self, Write};

use serde::Serialize;

use crate::messages::Result;

/// Writes one line of JSON to stdout.
///
/// # Errors
/// Stdout cannot be written to.
pub(super) fn print_json(value: &impl Serialize) -> Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(out.flush()?)
}
