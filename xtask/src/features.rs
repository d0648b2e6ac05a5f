//! Every set of features that README's table of backends names compiles without a warning.

use anyhow::Result;
use xshell::{Shell, cmd};

/// Features of `olmo2-cli`, each checked alone.
const ALONE: &[&str] = &["flex", "ndarray", "vulkan", "wgpu", "metal", "cuda"];
/// Those that README's commands add to the default features.
const BESIDE_DEFAULTS: &[&str] = &["vulkan", "wgpu", "metal", "cuda"];

/// Checks the workspace. Clippy denies the warnings of the workspace's own packages: unlike
/// `RUSTFLAGS`, it takes dependencies as `cargo check` has built them.
///
/// # Errors
/// A warning or an error of the compiler.
pub(crate) fn check(sh: &Shell) -> Result<()> {
    for feature in ALONE {
        let features = ["--no-default-features", "--features", feature];
        cmd!(sh, "cargo clippy -p olmo2-cli {features...} -- -D warnings").run()?;
    }
    for feature in BESIDE_DEFAULTS {
        let features = ["--features", feature];
        cmd!(sh, "cargo clippy -p olmo2-cli {features...} -- -D warnings").run()?;
    }
    // The library alone: no own kernel, nothing of the hub or the demo.
    cmd!(
        sh,
        "cargo clippy -p olmo2 --no-default-features -- -D warnings"
    )
    .run()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::root;

    /// The names in backquotes in the first column of the table whose head begins with `feature`.
    fn readme_features(text: &str) -> Vec<&str> {
        let rows = text
            .lines()
            .skip_while(|line| !line.starts_with("| feature"));
        let rows = rows.skip(2).take_while(|line| line.starts_with('|'));
        let names = rows.filter_map(|row| row.split('|').nth(1));
        names
            .flat_map(|cell| cell.split('`').skip(1).step_by(2))
            .collect()
    }

    #[test]
    fn features_of_the_readme_are_checked() {
        let text = std::fs::read_to_string(root().join("README.md")).expect("a README");
        let mut named = readme_features(&text);
        named.sort_unstable();
        let mut checked = ALONE.to_vec();
        checked.sort_unstable();
        assert_eq!(named, checked);
        assert!(
            BESIDE_DEFAULTS
                .iter()
                .all(|feature| ALONE.contains(feature))
        );
    }
}
