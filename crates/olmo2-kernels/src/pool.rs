//! The kernels' thread pool. A decoded token enters hundreds of parallel regions of some tens of
//! microseconds each. Between regions workers spin briefly and then park, because waking a spinning
//! worker is an order of magnitude faster than waking a parked one. Parked workers leave the cores
//! to others, above all to the tensor library's own pool.
#![allow(
    unsafe_code,
    reason = "a region's closure is borrowed by other threads"
)]

use std::any::Any;
use std::cell::UnsafeCell;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread::{self, Thread};

/// Spins before a waiting thread parks: some tens of microseconds on current x86 CPUs.
const SPINS: u32 = 2_000;

/// The number of threads requested; 0 until [`set_threads`].
static THREADS: AtomicUsize = AtomicUsize::new(0);
/// The workers; locked while a region runs.
static WORKERS: Mutex<Vec<Worker>> = Mutex::new(Vec::new());
/// Workers that have not finished the running region.
static PENDING: AtomicUsize = AtomicUsize::new(0);
/// The first panic of the running region.
static PANIC: Mutex<Option<Box<dyn Any + Send>>> = Mutex::new(None);

/// The number of threads that a region may use, the caller's included.
pub fn threads() -> usize {
    match THREADS.load(Ordering::Relaxed) {
        0 => physical_cores(),
        set => set,
    }
}

/// Sets the number of threads that a region may use, the caller's included; 0 means physical cores.
pub fn set_threads(count: usize) {
    THREADS.store(count, Ordering::Relaxed);
}

/// The number of the CPU's cores, without hyper-threads, at most the number that this process may
/// use.
pub fn physical_cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| {
        let allowed = thread::available_parallelism().map_or(1, usize::from);
        cores_of_linux().map_or(allowed, |cores| cores.clamp(1, allowed))
    })
}

fn cores_of_linux() -> Option<usize> {
    let mut cores = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir("/sys/devices/system/cpu").ok()?.flatten() {
        let siblings = entry.path().join("topology/thread_siblings_list");
        if let Ok(list) = std::fs::read_to_string(siblings) {
            cores.insert(list);
        }
    }
    (!cores.is_empty()).then_some(cores.len())
}

/// The share of `total` that belongs to `index` of `parts`. Shares differ by at most `step`, and
/// all but the last begin and end at multiples of `step`.
pub(crate) fn share(
    total: usize,
    step: usize,
    parts: usize,
    index: usize,
) -> std::ops::Range<usize> {
    let steps = total.div_ceil(step);
    let at = |i: usize| (steps * i / parts * step).min(total);
    at(index)..at(index + 1)
}

/// Calls `work(0)` to `work(parts - 1)`, once each, spread over the threads, and returns when all
/// have ended. Part `i` runs on thread `i % threads()`. A caller that finds the pool busy (with
/// another thread's region, or its own) runs all parts itself, so that no region waits for another
/// one. Parts must not wait for each other.
///
/// # Panics
/// A part panicked; all parts have ended by then.
pub fn run(parts: usize, work: impl Fn(usize) + Sync) {
    let threads = threads().min(parts);
    let workers = if threads > 1 { lock_workers() } else { None };
    match workers {
        Some(mut workers) => {
            hire(&mut workers, threads - 1);
            let hired = workers.len().min(threads - 1);
            let panic = region(&workers[..hired], parts, &work);
            drop(workers);
            if let Some(panic) = panic {
                resume_unwind(panic);
            }
        }
        None => (0..parts).for_each(work),
    }
}

fn lock_workers() -> Option<MutexGuard<'static, Vec<Worker>>> {
    match WORKERS.try_lock() {
        Ok(workers) => Some(workers),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Starts workers until `count` exist; fewer if the system refuses.
fn hire(workers: &mut Vec<Worker>, count: usize) {
    while workers.len() < count {
        let slot = Arc::new(Slot::default());
        let theirs = Arc::clone(&slot);
        let name = format!("olmo2-kernels-{}", workers.len() + 1);
        let Ok(handle) = thread::Builder::new()
            .name(name)
            .spawn(move || theirs.serve())
        else {
            return;
        };
        let thread = handle.thread().clone();
        workers.push(Worker { slot, thread });
    }
}

type Panic = Box<dyn Any + Send>;

/// Runs one region on the caller and `workers`; the caller holds the lock on them.
fn region(workers: &[Worker], parts: usize, work: &(dyn Fn(usize) + Sync)) -> Option<Panic> {
    let stride = workers.len() + 1;
    PENDING.store(workers.len(), Ordering::Relaxed);
    // SAFETY: only the lifetime changes, and this function outlives all uses: it returns once
    // PENDING is 0, and a worker decrements it after its last use of the job, even after a panic.
    let work: &'static (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(work) };
    for (i, worker) in workers.iter().enumerate() {
        let caller = thread::current();
        worker.start(Job {
            work,
            first: i + 1,
            stride,
            parts,
            caller,
        });
    }
    let mine = catch_unwind(AssertUnwindSafe(|| {
        (0..parts).step_by(stride).for_each(work)
    }));
    let mut spins = 0;
    while PENDING.load(Ordering::Acquire) != 0 {
        if spins < SPINS {
            spins += 1;
            spin_loop();
        } else {
            thread::park();
        }
    }
    let theirs = PANIC.lock().unwrap_or_else(PoisonError::into_inner).take();
    mine.err().or(theirs)
}

struct Job {
    work: &'static (dyn Fn(usize) + Sync),
    first: usize,
    stride: usize,
    parts: usize,
    caller: Thread,
}

impl Job {
    fn run(self) {
        let parts = (self.first..self.parts).step_by(self.stride);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| parts.for_each(self.work))) {
            PANIC
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(panic);
        }
        if PENDING.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.caller.unpark();
        }
    }
}

