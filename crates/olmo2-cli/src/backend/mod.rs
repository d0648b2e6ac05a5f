//! The backends of this build: feature to variant, and one `dispatch` for all commands.

#[cfg(any(feature = "cuda", test))]
mod cuda;
#[cfg(any(feature = "wgpu", feature = "cuda", test))]
mod probe;

use burn::prelude::*;
use olmo2::{Capabilities, Precision};

use crate::messages::{Failure, Result, Verbosity, plain};

#[cfg(not(any(
    feature = "flex",
    feature = "ndarray",
    feature = "wgpu",
    feature = "cuda"
)))]
compile_error!("choose a backend: `flex`, `ndarray`, `wgpu`, `vulkan`, `metal` or `cuda`");

/// What a command does once its backend is known.
pub(crate) trait OnBackend {
    /// Runs on one device.
    fn run<B: Backend>(self, device: B::Device) -> Result<()>;
}

/// A backend that this build has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BackendKind {
    #[cfg(feature = "flex")]
    Flex,
    #[cfg(feature = "ndarray")]
    NdArray,
    /// Whichever of wgpu, vulkan and metal was compiled: burn has one of them at a time.
    #[cfg(feature = "wgpu")]
    Wgpu,
    #[cfg(feature = "cuda")]
    Cuda,
}

/// In the order in which they are tried: a build with a GPU backend is meant to use it.
pub(crate) const COMPILED: &[BackendKind] = &[
    #[cfg(feature = "cuda")]
    BackendKind::Cuda,
    #[cfg(feature = "wgpu")]
    BackendKind::Wgpu,
    #[cfg(feature = "flex")]
    BackendKind::Flex,
    #[cfg(feature = "ndarray")]
    BackendKind::NdArray,
];

/// All that a build may have.
pub(crate) const KNOWN: [&str; 4] = ["flex", "ndarray", "wgpu", "cuda"];

impl std::fmt::Display for BackendKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl BackendKind {
    /// As `--backend` spells it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "flex")]
            Self::Flex => "flex",
            #[cfg(feature = "ndarray")]
            Self::NdArray => "ndarray",
            #[cfg(feature = "wgpu")]
            Self::Wgpu => "wgpu",
            #[cfg(feature = "cuda")]
            Self::Cuda => "cuda",
        }
    }

    /// Whether weights and cache are in this machine's main memory.
    pub(crate) fn is_cpu(self) -> bool {
        match self {
            #[cfg(feature = "flex")]
            Self::Flex => true,
            #[cfg(feature = "ndarray")]
            Self::NdArray => true,
            #[cfg(any(feature = "wgpu", feature = "cuda"))]
            _ => false,
        }
    }

    /// What the backend can do on its default device.
    pub(crate) fn capabilities(self) -> Capabilities {
        match self {
            #[cfg(feature = "flex")]
            Self::Flex => Capabilities::of::<burn::backend::Flex>(&Default::default()),
            #[cfg(feature = "ndarray")]
            Self::NdArray => Capabilities::of::<burn::backend::NdArray>(&Default::default()),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Capabilities::of::<burn::backend::Wgpu>(&Default::default()),
            #[cfg(feature = "cuda")]
            Self::Cuda => Capabilities::of::<burn::backend::Cuda>(&Default::default()),
        }
    }

    /// The level of this library's own kernels, where they are used, for messages.
    pub(crate) fn kernels(self) -> String {
        match self.capabilities().has_kernels(Precision::F32) {
            true => format!(", {} kernels", olmo2_kernels::level::level()),
            false => String::new(),
        }
    }

    /// Starts the default device of this backend.
    ///
    /// # Errors
    /// There is no such device or driver.
    fn start(self) -> Result<()> {
        match self {
            #[cfg(feature = "flex")]
            Self::Flex => Ok(()),
            #[cfg(feature = "ndarray")]
            Self::NdArray => Ok(()),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => probe::starts::<burn::backend::Wgpu>("wgpu", &Default::default()),
            #[cfg(feature = "cuda")]
            Self::Cuda => {
                cuda::is_installed()?;
                probe::starts::<burn::backend::Cuda>("cuda", &Default::default())
            }
        }
    }

    /// Runs a command on the default device of this backend, which [`prepare`] started.
    ///
    /// # Errors
    /// Those of the command.
    pub(crate) fn dispatch(self, command: impl OnBackend) -> Result<()> {
        match self {
            #[cfg(feature = "flex")]
            Self::Flex => command.run::<burn::backend::Flex>(Default::default()),
            #[cfg(feature = "ndarray")]
            Self::NdArray => command.run::<burn::backend::NdArray>(Default::default()),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => command.run::<burn::backend::Wgpu>(Default::default()),
            #[cfg(feature = "cuda")]
            Self::Cuda => command.run::<burn::backend::Cuda>(Default::default()),
        }
    }
}

