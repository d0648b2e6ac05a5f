//! stub
pub mod chat;
pub mod generation_config;
pub mod sampling;
pub mod tokenizer;