const IDLE: u32 = 0;
const STARTED: u32 = 1;
const PARKED: u32 = 2;

/// The place of a worker's next job. Aligned so that no two workers share a pair of cache lines.
#[repr(align(128))]
struct Slot {
    state: AtomicU32,
    job: UnsafeCell<Option<Job>>,
}

// SAFETY: the holder of the lock on WORKERS writes `job` while the state is not STARTED, and only
// the one worker reads it, while it is; the swaps of `state` order the two.
unsafe impl Sync for Slot {}

impl Default for Slot {
    fn default() -> Self {
        Self {
            state: AtomicU32::new(IDLE),
            job: UnsafeCell::new(None),
        }
    }
}

impl Slot {
    /// The loop of a worker: one job after the other, until the process ends.
    fn serve(&self) {
        loop {
            self.wait();
            // SAFETY: the state is STARTED, so the job belongs to this worker until it stores IDLE.
            let job = unsafe { (*self.job.get()).take() };
            self.state.store(IDLE, Ordering::Release);
            if let Some(job) = job {
                job.run();
            }
        }
    }

    fn wait(&self) {
        for _ in 0..SPINS {
            if self.state.load(Ordering::Acquire) == STARTED {
                return;
            }
            spin_loop();
        }
        let parked = self
            .state
            .compare_exchange(IDLE, PARKED, Ordering::AcqRel, Ordering::Acquire);
        if parked.is_ok() {
            while self.state.load(Ordering::Acquire) == PARKED {
                thread::park();
            }
        }
    }
}

struct Worker {
    slot: Arc<Slot>,
    thread: Thread,
}

impl Worker {
    fn start(&self, job: Job) {
        // SAFETY: the caller holds the lock on WORKERS and the last region has ended, so the worker
        // has taken its last job and does not read the slot before the swap below.
        unsafe { *self.slot.job.get() = Some(job) };
        if self.slot.state.swap(STARTED, Ordering::AcqRel) == PARKED {
            self.thread.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `parts` parts and returns how often each ran.
    fn counts(parts: usize) -> Vec<usize> {
        let counts: Vec<_> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
        run(parts, |i| {
            counts[i].fetch_add(1, Ordering::Relaxed);
        });
        counts.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[test]
    fn every_part_runs_once_from_many_callers_at_once() {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for parts in (0..9).cycle().take(2_000) {
                        assert_eq!(counts(parts), vec![1; parts]);
                    }
                });
            }
        });
    }

    #[test]
    fn a_region_inside_a_region_runs_alone() {
        run(3, |_| assert_eq!(counts(5), [1; 5]));
    }

    #[test]
    fn a_panic_in_any_part_reaches_the_caller_and_the_pool_goes_on() {
        for bad in 0..4 {
            let result = catch_unwind(|| run(4, |i| assert_ne!(i, bad, "part {bad} failed")));
            let message = result.unwrap_err().downcast::<String>().unwrap();
            assert!(message.contains(&format!("part {bad} failed")));
            assert_eq!(counts(4), [1; 4]);
        }
    }

    #[test]
    fn parked_workers_wake() {
        for _ in 0..20 {
            thread::sleep(std::time::Duration::from_millis(2));
            assert_eq!(counts(2), [1; 2]);
        }
    }

    #[test]
    fn shares_cover_everything_in_order() {
        for (total, step, parts) in [(0, 4, 3), (1, 4, 3), (100, 12, 7), (100, 1, 2)] {
            let mut next = 0;
            for index in 0..parts {
                let range = share(total, step, parts, index);
                assert_eq!(range.start, next);
                next = range.end;
            }
            assert_eq!(next, total);
        }
    }
}
