//! The program as its users run it: one process for each claim.

mod bench;
mod chat;
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
mod verify;
