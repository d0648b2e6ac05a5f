//! Arrows between packages, by `cargo tree`.

use anyhow::{Result, bail};
use xshell::{Shell, cmd};

/// Packages, and what their normal dependencies (with default features) must not hold: a name, or
/// the beginning of names before a `*`.
const ARROWS: &[(&str, &[&str])] = &[
    (
        "olmo2",
        &[
            "olmo2-cli",
            "burn-wgpu",
            "burn-cuda",
            "cubecl-wgpu",
            "cubecl-cuda",
            "tokio",
            "axum",
        ],
    ),
    ("olmo2-hub", &["olmo2", "burn*"]),
    ("olmo2-kernels", &["olmo2", "burn*"]),
    ("xtask", &["olmo2", "burn*", "cubecl*"]),
];

/// Checks the workspace.
///
/// # Errors
/// All arrows that must not be, a line each; `cargo tree` fails.
pub(crate) fn check(sh: &Shell) -> Result<()> {
    let mut broken = Vec::new();
    for (package, refused) in ARROWS {
        let tree = cmd!(sh, "cargo tree -p {package} -e normal --prefix none");
        broken.extend(against(package, refused, &tree.quiet().read()?));
    }
    match broken.is_empty() {
        true => Ok(()),
        false => bail!("dependencies:\n  {}", broken.join("\n  ")),
    }
}

/// The refused names in a tree, a line for each package.
fn against(package: &str, refused: &[&str], tree: &str) -> Vec<String> {
    let names = tree.lines().filter_map(|line| line.split(' ').next());
    let is_refused = |name: &&str| {
        refused
            .iter()
            .any(|refused| match refused.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => name == refused,
            })
    };
    let mut names: Vec<&str> = names.filter(is_refused).collect();
    names.sort_unstable();
    names.dedup();
    let arrow = |name| format!("`{package}` depends on `{name}`");
    names.into_iter().map(arrow).collect()
}

#[cfg(test)]
mod tests {
    use super::against;

    #[test]
    fn names_are_refused_whole_or_by_their_beginning() {
        let tree =
            "xtask v0.1.0 (/x)\nburn-flex v0.21.0\nolmo2-kernels v0.1.0\nburn-flex v0.21.0 (*)";
        let found = against("xtask", &["olmo2", "burn*"], tree);
        assert_eq!(found, ["`xtask` depends on `burn-flex`"]);
    }
}
