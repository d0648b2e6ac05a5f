//! CPU kernels at the sizes of OLMo 2 1B: `cargo bench -p olmo2-benches --bench kernels`.
//!
//! One weight at a time stays in the last cache on some machines; `olmo2-cli bench` reads a whole
//! model and is the measure of decoding.

mod attention;
mod product;
mod rows;

fn main() {
    divan::main();
}
