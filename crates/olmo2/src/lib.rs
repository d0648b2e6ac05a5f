//! stub
pub mod sampling;
pub mod tokenizer;
