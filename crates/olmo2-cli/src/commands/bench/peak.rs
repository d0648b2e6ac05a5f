//! Peak memory of this process, as Linux counts it.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::Serialize;

/// How often anonymous memory is sampled; the kernel keeps no peak of it.
const INTERVAL: Duration = Duration::from_millis(5);

/// Peaks since the sampler started; `None` where the system does not report them.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Peaks {
    /// All resident pages, mapped weights among them (`VmHWM`).
    pub(super) peak_rss_bytes: Option<u64>,
    /// Pages of no file (`RssAnon`), sampled every 5 ms.
    pub(super) peak_anon_bytes: Option<u64>,
}

/// A thread that samples the memory of the process. `cargo xtask slow` samples that of a child
/// while it waits for it, without a thread.
#[derive(Debug)]
pub(super) struct Sampler {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    done: AtomicBool,
    anon: AtomicU64,
}

impl Shared {
    fn sample(&self) {
        if let Some(bytes) = status("RssAnon:") {
            self.anon.fetch_max(bytes, Ordering::Relaxed);
        }
    }
}

impl Sampler {
    pub(super) fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("memory".into()).spawn(move || {
            while !theirs.done.load(Ordering::Relaxed) {
                theirs.sample();
                thread::sleep(INTERVAL);
            }
        });
        Self {
            shared,
            // Without the thread the sample at the end remains.
            thread: thread.ok(),
        }
    }

    pub(super) fn stop(mut self) -> Peaks {
        self.shared.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It cannot panic, and if it did its samples would still count.
            let _ = thread.join();
        }
        self.shared.sample();
        let anon = self.shared.anon.load(Ordering::Relaxed);
        Peaks {
            peak_rss_bytes: status("VmHWM:"),
            peak_anon_bytes: (anon > 0).then_some(anon),
        }
    }
}

/// A field of `/proc/self/status`, in bytes.
fn status(field: &str) -> Option<u64> {
    parse(&fs::read_to_string("/proc/self/status").ok()?, field)
}

fn parse(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_in_bytes() {
        let text = "Name:\tolmo2-cli\nVmHWM:\t   1234 kB\nRssAnon:\t     100 kB\n";
        assert_eq!(parse(text, "RssAnon:"), Some(102_400));
        assert_eq!(parse(text, "VmHWM:"), Some(1_263_616));
        assert_eq!(parse(text, "RssFile:"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn memory_that_was_taken_and_given_back_is_in_the_peak() {
        const SIZE: usize = 64 << 20;
        let before = status("RssAnon:").expect("Linux reports it");
        let sampler = Sampler::start();
        let taken = vec![1u8; SIZE];
        thread::sleep(4 * INTERVAL);
        assert_eq!(std::hint::black_box(&taken)[SIZE - 1], 1);
        drop(taken);
        let peak = sampler.stop().peak_anon_bytes.expect("Linux reports it");
        assert!(peak > before + SIZE as u64 / 2, "{before} then {peak}");
    }
}
