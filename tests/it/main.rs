//! All tests that cross files, in one binary.

mod cache;
mod config;
mod hub;
mod parity;
mod seams;
mod slow;
mod training;
