//! All tests that cross files, in one binary.

mod cache;
