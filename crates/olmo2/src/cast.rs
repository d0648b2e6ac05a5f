//! The one place where a concrete backend is met: safe casts of burn's primitives by `Any`.

use burn::prelude::*;

/// Whether backend `B` has own kernels that read weights as they are stored.
pub(crate) fn reads_in_place<B: Backend>() -> bool {
    false
}
