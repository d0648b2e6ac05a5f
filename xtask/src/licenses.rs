//! Licenses of every dependency, from `cargo metadata`, against those that go with MIT or
//! Apache-2.0.

use anyhow::{Result, ensure};
use serde::Deserialize;
use xshell::{Shell, cmd};

/// Licenses that may be part of the program; MPL-2.0 asks only for its own files to stay open.
const COMPATIBLE: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "NCSA",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    license: Option<String>,
}

pub(crate) fn check(sh: &Shell) -> Result<()> {
    let text = cmd!(sh, "cargo metadata --format-version 1 --locked")
        .quiet()
        .read()?;
    let metadata: Metadata = serde_json::from_str(&text)?;
    let refused: Vec<String> = metadata
        .packages
        .iter()
        .filter(|package| !package.license.as_deref().is_some_and(is_compatible))
        .map(|package| format!("{} ({:?})", package.name, package.license))
        .collect();
    ensure!(
        refused.is_empty(),
        "licenses to look at: {}",
        refused.join(", ")
    );
    Ok(())
}

/// Whether one of the alternatives of an SPDX expression is allowed as a whole. Parentheses only
/// ever group alternatives of one package's main license, so that each `AND` binds all of them.
fn is_compatible(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    expression.split(" AND ").all(|part| {
        let part = part.trim_matches(['(', ')', ' ']);
        part.split(" OR ").any(|one| {
            let one = one.split(" WITH ").next().unwrap_or(one).trim();
            COMPATIBLE.contains(&one)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::is_compatible;

    #[test]
    fn alternatives_and_conjunctions_are_read() {
        for yes in [
            "MIT",
            "MIT/Apache-2.0",
            "(MIT OR GPL-3.0) AND Unicode-3.0",
            "GPL-3.0 OR ISC",
        ] {
            assert!(is_compatible(yes), "{yes}");
        }
        for no in [
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(LGPL-3.0 OR GPL-3.0) AND MIT",
            "",
        ] {
            assert!(!is_compatible(no), "{no}");
        }
    }
}
