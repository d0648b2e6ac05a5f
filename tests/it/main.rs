//! All tests that cross files, in one binary.

mod cache;
mod chat;
mod hub;
mod parity;
mod sampling;
mod slow;
mod tokenizer;
