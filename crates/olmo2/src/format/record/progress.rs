//! What a conversion tells its caller on the way.

use std::ops::ControlFlow;

use super::receipt::PartReceipt;

/// A step of a conversion.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum ConvertEvent<'a> {
    /// All was checked, and the work begins.
    Started {
        /// Bytes of all parts' tensors; `Checked` and `Written` add up to about that.
        bytes: u64,
        /// Number of parts.
        parts: usize,
    },
    /// A part that stands from an earlier run is read again.
    Checked {
        /// Bytes since the last event.
        bytes: u64,
    },
    /// Tensors were written.
    Written {
        /// Bytes since the last event.
        bytes: u64,
    },
    /// A part stands from an earlier run, and is intact.
    Kept {
        /// The part.
        part: &'a PartReceipt,
    },
    /// A part is complete, and the receipt lists it.
    Finished {
        /// The part.
        part: &'a PartReceipt,
    },
}

/// Listens to a conversion, and may end it.
pub trait ConvertProgress {
    /// Called at each step, every megabyte while bytes move. A `Break` ends the conversion with
    /// [`RecordError::Stopped`](super::RecordError::Stopped); what is complete stays.
    fn event(&mut self, event: ConvertEvent<'_>) -> ControlFlow<()>;
}

/// Listens to nothing.
impl ConvertProgress for () {
    fn event(&mut self, _: ConvertEvent<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}
