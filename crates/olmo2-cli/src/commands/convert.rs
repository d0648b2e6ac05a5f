//! `convert`: a checkpoint of the hub or of a folder into a record.

use std::time::{Duration, Instant};

use indicatif::HumanDuration;
use olmo2::convert::{ConvertOptions, ConvertReport, convert};
use olmo2::hub::{DEFAULT_REVISION, Files};

use crate::memory::size;
use crate::messages::{Failure, Result, WorkBar, count};
use crate::model::find;
use crate::request::{ConvertRequest, ModelRequest};

pub(super) fn run(request: &ConvertRequest) -> Result<()> {
    let started = Instant::now();
    let options = options(request)?;
    let mut bar = WorkBar::new(request.verbosity, 0);
    let report = convert(&options, &mut bar);
    drop(bar);
    let report = report?;
    for note in &report.notes {
        request.verbosity.note(note);
    }
    let done = summary(&report, request, started.elapsed());
    request.verbosity.say(done);
    Ok(())
}

/// The folder that was named, or the one in the hub's cache, downloaded if need be.
fn options(request: &ConvertRequest) -> Result<ConvertOptions> {
    let source = find(
        &ModelRequest {
            name: Some(request.source.clone()),
            revision: request.revision.clone(),
            verbosity: request.verbosity,
        },
        Files::Model,
    )?;
    let folder = source
        .folder()
        .ok_or_else(|| Failure::message("the embedded model is not converted"))?;
    let mut options = ConvertOptions::new(folder, &request.out);
    options.dtype = request.dtype;
    options.quantize = request.quantize;
    if folder.as_os_str() != request.source.as_str() {
        let revision = request.revision.as_deref().unwrap_or(DEFAULT_REVISION);
        options.label = Some(request.source.clone());
        options.revision = Some(revision.into());
    }
    Ok(options)
}

fn summary(report: &ConvertReport, request: &ConvertRequest, elapsed: Duration) -> String {
    let kept = match report.parts.kept {
        0 => String::new(),
        kept => format!(", {kept} of them from an earlier run"),
    };
    format!(
        "`{}`: {}, {}{kept}, in {}",
        request.out.display(),
        count(report.parts.written + report.parts.kept, "part"),
        size(report.parts.bytes),
        HumanDuration(elapsed),
    )
}