/// Sets the threads and chooses the backend; returns it with the number of threads.
///
/// # Errors
/// A thread pool that runs already, or a backend that cannot start.
pub(crate) fn prepare(
    backend: Option<BackendKind>,
    threads: Option<usize>,
    verbosity: Verbosity,
) -> Result<(BackendKind, usize)> {
    let threads = set_threads(threads)?;
    Ok((choose(backend, verbosity)?, threads))
}

/// The requested backend, else the first of this build that starts.
///
/// # Errors
/// It cannot start; without a request, no backend of this build can.
fn choose(asked: Option<BackendKind>, verbosity: Verbosity) -> Result<BackendKind> {
    match asked {
        Some(asked) => asked.start().map(|()| asked),
        None => first_that_starts(COMPILED, BackendKind::start, |text| verbosity.note(text)),
    }
}

/// The first kind that starts; `note` is called with the reasons why those before it did not.
///
/// # Errors
/// The first one's, where none starts.
fn first_that_starts<K: Copy + std::fmt::Display>(
    kinds: &[K],
    start: impl Fn(K) -> Result<()>,
    mut note: impl FnMut(String),
) -> Result<K> {
    let mut failed: Option<Failure> = None;
    let mut reasons: Vec<String> = Vec::new();
    for kind in kinds {
        match start(*kind) {
            Ok(()) => {
                if !reasons.is_empty() {
                    note(format!("{}; using `{kind}`", reasons.join("; ")));
                }
                return Ok(*kind);
            }
            Err(error) => {
                reasons.push(error.to_string());
                failed.get_or_insert(error);
            }
        }
    }
    Err(failed.unwrap_or_else(|| Failure::message("this build has no backend")))
}

/// Sets the threads of the CPU's pools, before any of them starts.
///
/// # Errors
/// A pool that runs already.
fn set_threads(threads: Option<usize>) -> Result<usize> {
    let threads = threads.unwrap_or_else(olmo2_kernels::pool::physical_cores);
    olmo2_kernels::pool::set_threads(threads);
    // flex computes with rayon's global pool.
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(plain)?;
    Ok(threads)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chooses among three, of which those in `broken` do not start; returns the notes, too.
    fn choose_without(broken: &[&str]) -> (Result<&'static str>, Vec<String>) {
        let mut notes = Vec::new();
        let start = |kind: &str| match broken.contains(&kind) {
            true => Err(Failure::message(format!(
                "backend `{kind}` cannot start: no driver"
            ))),
            false => Ok(()),
        };
        let chosen = first_that_starts(&["cuda", "wgpu", "flex"], start, |text| notes.push(text));
        (chosen, notes)
    }

    #[test]
    fn the_first_backend_that_starts_is_used_and_a_note_names_those_that_failed() {
        let (chosen, notes) = choose_without(&[]);
        assert_eq!((chosen.expect("cuda"), notes.len()), ("cuda", 0));
        let (chosen, notes) = choose_without(&["cuda"]);
        assert_eq!(chosen.expect("wgpu"), "wgpu");
        assert_eq!(
            notes,
            ["backend `cuda` cannot start: no driver; using `wgpu`"]
        );
        let (chosen, notes) = choose_without(&["cuda", "wgpu"]);
        assert_eq!(chosen.expect("flex"), "flex");
        let expected = "backend `cuda` cannot start: no driver; backend `wgpu` cannot start: no \
                        driver; using `flex`";
        assert_eq!(notes, [expected]);
    }

    #[test]
    fn where_none_starts_the_first_reason_is_the_error() {
        let (chosen, notes) = choose_without(&["cuda", "wgpu", "flex"]);
        assert!(notes.is_empty());
        let error = chosen.expect_err("none starts");
        assert_eq!(error.to_string(), "backend `cuda` cannot start: no driver");
    }

    #[test]
    fn a_cpu_is_always_there_and_comes_last() {
        let kinds = COMPILED.iter();
        let gpus_first = kinds
            .clone()
            .is_sorted_by_key(|kind| u8::from(kind.is_cpu()));
        assert!(gpus_first);
        for kind in kinds.filter(|kind| kind.is_cpu()) {
            let quiet = Verbosity::default();
            assert_eq!(choose(Some(*kind), quiet).expect("it starts"), *kind);
        }
    }
}
