//! Runs of a benchmark, as shares of the limits measured between them.

use olmo2_kernels::limits::Peaks;
use serde::Serialize;

use crate::messages::Result;

/// One run of prefill or of decoding.
#[derive(Debug)]
pub(super) struct Run {
    /// Of the model's work, without the measurement of limits.
    pub(super) seconds: f64,
    /// The decoded steps, none in prefill.
    pub(super) steps: Vec<Step>,
    /// Measured after the run.
    pub(super) peaks: Option<Peaks>,
}

/// One decoded token of each sequence.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) seconds: f64,
    /// Of weights; with `--depth` also of keys and values.
    pub(super) bytes: u64,
    /// The read of the same weights after the step.
    pub(super) read: Option<Read>,
}

/// A read of memory that did nothing else.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read {
    pub(super) seconds: f64,
    pub(super) bytes: u64,
}

impl Step {
    /// The bytes per second of the step, over those of the read alone.
    fn share_of_read(&self) -> Option<f64> {
        let read = self.read?;
        Some(self.bytes as f64 / self.seconds / (read.bytes as f64 / read.seconds))
    }
}

/// Operations by the type that they are done in; a multiply-add counts as two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) f32: u64,
    /// Done in f32 where the CPU does not multiply bf16.
    pub(super) bf16: u64,
    pub(super) int8: u64,
}

impl Work {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            f32: self.f32 + other.f32,
            bf16: self.bf16 + other.bf16,
            int8: self.int8 + other.int8,
        }
    }

    pub(super) fn times(self, count: usize) -> Self {
        let count = count as u64;
        Self {
            f32: self.f32 * count,
            bf16: self.bf16 * count,
            int8: self.int8 * count,
        }
    }

    /// The least time that the work takes at the peaks.
    fn seconds(self, peaks: Peaks) -> f64 {
        let bf16 = peaks.bf16.unwrap_or(peaks.f32);
        let Self {
            f32,
            bf16: pairs,
            int8,
        } = self;
        (f32 as f64 / peaks.f32 + pairs as f64 / bf16 + int8 as f64 / peaks.int8) / 1e9
    }

    /// The type of most operations.
    fn product_type(self, peaks: Peaks) -> &'static str {
        match peaks.bf16 {
            _ if self.int8 > self.bf16.max(self.f32) => "int8",
            Some(_) if self.bf16 > self.f32 => "bf16",
            _ => "f32",
        }
    }
}

/// The work of each kind of run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Works {
    /// The matrices of the layers, for one token: decides the type of the peak.
    pub(super) token: Work,
    /// The matrices of the layers, for all tokens.
    pub(super) prefill: Work,
    /// The matrices of the layers and the head, for all tokens; `None` for a single sequence,
    /// which is bound by memory.
    pub(super) decode: Option<Work>,
}

/// The machine's limits and the shares of them that were reached: medians, `None` without own
/// kernels or runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Limits {
    /// 10^9 bytes.
    pub(super) read_gigabytes_per_second: Option<f64>,
    pub(super) decode_share_of_read: Option<f64>,
    /// 10^9 operations a second, with all threads.
    pub(super) peak_f32_gops: Option<f64>,
    pub(super) peak_bf16_gops: Option<f64>,
    /// In tiles of AMX, which prefills of more than 16 tokens take.
    pub(super) peak_bf16_tiles_gops: Option<f64>,
    pub(super) peak_int8_gops: Option<f64>,
    /// In tiles of AMX of blocks of 32, which more than 8 tokens or sequences at a time take.
    pub(super) peak_int8_tiles_gops: Option<f64>,
    /// The type of the peak: that of most operations in the layers.
    pub(super) product_type: Option<&'static str>,
    pub(super) prefill_share_of_peak: Option<f64>,
    pub(super) decode_share_of_peak: Option<f64>,
}

impl Limits {
    pub(super) fn of(prefill: &[Run], decode: &[Run], works: Works) -> Self {
        let steps = || decode.iter().flat_map(|run| &run.steps);
        let reads = steps().filter_map(|step| step.read);
        let peaks: Vec<Peaks> = prefill
            .iter()
            .chain(decode)
            .filter_map(|run| run.peaks)
            .collect();
        let peak = |of: fn(&Peaks) -> Option<f64>| median(peaks.iter().filter_map(of));
        let share = |runs: &[Run], work: Work, of: fn(Peaks) -> Peaks| {
            let share = |run: &Run| Some(work.seconds(of(run.peaks?)) / run.seconds);
            median(runs.iter().filter_map(share))
        };
        Self {
            read_gigabytes_per_second: median(
                reads.map(|read| read.bytes as f64 / read.seconds / 1e9),
            ),
            decode_share_of_read: median(steps().filter_map(Step::share_of_read)),
            peak_f32_gops: peak(|peaks| Some(peaks.f32)),
            peak_bf16_gops: peak(|peaks| peaks.bf16),
            peak_bf16_tiles_gops: peak(|peaks| peaks.bf16_tiles),
            peak_int8_gops: peak(|peaks| Some(peaks.int8)),
            peak_int8_tiles_gops: peak(|peaks| peaks.int8_tiles),
            product_type: peaks.first().map(|peaks| works.token.product_type(*peaks)),
            prefill_share_of_peak: share(prefill, works.prefill, Peaks::of_prefill),
            decode_share_of_peak: works
                .decode
                .and_then(|work| share(decode, work, |peaks| peaks)),
        }
    }
}

