//! `verify`: whether a record's files are still those that were written.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Result;
use olmo2::Olmo2Config;
use olmo2::hub::Progress;
use olmo2::record::{RECEIPT, Receipt, verify};

use crate::args::VerifyArgs;
use crate::download::Bars;
use crate::failure::Failure;
use crate::memory::size;
use crate::talk::Talk;
use crate::words::count;

pub(crate) fn run(args: &VerifyArgs) -> Result<()> {
    let folder = Path::new(&args.model);
    if !folder.exists() {
        return Err(Failure::new(
            format!("there is no folder `{}`", folder.display()),
            "`--model` takes the folder of a record, which `cargo xtask convert` makes",
        )
        .into());
    }
    let Some(receipt) = Receipt::read(folder)? else {
        let folder = folder.display();
        return Err(Failure::new(
            format!("`{folder}` is no record: it has no `{RECEIPT}`"),
            "only records have hashes: `cargo xtask convert` makes one of a checkpoint",
        )
        .into());
    };
    let config = Olmo2Config::from_folder(folder)?;
    let total = receipt.parts.iter().map(|part| part.size).sum();
    let mut bars = Bars::new(Talk::with_quiet(args.quiet));
    let mut done = 0;
    let verified = verify(folder, &config, |bytes| {
        done += bytes;
        bars.bytes("verifying", done, Some(total));
    })?;
    drop(bars);
    let (parts, bytes) = (count(verified.parts, "part"), size(verified.bytes));
    let beside = match verified.copied {
        0 => "; its receipt is an older one, without config and tokenizer".to_owned(),
        files => format!(", and {} beside them", count(files, "file")),
    };
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "`{}`: {parts} of {bytes} in all, each with the hash of its receipt{beside}",
        folder.display()
    )?;
    Ok(out.flush()?)
}
