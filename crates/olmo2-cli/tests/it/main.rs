//! The program as its users run it: one process for each claim.

mod accuracy;
mod bench;
mod chat;
mod check;
mod compare;
mod convert;
mod demo;
mod fixture;
mod generate;
mod help;
mod logits;
mod models;
mod program;
mod quantize;
mod refusals;
mod scoring;
mod tokenize;
