//! `cargo xtask ci`: the gate, step by step, each with its time.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use xshell::{Shell, cmd};

use crate::{licences, tidy};

/// Arguments of `cargo xtask ci`.
#[derive(Debug, Args)]
pub(crate) struct CiArgs {
    /// Mend the format instead of only checking it.
    #[arg(long)]
    fix: bool,
    /// Leave out what builds burn another time: the Vulkan tests and the checks of other backends.
    #[arg(long)]
    fast: bool,
}

/// Where Debian puts the drivers' manifests.
const ICD_FOLDER: &str = "/usr/share/vulkan/icd.d";

pub(crate) fn run(args: &CiArgs) -> Result<()> {
    let sh = Shell::new()?;
    sh.change_dir(tidy::root());
    let check: &[&str] = if args.fix { &[] } else { &["--check"] };
    step("format", || {
        Ok(cmd!(sh, "cargo fmt --all -- {check...}").run()?)
    })?;
    step("house rules", || tidy::check(&sh))?;
    step("licences", || licences::check(&sh))?;
    step("lints", || {
        Ok(cmd!(sh, "cargo clippy --workspace --all-targets -- -D warnings").run()?)
    })?;
    step("docs", || {
        let _flags = sh.push_env("RUSTDOCFLAGS", "-D warnings");
        Ok(cmd!(sh, "cargo doc --workspace --no-deps").run()?)
    })?;
    step("tests", || Ok(cmd!(sh, "cargo test --workspace").run()?))?;
    if !args.fast {
        step("tests on Vulkan in software", || vulkan(&sh))?;
        step("every backend compiles", || {
            let features = "olmo2-cli/ndarray,olmo2-cli/vulkan,olmo2-cli/cuda";
            cmd!(sh, "cargo check --workspace --features {features}").run()?;
            // Without the default backend: no own kernel, nothing of the hub or the demo.
            cmd!(sh, "cargo check -p olmo2 --no-default-features").run()?;
            // A program without it: nothing of flex may be named outside its feature.
            let flags = ["--no-default-features", "--features", "ndarray"];
            Ok(cmd!(sh, "cargo check -p olmo2-cli {flags...}").run()?)
        })?;
    }
    Ok(())
}

fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("== {name}");
    let started = Instant::now();
    work().with_context(|| format!("step `{name}`"))?;
    eprintln!("== {name}: {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// The tests of the wgpu backend, on Mesa's software rasteriser.
fn vulkan(sh: &Shell) -> Result<()> {
    let driver = software_driver(sh)?;
    let _driver = sh.push_env("VK_DRIVER_FILES", driver);
    // One at a time: each tunes its kernels on both cores.
    cmd!(
        sh,
        "cargo test -p olmo2-tests --features vulkan -- wgpu:: --test-threads 1"
    )
    .run()?;
    Ok(())
}

fn software_driver(sh: &Shell) -> Result<PathBuf> {
    let manifests = sh.read_dir(ICD_FOLDER).context(
        "no Vulkan drivers: expected Debian's packages `mesa-vulkan-drivers` and `libvulkan1`",
    )?;
    let is_software = |path: &PathBuf| path.to_string_lossy().contains("lvp_icd");
    manifests
        .into_iter()
        .find(is_software)
        .context("no `lvp_icd` manifest: expected Debian's package `mesa-vulkan-drivers`")
}