/// The counted runs, after one warm-up run.
pub(super) fn measure(repetitions: u16, mut work: impl FnMut() -> Result<Run>) -> Result<Vec<Run>> {
    work()?;
    (0..repetitions).map(|_| work()).collect()
}

/// The middle value, or the mean of the two in the middle.
pub(super) fn median(samples: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut sorted = Vec::from_iter(samples);
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        len if len % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEAKS: Peaks = Peaks {
        f32: 100.0,
        bf16: Some(200.0),
        bf16_tiles: None,
        int8: 400.0,
        int8_tiles: None,
    };

    fn work(f32: u64, bf16: u64, int8: u64) -> Work {
        Work { f32, bf16, int8 }
    }

    /// A step of 3 GB, and a read of 2 GB.
    fn step(seconds: f64, read: f64) -> Step {
        Step {
            seconds,
            bytes: 3_000_000_000,
            read: Some(Read {
                seconds: read,
                bytes: 2_000_000_000,
            }),
        }
    }

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0, 1.0, 9.0]), Some(3.0));
        assert_eq!(median([4.0, 1.0, 9.0, 2.0]), Some(3.0));
    }

    #[test]
    fn each_step_is_held_against_the_read_that_followed_it() {
        // 1.5 GB/s beside 2, 3 beside 6 and 6 beside 10: 0.75, 0.5, 0.6.
        let steps = vec![step(2.0, 1.0), step(1.0, 1.0 / 3.0), step(0.5, 0.2)];
        let run = Run {
            seconds: 3.5,
            steps,
            peaks: None,
        };
        let works = Works {
            token: work(1, 0, 0),
            prefill: work(1, 0, 0),
            decode: None,
        };
        let limits = Limits::of(&[], &[run], works);
        let near = |x: Option<f64>, y: f64| (x.expect("a figure") - y).abs() < 1e-9;
        assert!(near(limits.decode_share_of_read, 0.6), "{limits:?}");
        assert!(near(limits.read_gigabytes_per_second, 6.0), "{limits:?}");
        assert_eq!(limits.peak_f32_gops, None);
        assert_eq!(limits.prefill_share_of_peak, None);
    }

    #[test]
    fn each_type_of_product_is_held_against_its_own_peak() {
        // A tenth, a twentieth and a fortieth of a second.
        let all = work(10_000_000_000, 10_000_000_000, 10_000_000_000);
        let run = |seconds| Run {
            seconds,
            steps: Vec::new(),
            peaks: Some(PEAKS),
        };
        let works = Works {
            token: all,
            prefill: all,
            decode: Some(work(0, 0, 40_000_000_000)),
        };
        let limits = Limits::of(&[run(0.35)], &[run(0.2)], works);
        let share = limits.prefill_share_of_peak.expect("a figure");
        assert!((share - 0.5).abs() < 1e-9, "{share}");
        let share = limits.decode_share_of_peak.expect("a figure");
        assert!((share - 0.5).abs() < 1e-9, "{share}");
        assert_eq!(limits.peak_bf16_gops, Some(200.0));
        // Prefill is compared with the peak of tiles where the CPU has them.
        let mut tiled = run(0.325);
        tiled.peaks = Some(Peaks {
            bf16_tiles: Some(400.0),
            ..PEAKS
        });
        let share = Limits::of(&[tiled], &[], works).prefill_share_of_peak;
        assert!(
            (share.expect("a figure") - 0.15 / 0.325).abs() < 1e-9,
            "{share:?}"
        );
        // Without the instruction the peak is that of f32.
        let without = Peaks {
            bf16: None,
            ..PEAKS
        };
        let seconds = work(0, 10_000_000_000, 0).seconds(without);
        assert!((seconds - 0.1).abs() < 1e-9, "{seconds}");
    }

    #[test]
    fn the_type_is_that_of_most_products() {
        let without = Peaks {
            bf16: None,
            ..PEAKS
        };
        assert_eq!(work(1, 0, 2).product_type(PEAKS), "int8");
        assert_eq!(work(1, 2, 0).product_type(PEAKS), "bf16");
        assert_eq!(work(1, 2, 0).product_type(without), "f32");
        assert_eq!(work(2, 0, 1).product_type(PEAKS), "f32");
    }
}
