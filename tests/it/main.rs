//! All tests that cross files, in one binary.

mod cache;
mod chat;
mod config;
mod hub;
mod parity;
mod sampling;
mod seams;
mod slow;
mod tokenizer;
mod training;
