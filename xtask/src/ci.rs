//! `cargo xtask ci`: the gate, step by step, each with its time.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use xshell::{Shell, cmd};

use crate::root::root;
use crate::{arrows, features, licenses, tidy};

/// Arguments of `cargo xtask ci`.
#[derive(Debug, Args)]
pub(crate) struct CiArgs {
    /// Mend the format instead of only checking it.
    #[arg(long)]
    fix: bool,
    /// Leave out AddressSanitizer, the Vulkan tests and the checks of other features.
    #[arg(long)]
    fast: bool,
}

/// Where Debian puts the drivers' manifests.
const ICD_FOLDER: &str = "/usr/share/vulkan/icd.d";

pub(crate) fn run(args: &CiArgs) -> Result<()> {
    let sh = Shell::new()?;
    sh.change_dir(root());
    let check: &[&str] = if args.fix { &[] } else { &["--check"] };
    // First what needs no build, and fails within seconds.
    step("format", || {
        Ok(cmd!(sh, "cargo fmt --all -- {check...}").run()?)
    })?;
    step("house rules", tidy::run)?;
    step("licenses", || licenses::check(&sh))?;
    step("arrows between packages", || arrows::check(&sh))?;
    step("lints", || {
        Ok(cmd!(sh, "cargo clippy --workspace --all-targets -- -D warnings").run()?)
    })?;
    step("docs", || {
        let _flags = sh.push_env("RUSTDOCFLAGS", "-D warnings");
        Ok(cmd!(sh, "cargo doc --workspace --no-deps").run()?)
    })?;
    step("tests", || Ok(cmd!(sh, "cargo test --workspace").run()?))?;
    step("lower SIMD levels", || lower_levels(&sh))?;
    if !args.fast {
        step("kernels under AddressSanitizer", || sanitized(&sh))?;
        step("tests on Vulkan in software", || vulkan(&sh))?;
        step("every feature compiles", || features::check(&sh))?;
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

/// The model's tests on flex, whose kernels the CPU's own level has just run, as on lesser CPUs.
fn lower_levels(sh: &Shell) -> Result<()> {
    // On a CPU with AMX that is a level of its own, and `avx512` a lesser one.
    let has_amx =
        std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains("amx_bf16"));
    let levels = has_amx
        .then_some("avx512")
        .into_iter()
        .chain(["avx2", "scalar"]);
    for level in levels {
        if cfg!(target_arch = "x86_64") || level == "scalar" {
            let _level = sh.push_env("OLMO2_SIMD", level);
            cmd!(sh, "cargo test -p olmo2-tests -- flex::").run()?;
        }
    }
    Ok(())
}

/// The tests of the only crate with `unsafe`, with every access to memory checked. The sanitizer is
/// an unstable flag of a stable compiler, and wants its target named.
fn sanitized(sh: &Shell) -> Result<()> {
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        eprintln!("left out: only tried on x86-64 Linux");
        return Ok(());
    }
    let _unstable = sh.push_env("RUSTC_BOOTSTRAP", "1");
    // Users' own profiles have these checks, whatever this workspace's say.
    let flags = "-Zsanitizer=address -Coverflow-checks=on -Cdebug-assertions=on";
    let _flags = sh.push_env("RUSTFLAGS", flags);
    let target = [
        "--target",
        "x86_64-unknown-linux-gnu",
        "--target-dir",
        "target/asan",
    ];
    Ok(cmd!(sh, "cargo test -p olmo2-kernels --lib {target...}").run()?)
}

/// The tests of the wgpu backend, on Mesa's software rasterizer.
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
