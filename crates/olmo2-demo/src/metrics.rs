//! The run's log: one JSON object a line.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// One line: means since the line before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// Steps done.
    pub(crate) step: usize,
    /// Training loss, nats a token.
    pub(crate) loss: f64,
    /// Held-out loss, where it was measured.
    pub(crate) held_out: Option<f64>,
    pub(crate) learning_rate: f64,
    pub(crate) tokens_per_second: f64,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "loss {:.3}, {:.0} tok/s",
            self.loss, self.tokens_per_second
        )
    }
}

/// `metrics.jsonl` of a run.
#[derive(Debug)]
pub(crate) struct Metrics {
    path: PathBuf,
    file: File,
}

impl Metrics {
    /// Opens the log and drops lines beyond `step`: they come again after a resume.
    ///
    /// # Errors
    /// The file system.
    pub(crate) fn open(run: &Path, step: usize) -> Result<Self> {
        let path = run.join("metrics.jsonl");
        let kept: Vec<Line> = read(run)?
            .into_iter()
            .filter(|line| line.step <= step)
            .collect();
        let mut text = String::new();
        for line in &kept {
            text.push_str(&serde_json::to_string(line)?);
            text.push('\n');
        }
        fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
        let file = OpenOptions::new().append(true).open(&path)?;
        Ok(Self { path, file })
    }

    /// # Errors
    /// The file system.
    pub(crate) fn write(&mut self, line: &Line) -> Result<()> {
        let text = serde_json::to_string(line)? + "\n";
        self.file
            .write_all(text.as_bytes())
            .with_context(|| format!("cannot write `{}`", self.path.display()))
    }
}

/// The lines written so far; a line cut short is left out.
///
/// # Errors
/// The file system.
pub(crate) fn read(run: &Path) -> Result<Vec<Line>> {
    let path = run.join("metrics.jsonl");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}
