//! What a document is made of, in order.

use crate::grammar::Role;

/// A piece of a document, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Sentences(String),
    Paragraph,
    Turn(Role),
}
