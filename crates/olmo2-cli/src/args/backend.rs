//! `--backend`: one of this build, with a hint for those that it lacks.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::error::ErrorKind;

use crate::backend::{BackendKind, COMPILED, KNOWN};

/// Parses `--backend`; a backend that this build lacks and an unknown one have different hints.
#[derive(Debug, Clone)]
pub(super) struct BackendParser;

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
