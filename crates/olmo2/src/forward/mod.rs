//! One forward pass: what is asked for, the same checked, and the state that layers share.

pub(crate) mod batch;
mod input;
pub(crate) mod mask;
pub(crate) mod state;

pub(crate) use input::Tokens;
pub use input::{ForwardInput, ForwardOutput, InputError, LogitRows};
