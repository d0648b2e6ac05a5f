//! The one place where a concrete backend is met: safe casts of burn's primitives by `Any`.
//!
//! Each function returns `None` or `false` for a backend that has no own kernel, and the caller takes
//! burn's operations. `Autodiff<Flex>` is another type than `Flex`, so training
//! does so too. A cast costs tens of nanoseconds; an extension trait would sit in every signature
//! instead, and a user could not implement it for a foreign backend.

#[cfg(feature = "flex")]
mod flex;
pub(crate) mod plain;
#[cfg(feature = "flex")]
pub(crate) use flex::{
    attend, int_zeros, norm_rotate, project, project_gated, reads_in_place, rms_norm, zeros,
};

#[cfg(not(feature = "flex"))]
mod none;
#[cfg(not(feature = "flex"))]
pub(crate) use none::{
    attend, int_zeros, norm_rotate, project, project_gated, reads_in_place, rms_norm, zeros,
};
