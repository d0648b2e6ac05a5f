//! What the program says beside its results: notes, progress, errors.

mod count;
mod failure;
pub(crate) mod panics;
mod progress;
mod verbosity;

pub(crate) use count::count;
pub(crate) use failure::{Context, Failure, NOT_FINITE, Result, plain, show_usage};
pub(crate) use progress::{Bars, WorkBar};
pub(crate) use verbosity::Verbosity;
