//! `cargo xtask tidy`: house rules that need no build. Sizes and heads of files, the floors of the
//! library, and that no file is part of a circle of uses.
//!
//! A circle's nodes are files. An edge is a `use` or a path to an item, drawn to the file that
//! defines the item: re-exports are followed. Edges between a file and a parent above it do not
//! count, nor does `cfg(test)` code. Calls of methods are no edges.

mod files;
mod floors;
mod graph;
mod modules;
mod resolve;
mod syntax;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use xshell::{Shell, cmd};

use crate::root::root;

/// A file of the repository.
#[derive(Debug)]
struct Source {
    /// Below the workspace's folder.
    path: String,
    bytes: u64,
    /// Empty unless it is Rust.
    text: String,
}

/// A rule that a line breaks.
#[derive(Debug, PartialEq, Eq)]
struct Violation {
    path: String,
    line: usize,
    rule: String,
}

impl Violation {
    fn new(path: &str, line: usize, rule: String) -> Self {
        let path = path.to_owned();
        Self { path, line, rule }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.rule)
    }
}

/// Checks the workspace.
///
/// # Errors
/// All violations, a line each; a file that cannot be read.
pub(crate) fn run() -> Result<()> {
    let sh = Shell::new()?;
    sh.change_dir(root());
    let listed = cmd!(sh, "git ls-files --cached --others --exclude-standard");
    let listed = listed.quiet().read()?;
    let paths = listed.lines().filter(|path| root().join(path).is_file());
    let sources = paths.map(|path| Source::read(&root(), path));
    let broken = check(&sources.collect::<Result<Vec<_>>>()?);
    if broken.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = broken.iter().map(ToString::to_string).collect();
    bail!(
        "{} house rules are broken:\n  {}",
        lines.len(),
        lines.join("\n  ")
    )
}

impl Source {
    fn read(root: &Path, path: &str) -> Result<Self> {
        let file = root.join(path);
        let context = || format!("cannot read `{path}`");
        let text = match path.ends_with(".rs") {
            true => std::fs::read_to_string(&file).with_context(context)?,
            false => String::new(),
        };
        let bytes = std::fs::metadata(&file).with_context(context)?.len();
        let path = path.to_owned();
        Ok(Self { path, bytes, text })
    }

    #[cfg(test)]
    fn new(path: &str, text: &str) -> Self {
        let (path, text) = (path.to_owned(), text.to_owned());
        let bytes = text.len() as u64;
        Self { path, bytes, text }
    }
}

/// Every broken rule of all files.
fn check(sources: &[Source]) -> Vec<Violation> {
    let mut broken: Vec<Violation> = sources.iter().flat_map(files::check).collect();
    let (files, unparsed) = modules::parse(sources);
    broken.extend(unparsed);
    for of in &modules::crates(&files) {
        let edges = graph::edges(of);
        broken.extend(floors::unlisted(of));
        broken.extend(floors::foreign(of));
        broken.extend(floors::upward(&edges));
        broken.extend(graph::circles(&edges));
    }
    broken
}
