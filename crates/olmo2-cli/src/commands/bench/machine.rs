//! The memory bandwidth for the bytes that a token reads, measured right after a token: on a shared
//! machine both change within seconds.

use std::time::Instant;

use bytes::Bytes;
use olmo2_kernels::limits::{ReadPattern, read_all};

use super::limits::Read;

/// Reads of each pattern before one is chosen.
const TRIALS: usize = 3;

/// The memory that a token reads, and the fastest order of reading it.
pub(super) struct Machine {
    memory: Vec<Bytes>,
    pattern: ReadPattern,
}

impl Machine {
    /// Reads all of `memory` a few times.
    pub(super) fn new(memory: Vec<Bytes>) -> Self {
        let mut machine = Self {
            memory,
            pattern: ReadPattern::Front,
        };
        // Pages that were never read come from the file.
        machine.read();
        let mut fastest = f64::INFINITY;
        let mut chosen = machine.pattern;
        for pattern in ReadPattern::ALL {
            machine.pattern = pattern;
            let trials = (0..TRIALS).map(|_| machine.read().seconds);
            let seconds = trials.fold(f64::INFINITY, f64::min);
            if seconds < fastest {
                (fastest, chosen) = (seconds, pattern);
            }
        }
        machine.pattern = chosen;
        machine
    }

    /// Reads the weights that a token reads.
    pub(super) fn read(&self) -> Read {
        let slices: Vec<&[u8]> = self.memory.iter().map(Bytes::as_ref).collect();
        let started = Instant::now();
        read_all(&slices, self.pattern);
        Read {
            seconds: started.elapsed().as_secs_f64(),
            bytes: slices.iter().map(|bytes| bytes.len() as u64).sum(),
        }
    }
}
