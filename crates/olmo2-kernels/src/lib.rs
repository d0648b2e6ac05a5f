//! CPU kernels on plain slices, and the file map. The only crate of the workspace with `unsafe`.

mod map;

pub use map::map_file;
