//! Text after a prompt: parameters, prefill and decode, and ids turned into text.

mod error;
mod params;
mod prefill;
mod session;
mod text;
mod timings;

pub use error::{GenerateError, PositionLimit};
pub use params::{DEFAULT_NEW_TOKENS, DOLMA2_TOKENS, GenerateParams};
pub use prefill::{Chunks, chunk_len, prefill};
pub use session::{FinishReason, Generation, Session};
pub use text::TextStream;
pub use timings::Timings;
