//! Ctrl-C: ends the answer while one is generated, else the program.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::messages::{Context, Result, plain};

const IDLE: u8 = 0;
const ANSWERING: u8 = 1;
const INTERRUPTED: u8 = 2;

/// As a shell reports a program that Ctrl-C ended.
const EXIT_CODE: i32 = 130;

/// The state that the handler of Ctrl-C shares.
#[derive(Debug)]
pub(super) struct Interrupt(Arc<AtomicU8>);

impl Interrupt {
    /// # Errors
    /// The system takes no handler.
    pub(super) fn install() -> Result<Self> {
        let state = Arc::new(AtomicU8::new(IDLE));
        let theirs = Arc::clone(&state);
        ctrlc::set_handler(move || {
            let (from, to) = (ANSWERING, INTERRUPTED);
            // A second Ctrl-C ends the program, even before the answer's next token.
            if theirs
                .compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
            {
                std::process::exit(EXIT_CODE);
            }
        })
        .map_err(plain)
        .context("cannot catch Ctrl-C")?;
        Ok(Self(state))
    }

    /// From here until the guard is dropped Ctrl-C ends an answer.
    pub(super) fn answering(&self) -> Answering {
        self.0.store(ANSWERING, Ordering::Relaxed);
        Answering(Arc::clone(&self.0))
    }
}

/// While an answer is generated.
#[derive(Debug)]
pub(super) struct Answering(Arc<AtomicU8>);

impl Answering {
    pub(super) fn is_interrupted(&self) -> bool {
        self.0.load(Ordering::Relaxed) == INTERRUPTED
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.store(IDLE, Ordering::Relaxed);
    }
}
