//! The one place where a concrete backend is met: safe casts of burn's primitives by `Any`.
//!
//! Each function returns `None` or `false` for a backend that has no own kernel, and the caller takes
//! burn's operations. `Autodiff<Flex>` is another type than `Flex`, so training
//! does so too. A cast costs tens of nanoseconds; an extension trait would sit in every signature
//! instead, and a user could not implement it for a foreign backend.

#[cfg(feature = "flex")]
mod attend;
#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "flex")]
mod norm;
#[cfg(feature = "flex")]
pub(crate) use attend::attend;
#[cfg(feature = "flex")]
pub(crate) use flex::{int_zeros, project, project_gated, reads_in_place, zeros};
#[cfg(feature = "flex")]
pub(crate) use norm::{norm_rotate, rms_norm};

#[cfg(not(feature = "flex"))]
mod none;
#[cfg(not(feature = "flex"))]
pub(crate) use none::{
    attend, int_zeros, norm_rotate, project, project_gated, reads_in_place, rms_norm, zeros,
};
