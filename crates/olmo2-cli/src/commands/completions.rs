//! `completions`: scripts that complete this program's arguments.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::messages::Result;

pub(super) fn run(shell: Shell) -> Result<()> {
    // Into memory first: the generator panics where stdout is closed.
    let mut script = Vec::new();
    let mut command = Cli::command();
    clap_complete::generate(shell, &mut command, "olmo2-cli", &mut script);
    let mut out = io::stdout().lock();
    out.write_all(&script)?;
    Ok(out.flush()?)
}
