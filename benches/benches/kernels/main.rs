//! CPU kernels at the sizes of OLMo 2 1B: `cargo bench -p olmo2-benches --bench kernels`.
//!
//! On some machines a single weight stays in the last-level cache. To measure decoding, use
//! `olmo2-cli bench`, which reads a whole model.

mod attention;
mod matmul;
mod rows;

fn main() {
    olmo2_kernels::keep_freed_memory();
    divan::main();
}
