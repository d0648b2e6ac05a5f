//! All tests that cross files, in one binary.

mod cache;
mod hub;
mod parity;
mod slow;
