//! The command line: clap's structs (`typed`) and their meaning (`meant`). No other file but
//! `completions` uses clap.

mod backend;
mod compare;
mod examples;
mod meant;
mod prompt;
mod quantize;
mod run;
mod typed;

pub(crate) use meant::{Request, resolve};
pub(crate) use typed::Cli;
