//! Progress on stderr: bars where it is a terminal, notices in any case.

use std::io::{IsTerminal, stderr};
use std::ops::ControlFlow;

use indicatif::{ProgressBar, ProgressStyle};
use olmo2::hub::{Notice, Progress};
use olmo2::record::{ConvertEvent, ConvertProgress};

use super::verbosity::Verbosity;

/// Bars of files that come one after the other.
#[derive(Debug)]
pub(crate) struct Bars {
    verbosity: Verbosity,
    drawn: bool,
    bar: Option<(String, ProgressBar)>,
}

impl Bars {
    pub(crate) fn new(verbosity: Verbosity) -> Self {
        Self {
            verbosity,
            drawn: !verbosity.is_quiet() && stderr().is_terminal(),
            bar: None,
        }
    }

    /// The bar of `file`; that of the file before is done.
    fn bar(&mut self, file: &str, total: Option<u64>) -> &ProgressBar {
        if self.bar.as_ref().is_none_or(|(name, _)| name != file) {
            self.finish();
            let bar = match total {
                Some(total) => ProgressBar::new(total).with_style(style(
                    "{msg:30!} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
                )),
                None => {
                    ProgressBar::no_length().with_style(style("{msg:30!} {bytes} {bytes_per_sec}"))
                }
            };
            bar.set_message(file.to_owned());
            self.bar = Some((file.to_owned(), bar));
        }
        // Set just above where it was missing.
        let (_, bar) = self
            .bar
            .get_or_insert_with(|| (String::new(), ProgressBar::hidden()));
        bar
    }

    fn finish(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Progress for Bars {
    fn bytes(&mut self, file: &str, done: u64, total: Option<u64>) {
        if !self.drawn {
            return;
        }
        self.bar(file, total).set_position(done);
        if Some(done) == total {
            self.finish();
        }
    }

    fn notice(&mut self, notice: &Notice) {
        let verbosity = self.verbosity;
        match &self.bar {
            Some((_, bar)) => bar.suspend(|| verbosity.note(notice)),
            None => verbosity.note(notice),
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.finish();
    }
}

/// The one bar of a work whose bytes are known beforehand.
#[derive(Debug)]
pub(crate) struct WorkBar {
    bars: Bars,
    done: u64,
    total: u64,
}

impl WorkBar {
    pub(crate) fn new(verbosity: Verbosity, total: u64) -> Self {
        Self {
            bars: Bars::new(verbosity),
            done: 0,
            total,
        }
    }

    /// `bytes` more are done.
    pub(crate) fn add(&mut self, what: &str, bytes: u64) {
        self.done += bytes;
        self.bars.bytes(what, self.done, Some(self.total));
    }
}

impl ConvertProgress for WorkBar {
    fn event(&mut self, event: ConvertEvent<'_>) -> ControlFlow<()> {
        match event {
            ConvertEvent::Started { bytes, .. } => self.total = bytes,
            ConvertEvent::Checked { bytes } => self.add("checking", bytes),
            ConvertEvent::Written { bytes } => self.add("writing", bytes),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
