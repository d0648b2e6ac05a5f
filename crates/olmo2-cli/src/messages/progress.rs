//! Progress of downloads on stderr: bars where it is a terminal, notices in any case.

use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressStyle};
use olmo2::hub::{Notice, Progress};

use crate::talk::Talk;

/// One bar at a time: files come one after the other.
#[derive(Debug)]
pub(crate) struct Bars {
    talk: Talk,
    drawn: bool,
    bar: Option<(String, ProgressBar)>,
}

impl Bars {
    pub(crate) fn new(talk: Talk) -> Self {
        Self {
            talk,
            drawn: !talk.is_quiet() && stderr().is_terminal(),
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
        let talk = self.talk;
        match &self.bar {
            Some((_, bar)) => bar.suspend(|| talk.note(notice)),
            None => talk.note(notice),
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.finish();
    }
}
