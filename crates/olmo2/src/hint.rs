//! What a user can do about an error.

use std::error::Error;

/// An error that may know what to do about it.
///
/// An error that wraps another one answers with that one's hint where it has none of its own.
pub trait Hint: Error {
    /// One sentence on what to do about it.
    fn hint(&self) -> Option<String>;
}

#[cfg(feature = "hub")]
impl Hint for olmo2_hub::HubError {
    fn hint(&self) -> Option<String> {
        Self::hint(self)
    }
}
