//! Text after a prompt: parameters, prefill and decode.

mod session;

pub use session::{
    DOLMA2_TOKENS, FinishReason, GenerateError, GenerateParams, Generation, Session, Timings,
};
