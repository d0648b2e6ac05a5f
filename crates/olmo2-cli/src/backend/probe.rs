//! Whether a GPU's backend can start: where a driver or an adapter is missing, burn panics, in part
//! in threads of its own. Here that becomes one sentence.

use burn::prelude::*;

use crate::messages::{Failure, Result, panics};

/// Computes one number on the device.
///
/// # Errors
/// The backend panicked; its first message is the error.
#[cfg_attr(
    not(any(feature = "wgpu", feature = "cuda")),
    expect(dead_code, reason = "tests run its parts")
)]
pub(super) fn starts<B: Backend>(name: &str, device: &B::Device) -> Result<()> {
    let one = || Tensor::<B, 1>::ones([1], device).into_data();
    match panics::quietly(one) {
        Ok(_) => Ok(()),
        Err(reason) => Err(Failure::new(
            format!("backend `{name}` cannot start: {}", sentence(&reason)),
            "install a driver for the GPU, or choose another `--backend`",
        )),
    }
}

/// A panic of wgpu, cudarc or CubeCL without the lists that follow its first words.
fn sentence(reason: &str) -> String {
    const LONGEST: usize = 160;
    if reason.starts_with("No possible adapter") {
        return "found no adapter, neither a GPU nor a software renderer".into();
    }
    let first = reason.split(" - searched for").next().unwrap_or(reason);
    match first.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}..", &first[..end]),
        None => first.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_that_panics_is_an_error_in_one_sentence() {
        // A device of flex always starts; the panic is made here, and in another thread, as
        // CubeCL's are.
        let failing = || {
            let thread = std::thread::spawn(|| panic!("Unable to load\nthe library"));
            thread.join().expect("RecvError")
        };
        let reason = panics::quietly(failing).expect_err("a panic");
        assert_eq!(reason, "Unable to load the library");
    }

    #[test]
    fn long_panics_are_cut_to_a_sentence() {
        assert!(sentence("No possible adapter available: NotFound {..}").starts_with("found no"));
        let cuda = "Unable to load the \"cuda\" shared library - searched for [\"libcuda.so\"]";
        assert_eq!(sentence(cuda), "Unable to load the \"cuda\" shared library");
        assert_eq!(sentence(&"é".repeat(400)).chars().count(), 162);
    }
}
