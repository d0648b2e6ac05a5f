//! stub
pub mod sampling;
