//! Between text and ids: the tokenizer and the chat template. Host only.

pub mod chat;
pub mod tokenizer;
