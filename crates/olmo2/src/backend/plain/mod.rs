//! The model's operations in burn's own, for every backend.

pub(crate) mod attention;
