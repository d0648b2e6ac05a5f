//! Whether a model fits into memory, checked before it is loaded.

use std::fmt;

use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use crate::messages::{Failure, Result};

/// Bytes that a run needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Needed {
    pub(crate) weights: u64,
    pub(crate) cache: u64,
}

impl Needed {
    fn total(self) -> u64 {
        self.weights.saturating_add(self.cache)
    }

    /// # Errors
    /// More than is available; `hint` says what a user can do.
    pub(crate) fn check(self, hint: &str) -> Result<()> {
        self.check_against(available(), hint)
    }

    fn check_against(self, available: Option<u64>, hint: &str) -> Result<()> {
        match available {
            Some(available) if self.total() > available => Err(Failure::new(
                format!("{self}, and {} are available", size(available)),
                hint,
            )),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Needed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the model needs {} of memory: {} for weights, {} for the cache",
            size(self.total()),
            size(self.weights),
            size(self.cache)
        )
    }
}

/// Bytes that this process may still take; `None` where the system does not report them.
fn available() -> Option<u64> {
    let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(memory);
    let of_machine = Some(system.available_memory()).filter(|bytes| *bytes > 0);
    // A container has a limit of its own. Its file cache counts as used there but can be dropped:
    // only anonymous memory is subtracted from the limit.
    let of_group = system
        .cgroup_limits()
        .map(|group| group.total_memory.saturating_sub(group.rss));
    of_group.into_iter().chain(of_machine).min()
}

/// Bytes for people, in the units of `du -h --si`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    match unit {
        "B" => format!("{bytes} B"),
        _ if value < 9.95 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_is_available_is_refused_with_the_numbers() {
        let needed = Needed {
            weights: 64_500_000_000,
            cache: 2_100_000_000,
        };
        let error = needed
            .check_against(Some(16_000_000_000), "a hint")
            .expect_err("too much");
        assert_eq!(
            error.to_string(),
            "the model needs 67 GB of memory: 64 GB for weights, 2.1 GB for the cache, \
             and 16 GB are available"
        );
        assert!(needed.check_against(Some(66_600_000_000), "a hint").is_ok());
        assert!(needed.check_against(None, "a hint").is_ok());
    }

    #[test]
    fn sizes_have_two_digits_or_three() {
        let sizes = [
            0,
            999,
            1000,
            9_949,
            99_949,
            999_499,
            999_500,
            64_400_000_000,
        ];
        let expected = [
            "0 B", "999 B", "1.0 kB", "9.9 kB", "100 kB", "999 kB", "1.0 MB", "64 GB",
        ];
        assert_eq!(sizes.map(size), expected);
    }
}
