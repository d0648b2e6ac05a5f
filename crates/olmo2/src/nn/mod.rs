//! What the graph is made of.

mod embedding;
mod kinds;
mod linear;
mod norm;
mod rope;

pub use embedding::Embedding;
pub(crate) use kinds::{LayerKind, LayerKinds};
pub use linear::Linear;
pub(crate) use linear::{Rows, project, project_gated};
pub use norm::RmsNorm;
pub use rope::RotaryEmbedding;
