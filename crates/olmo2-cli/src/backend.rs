//! The backends of this build: feature to variant, and one `dispatch` for all commands.

mod probe;

use std::ffi::OsStr;

use anyhow::Result;
use burn::prelude::*;
use clap::builder::{PossibleValue, TypedValueParser};
use clap::error::ErrorKind;
use olmo2::Precision;

#[cfg(not(any(
    feature = "flex",
    feature = "ndarray",
    feature = "wgpu",
    feature = "cuda"
)))]
compile_error!("choose a backend: `flex`, `ndarray`, `wgpu`, `vulkan`, `metal` or `cuda`");

/// What a command does once its backend is known.
pub(crate) trait Command {
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

/// The default first: who compiles a GPU in wants it used.
const COMPILED: &[BackendKind] = &[
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
const KNOWN: [&str; 4] = ["flex", "ndarray", "wgpu", "cuda"];

impl Default for BackendKind {
    fn default() -> Self {
        COMPILED[0]
    }
}

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

    /// Whether weights and cache lie in this machine's main memory.
    pub(crate) fn is_cpu(self) -> bool {
        ["flex", "ndarray"].contains(&self.name())
    }

    /// Whether weights stay in what they are stored in (`Precision` of the library).
    pub(crate) fn keeps_stored(self, precision: Precision) -> bool {
        self.name() == "flex" && precision != Precision::F16
    }

    /// What activations and cache are held in: own kernels round within products alone.
    pub(crate) fn held_in(self, precision: Precision) -> Precision {
        match self.keeps_stored(precision) {
            true => Precision::F32,
            false => precision,
        }
    }

    /// Runs a command on the default device of this backend.
    ///
    /// # Errors
    /// There is no such device or driver, and what the command meets.
    pub(crate) fn dispatch(self, command: impl Command) -> Result<()> {
        match self {
            #[cfg(feature = "flex")]
            Self::Flex => command.run::<burn::backend::Flex>(Default::default()),
            #[cfg(feature = "ndarray")]
            Self::NdArray => command.run::<burn::backend::NdArray>(Default::default()),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => {
                let device = Default::default();
                probe::starts::<burn::backend::Wgpu>("wgpu", &device)?;
                command.run::<burn::backend::Wgpu>(device)
            }
            #[cfg(feature = "cuda")]
            Self::Cuda => {
                probe::cuda_is_installed()?;
                let device = Default::default();
                probe::starts::<burn::backend::Cuda>("cuda", &device)?;
                command.run::<burn::backend::Cuda>(device)
            }
        }
    }
}

/// Sets the threads of the CPU's pools, before any of them starts.
///
/// # Errors
/// A pool that runs already.
pub(crate) fn set_threads(threads: Option<u16>) -> Result<usize> {
    let threads = threads.map_or_else(olmo2_kernels::pool::physical_cores, usize::from);
    olmo2_kernels::pool::set_threads(threads);
    // flex computes with rayon's global pool.
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()?;
    Ok(threads)
}

/// Reads `--backend`; tells a backend that was left out of this build from one that is unknown.
#[derive(Debug, Clone)]
pub(crate) struct BackendParser;

impl TypedValueParser for BackendParser {
    type Value = BackendKind;

    fn parse_ref(
        &self,
        _command: &clap::Command,
        _arg: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Self::Value, clap::Error> {
        let value = value.to_string_lossy();
        if let Some(kind) = COMPILED.iter().find(|kind| kind.name() == value) {
            return Ok(*kind);
        }
        let names: Vec<&str> = COMPILED.iter().map(|kind| kind.name()).collect();
        let names = names.join(", ");
        let message = match KNOWN.contains(&value.as_ref()) {
            true => format!(
                "backend `{value}` is not in this build, which has {names}\n\n\
                 tip: build it in with `--features {value}`\n"
            ),
            false if ["vulkan", "metal", "webgpu"].contains(&value.as_ref()) => format!(
                "`{value}` is a feature of the backend `wgpu`\n\n\
                 tip: `--backend wgpu` in a build with `--features {value}`\n"
            ),
            false => {
                format!("there is no backend `{value}`\n\ntip: this build has {names}\n")
            }
        };
        Err(clap::Error::raw(ErrorKind::InvalidValue, message))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue>>> {
        let names = COMPILED.iter().map(|kind| PossibleValue::new(kind.name()));
        Some(Box::new(names))
    }
}
