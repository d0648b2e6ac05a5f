//! What characters and plots do to a document that is being written.

use anyhow::Result;

/// The state of a document: bound slots, a random stream, and the expansion of templates.
pub(crate) trait Stage {
    /// A uniform number in `0..bound` (multiply-shift: its bias is below 2^-22 for what is drawn here).
    fn below(&mut self, bound: usize) -> usize;

    fn chance(&mut self, percent: u32) -> bool;

    fn is_bound(&self, slot: &str) -> bool;

    fn get(&self, slot: &str) -> Option<String>;

    /// Binds a slot once: what a document has said stays said.
    fn bind(&mut self, slot: &str, value: String);

    fn has_item(&self, rule: &str, item: &str) -> bool;

    /// Binds a row; where its first column is bound already, a row that agrees with it.
    fn pick(&mut self, name: &str, prefix: Option<&str>) -> Result<()>;

    /// Expands a template to text.
    fn expand(&mut self, template: &str) -> Result<String>;

    /// The text with `a` or `an` before it.
    fn with_article(&mut self, template: &str) -> Result<String>;
}
