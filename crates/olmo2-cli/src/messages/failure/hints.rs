//! Hints that name this program's own flags and commands, which the library does not know.

use std::error::Error;
use std::io;

use olmo2::hub::HubError;
use olmo2::{
    CacheDtypeError, CheckpointError, GenerateError, Hint, InputError, PositionLimit,
    PrecisionError, QuantizeError, SamplingError,
};

use super::NOT_FINITE;

/// The hint of the first error along the chain for which this program has one, else the library's.
pub(super) fn of(error: &(dyn Hint + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        let known: &(dyn Error + 'static) = error;
        if let Some(hint) = of_run(known).or_else(|| of_files(known)) {
            return Some(hint);
        }
        next = error.inner();
    }
    error.hint()
}

/// Errors of running a model.
fn of_run(error: &(dyn Error + 'static)) -> Option<String> {
    if error.is::<PrecisionError>() {
        return Some("choose another `--dtype`; f32 runs everywhere".into());
    }
    if let Some(CacheDtypeError { supported, .. }) = error.downcast_ref() {
        let supported = supported.iter().map(|dtype| format!("`{dtype}`"));
        let supported = supported.collect::<Vec<_>>().join(", ");
        return Some(format!("choose a `--cache-dtype` that it has: {supported}"));
    }
    if let Some(InputError::Capacity { .. }) = error.downcast_ref() {
        return Some("make room with `--context N`, or shorten the prompt".into());
    }
    if let Some(SamplingError::NotFinite { .. } | SamplingError::NothingToSample { .. }) =
        error.downcast_ref()
    {
        return Some(NOT_FINITE.into());
    }
    let GenerateError::TooLong {
        prompt,
        limit,
        which,
        ..
    } = error.downcast_ref()?
    else {
        return None;
    };
    let hint = match which {
        PositionLimit::Context => "raise `--context`, or lower `--max-new-tokens`",
        PositionLimit::Model if prompt >= limit => return None,
        PositionLimit::Model => "lower `--max-new-tokens`, or shorten the prompt",
    };
    Some(hint.into())
}

/// Errors of finding and opening a model.
fn of_files(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(QuantizeError::Already { .. }) = error.downcast_ref() {
        let hint = "the weights are quantized already: leave `--quantize` out, or start from the \
                    checkpoint's floats";
        return Some(hint.into());
    }
    match error.downcast_ref() {
        Some(CheckpointError::RevisionOfFolder { .. }) => {
            return Some("leave `--revision` out".into());
        }
        Some(CheckpointError::NoTokenizer { .. }) => {
            return Some("`--ids` gives token ids in place of a text".into());
        }
        _ => {}
    }
    match error.downcast_ref()? {
        HubError::NothingCached { .. } => {
            Some("`olmo2-cli models list` shows what the cache holds".into())
        }
        HubError::RevisionNotFound { id, .. } => Some(format!(
            "`olmo2-cli models revisions {id}` lists the revisions"
        )),
        HubError::Io { source, .. } if is_full(source) => {
            let hint = "free some space (`olmo2-cli models remove ID`), or set `HF_HUB_CACHE` to \
                        another disk";
            Some(hint.into())
        }
        _ => None,
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
