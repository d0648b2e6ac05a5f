//! The command line: what may be typed (`typed`), and what it means (`meant`). Nothing else of the
//! program knows clap.

mod backend;
mod examples;
mod meant;
mod quantize;
mod typed;

pub(crate) use meant::{Request, resolve};
pub(crate) use typed::Cli;
