//! Commands that belong to another package: `cargo xtask convert` is `olmo2-cli convert`.

use std::convert::Infallible;
use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, Result};

use crate::root::root;

/// Arguments that the other program reads, `--help` too.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct ForwardArgs {
    /// Arguments of the other program.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

/// Builds `package` and replaces this process with its program, in the same folder, so that
/// relative paths, signals and the exit code are those of the program itself.
pub(crate) fn run(package: &str, command: Option<&str>, args: &ForwardArgs) -> Result<Infallible> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = Command::new(cargo);
    cargo.args(["run", "--package", package, "--manifest-path"]);
    cargo.arg(root().join("Cargo.toml")).arg("--");
    cargo.args(command).args(&args.args);
    replace(cargo).with_context(|| format!("cannot start `cargo run --package {package}`"))
}

#[cfg(unix)]
fn replace(mut command: Command) -> std::io::Result<Infallible> {
    Err(std::os::unix::process::CommandExt::exec(&mut command))
}

#[cfg(not(unix))]
fn replace(mut command: Command) -> std::io::Result<Infallible> {
    let status = command.status()?;
    std::process::exit(status.code().unwrap_or(1))
}
