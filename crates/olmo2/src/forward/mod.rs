//! One forward pass: what is asked for, the same as checked runs, and the state that layers share.

mod batch;
mod checks;
mod input;
mod layout;
mod mask;
mod state;

pub(crate) use batch::Batch;
pub(crate) use checks::check_ids;
pub(crate) use input::Tokens;
pub use input::{ForwardInput, ForwardOutput, InputError, LogitRows};
pub(crate) use layout::{Layout, Wanted};
pub(crate) use state::ForwardState;
