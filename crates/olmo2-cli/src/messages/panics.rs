//! Panics as messages: this program's users get a sentence, whatever thread the panic was in.

use std::io::Write;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

/// The first panic since the last [`take`]: later ones are its consequences, as the broken channel
/// of a thread that died.
static FIRST: Mutex<Option<Panic>> = Mutex::new(None);

#[derive(Debug)]
struct Panic {
    message: String,
    place: String,
}

/// Runs `work`; a panic becomes an error that names its place, exit code 1.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, ExitCode> {
    // `RUST_BACKTRACE` keeps the usual output.
    let backtrace = std::env::var("RUST_BACKTRACE").is_ok_and(|value| value != "0");
    if !backtrace {
        set_hook(Box::new(note));
    }
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| {
        if let Some(Panic { message, place }) = take() {
            let text = format!(
                "error: internal error at {place}: {message}\n\
                 hint: this is a bug; `RUST_BACKTRACE=1` shows where it comes from\n"
            );
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
        ExitCode::FAILURE
    })
}

/// Runs `work`; of a panic, in whatever thread, the first message is returned.
#[cfg(any(feature = "wgpu", feature = "cuda", test))]
pub(crate) fn quietly<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let hook = std::panic::take_hook();
    set_hook(Box::new(note));
    take();
    let result = catch_unwind(AssertUnwindSafe(work));
    set_hook(hook);
    result.map_err(|_| take().map_or_else(|| "it panicked".into(), |panic| panic.message))
}

fn take() -> Option<Panic> {
    FIRST.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn note(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("no message");
    let place = info.location().map(ToString::to_string);
    FIRST
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get_or_insert_with(|| Panic {
            message: message.split_whitespace().collect::<Vec<_>>().join(" "),
            place: place.unwrap_or_default(),
        });
}
