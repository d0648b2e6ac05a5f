//! stub

#[cfg(feature = "hub")]
pub mod hub;
