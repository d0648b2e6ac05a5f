//! What a user can do about an error.

use std::error::Error;

/// An error that may know what to do about it.
///
/// An error that wraps another one names it as [`inner`](Self::inner) and has that one's hint; a
/// program with hints of its own walks along `inner` and looks for the errors that it knows.
pub trait Hint: Error {
    /// One sentence on what to do about it.
    fn hint(&self) -> Option<String> {
        self.inner()?.hint()
    }

    /// The error that this one passes on.
    fn inner(&self) -> Option<&(dyn Hint + 'static)> {
        None
    }
}

impl Hint for std::io::Error {}

#[cfg(feature = "hub")]
impl Hint for olmo2_hub::HubError {
    fn hint(&self) -> Option<String> {
        Self::hint(self)
    }
}
