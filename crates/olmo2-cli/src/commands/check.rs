//! `check`: whether a record's files are still those that were written.

use std::io::{self, Write};

use olmo2::Olmo2Config;
use olmo2::record::{RECEIPT, Receipt, check};

use crate::memory::size;
use crate::messages::{Failure, Result, WorkBar, count};
use crate::request::CheckRequest;

pub(super) fn run(request: &CheckRequest) -> Result<()> {
    let folder = &request.folder;
    if !folder.exists() {
        return Err(Failure::new(
            format!("there is no folder `{}`", folder.display()),
            "`--model` takes the folder of a record, which `olmo2-cli convert` makes",
        ));
    }
    let Some(receipt) = Receipt::read(folder)? else {
        let folder = folder.display();
        return Err(Failure::new(
            format!("`{folder}` is not a record: it has no `{RECEIPT}`"),
            "only records have hashes; `olmo2-cli convert` makes one from a checkpoint",
        ));
    };
    let config = Olmo2Config::from_folder(folder)?;
    let total = receipt.parts.iter().map(|part| part.size).sum();
    let mut bar = WorkBar::new(request.verbosity, total);
    let checked = check(folder, &config, |bytes| bar.add("checking", bytes))?;
    drop(bar);
    let (parts, bytes) = (count(checked.parts, "part"), size(checked.bytes));
    let beside = match checked.copied {
        0 => "; its receipt is from an older version, without config and tokenizer".to_owned(),
        files => format!(", and so do {} beside them", count(files, "file")),
    };
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "`{}`: {parts} of {bytes} in all match the hashes of the receipt{beside}",
        folder.display()
    )?;
    Ok(out.flush()?)
}
