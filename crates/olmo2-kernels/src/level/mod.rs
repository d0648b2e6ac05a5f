//! The SIMD level: the highest of the CPU, the one that the user requested, the one that kernels
//! use.

#[cfg(target_arch = "x86_64")]
mod amx;

use std::cell::Cell;
use std::sync::OnceLock;

/// The environment variable that forces a lower level.
pub const VARIABLE: &str = "OLMO2_SIMD";

/// A family of instructions. A higher level includes the lower ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Portable code, vectorized by the compiler for the target's baseline.
    Scalar,
    /// AVX2, FMA and F16C: vectors of 8.
    Avx2,
    /// AVX-512 F, BW, DQ, VL and VNNI, and BMI2: vectors of 16, byte dot products.
    Avx512,
    /// AVX-512 with BF16, and AMX: matrix products of tiles of 16 rows.
    Amx,
}

impl Level {
    /// All levels, lowest first.
    pub const ALL: [Self; 4] = [Self::Scalar, Self::Avx2, Self::Avx512, Self::Amx];

    /// The level's name as [`VARIABLE`] spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Amx => "amx",
        }
    }

    /// Whether this CPU has the level.
    pub fn is_available(self) -> bool {
        self <= detected()
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a level cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LevelError {
    /// [`VARIABLE`] does not hold a level's name.
    #[error("`OLMO2_SIMD` is `{0}`, expected `scalar`, `avx2`, `avx512` or `amx`")]
    Unknown(String),
    /// The CPU lacks the level, or the system does not permit it.
    #[error("the level `{wanted}` cannot be used here, the highest is `{detected}`")]
    Unavailable {
        /// The level that was requested.
        wanted: Level,
        /// The highest level that can be used.
        detected: Level,
    },
}

impl LevelError {
    /// One sentence on what to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unknown(_) => format!("unset `{VARIABLE}` to use all that the CPU has"),
            Self::Unavailable { detected, .. } => {
                format!("unset `{VARIABLE}`, or set it to `{detected}` or lower")
            }
        })
    }
}

/// The highest level of this CPU. On a CPU with AMX the first call requests permission to use it.
pub fn detected() -> Level {
    static DETECTED: OnceLock<Level> = OnceLock::new();
    *DETECTED.get_or_init(detect)
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    use std::arch::is_x86_feature_detected as has;
    if !(has!("avx2") && has!("fma") && has!("f16c")) {
        return Level::Scalar;
    }
    let wide = has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
    if !(wide && has!("avx512vnni") && has!("bmi2")) {
        return Level::Avx2;
    }
    if has!("avx512bf16") && amx::may_use_tiles() {
        return Level::Amx;
    }
    Level::Avx512
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Level {
    Level::Scalar
}

/// The level that kernels use outside [`with_level`]: that of [`VARIABLE`], read once, or the
/// highest of the CPU. A command calls this first, to report a wrong value.
///
/// # Errors
/// The variable does not hold a level's name, or holds one that this CPU lacks.
pub fn requested() -> Result<Level, LevelError> {
    static REQUESTED: OnceLock<Result<Level, LevelError>> = OnceLock::new();
    let read = || match std::env::var_os(VARIABLE) {
        None => Ok(detected()),
        Some(value) => parse(&value.to_string_lossy()),
    };
    REQUESTED.get_or_init(read).clone()
}

fn parse(value: &str) -> Result<Level, LevelError> {
    let wanted = Level::ALL
        .into_iter()
        .find(|level| level.name() == value)
        .ok_or_else(|| LevelError::Unknown(value.to_owned()))?;
    check(wanted)
}

fn check(wanted: Level) -> Result<Level, LevelError> {
    let detected = detected();
    if wanted > detected {
        return Err(LevelError::Unavailable { wanted, detected });
    }
    Ok(wanted)
}

thread_local! {
    static FORCED: Cell<Option<Level>> = const { Cell::new(None) };
}

/// The level that a kernel uses when this thread calls it now. If [`requested`] is an error that
/// nobody reported, this is the highest level of the CPU.
pub fn level() -> Level {
    FORCED
        .get()
        .unwrap_or_else(|| requested().unwrap_or_else(|_| detected()))
}

/// Runs `work` with the kernels that this thread calls at `level`: for tests and measurements.
///
/// # Errors
/// The CPU lacks the level; `work` did not run.
pub fn with_level<T>(level: Level, work: impl FnOnce() -> T) -> Result<T, LevelError> {
    struct Restore(Option<Level>);
    impl Drop for Restore {
        fn drop(&mut self) {
            FORCED.set(self.0);
        }
    }
    let _restore = Restore(FORCED.replace(Some(check(level)?)));
    Ok(work())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_others_are_errors_with_a_hint() {
        assert_eq!(parse("scalar"), Ok(Level::Scalar));
        let error = parse("AVX9").unwrap_err();
        assert_eq!(error, LevelError::Unknown("AVX9".into()));
        assert!(error.hint().unwrap().contains(VARIABLE));
    }

    #[test]
    fn a_forced_level_ends_with_its_scope() {
        let before = level();
        with_level(Level::Scalar, || assert_eq!(level(), Level::Scalar)).unwrap();
        assert_eq!(level(), before);
    }

    #[test]
    fn a_level_that_the_cpu_lacks_is_refused() {
        for wanted in Level::ALL {
            assert_eq!(with_level(wanted, || ()).is_ok(), wanted.is_available());
        }
    }
}
