//! The progress of a conversion.

use std::ops::ControlFlow;

use super::receipt::PartReceipt;

/// A step of a conversion.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum ConvertEvent<'a> {
    /// The source is checked, and the work begins.
    Started {
        /// Bytes of all parts' tensors; `Checked` and `Written` add up to about that.
        bytes: u64,
        /// Number of parts.
        parts: usize,
    },
    /// A part of an earlier run is read again.
    Checked {
        /// Bytes since the last event.
        bytes: u64,
    },
    /// Tensors were written.
    Written {
        /// Bytes since the last event.
        bytes: u64,
    },
    /// A part of an earlier run is intact.
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

/// Receives the progress of a conversion, and may stop it.
pub trait ConvertProgress {
    /// Called at each step, and every megabyte of a part. A `Break` stops the conversion with
    /// [`RecordError::Stopped`](super::RecordError::Stopped); complete parts stay.
    fn event(&mut self, event: ConvertEvent<'_>) -> ControlFlow<()>;
}

/// Ignores the progress.
impl ConvertProgress for () {
    fn event(&mut self, _: ConvertEvent<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}
