//! What the graph is made of.

mod linear;
mod norm;
pub(crate) mod rope;

pub use linear::{Embedding, Linear};
pub(crate) use linear::{project, project_gated};
pub use norm::RmsNorm;
pub use rope::RotaryEmbedding;
