//! All tests that cross files, in one binary.

mod cache;
mod cache_dtype;
mod changing;
mod chat;
mod checkpoint;
mod config;
mod config_layers;
mod convert;
mod corrupt;
mod dice;
mod hub;
mod kill;
mod mutate;
mod packed;
mod parity;
mod quantize;
mod record;
mod runs;
mod sampling;
mod seams;
mod session;
mod sliding;
mod slow;
mod tokenizer;
mod training;
mod wild;
