//! Whether a model fits into memory, asked before it is loaded.

use std::fmt;

use anyhow::Result;
use burn::tensor::DType;
use olmo2::{CacheDtype, Olmo2Config};
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use crate::failure::Failure;

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
    /// More than is available.
    pub(crate) fn check(self) -> Result<()> {
        self.check_against(available())
    }

    fn check_against(self, available: Option<u64>) -> Result<()> {
        match available {
            Some(available) if self.total() > available => Err(Failure::new(
                format!("{self}, and {} are available", size(available)),
                "lower `--context`, close other programs, or choose a smaller model",
            )
            .into()),
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

/// The sequences that a command will hold at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sequences {
    pub(crate) count: usize,
    /// The longest of them; `None` where it may grow to all that there is room for.
    pub(crate) longest: Option<usize>,
}

impl Sequences {
    /// One of `longest` tokens.
    pub(crate) fn one(longest: usize) -> Self {
        Self {
            count: 1,
            longest: Some(longest),
        }
    }
}

/// Bytes that the cache of these sequences takes at most, where a sequence has room for `positions`:
/// [`CacheOptions::capacity`](olmo2::CacheOptions::capacity) rounded up, which flex does not do.
pub(crate) fn cache_bytes(
    config: &Olmo2Config,
    sequences: Sequences,
    positions: usize,
    activations: DType,
    dtype: CacheDtype,
) -> u64 {
    let head = dtype.head_bytes(config.head_dim, activations);
    let position = 2 * config.num_hidden_layers * config.num_key_value_heads * head;
    let longest = sequences.longest.unwrap_or(positions).min(positions);
    let most = positions.next_multiple_of(256);
    let allocated = longest.next_power_of_two().clamp(256, most) as u64;
    (allocated * sequences.count as u64).saturating_mul(position as u64)
}

/// Bytes that this process may still take; `None` where the system does not tell.
fn available() -> Option<u64> {
    let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(memory);
    let of_machine = Some(system.available_memory()).filter(|bytes| *bytes > 0);
    // In a container the machine's memory is not what there is. Its file cache counts as used
    // there, but gives way: only anonymous memory is taken from the limit.
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
            .check_against(Some(16_000_000_000))
            .expect_err("too much");
        assert_eq!(
            error.to_string(),
            "the model needs 67 GB of memory: 64 GB for weights, 2.1 GB for the cache, \
             and 16 GB are available"
        );
        assert!(needed.check_against(Some(66_600_000_000)).is_ok());
        assert!(needed.check_against(None).is_ok());
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

    #[test]
    fn a_cache_is_counted_as_it_is_allocated() {
        // OLMo 2 1B: 2 x 16 layers x 2048 x 4096 positions x 4 bytes.
        let config = Olmo2Config::from_json(
            r#"{"model_type": "olmo2", "hidden_size": 2048, "num_hidden_layers": 16,
                "num_attention_heads": 16, "max_position_embeddings": 4096}"#,
        )
        .expect("valid");
        let bytes_of = |count, longest, positions, dtype| {
            let sequences = Sequences { count, longest };
            cache_bytes(&config, sequences, positions, DType::F32, dtype)
        };
        let bytes = |count, longest, dtype| bytes_of(count, longest, 4096, dtype);
        let f32 = CacheDtype::F32;
        assert_eq!(bytes(1, None, f32), 1 << 30);
        assert_eq!(bytes(8, Some(1000), f32), 2 << 30);
        assert_eq!(
            bytes(1, Some(1_000_000), f32),
            1 << 30,
            "the model has no more"
        );
        assert_eq!(bytes(1, None, CacheDtype::Bf16), 1 << 29);
        assert_eq!(bytes(1, Some(8), f32), 1 << 26, "256 positions at least");
        assert_eq!(bytes_of(1, None, 300, f32), 1 << 27, "at most 512 of them");
        // 8.5 bits an element.
        assert_eq!(bytes(1, None, CacheDtype::Q8), 17 << 24);
    }
}
