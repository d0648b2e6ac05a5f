//! Which file uses which, and the circles in that.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Violation;
use super::modules::{Crate, ModuleId};
use super::resolve::Resolver;
use super::syntax::Mention;

/// A use of an item that another file defines.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edge<'s> {
    pub(super) from: &'s str,
    pub(super) line: usize,
    pub(super) to: &'s str,
    /// The path as it is written.
    pub(super) path: String,
}

/// All uses between files of one crate. None between a file and a parent above it: a module and
/// what it is made of belong together.
pub(super) fn edges<'s>(of: &Crate<'s>) -> Vec<Edge<'s>> {
    let resolver = Resolver { of };
    let mut edges = BTreeSet::new();
    for (id, module) in of.modules.iter().enumerate() {
        let imports = module.syntax.imports.iter().map(|import| &import.mention);
        let mentions = module.syntax.mentions.iter();
        // The import is the use, not each place where its name stands.
        let mentions = mentions.filter(|mention| !resolver.repeats_import(id, &mention.path));
        for Mention { path, line } in imports.chain(mentions) {
            for target in resolver.resolve(id, path) {
                if !are_related(of, id, target.module()) {
                    edges.insert(Edge {
                        from: module.file,
                        line: *line,
                        to: of.modules[target.module()].file,
                        path: path.join("::"),
                    });
                }
            }
        }
    }
    edges.into_iter().collect()
}

/// Whether two modules are in one file, or one of their files is above the other.
fn are_related(of: &Crate<'_>, one: ModuleId, other: ModuleId) -> bool {
    let files = |id| of.ancestors(id).map(|id| of.modules[id].file);
    let is_above = |one: ModuleId, other| files(other).any(|file| file == of.modules[one].file);
    is_above(one, other) || is_above(other, one)
}

/// Each circle of files, once; of many between the same files, the shortest through each use.
pub(super) fn circles(edges: &[Edge<'_>]) -> Vec<Violation> {
    let mut uses: BTreeMap<&str, BTreeMap<&str, &Edge<'_>>> = BTreeMap::new();
    for edge in edges.iter().rev() {
        uses.entry(edge.from).or_default().insert(edge.to, edge);
    }
    let first_uses = uses.values().flat_map(BTreeMap::values);
    let mut circles = BTreeSet::new();
    for edge in first_uses {
        if let Some(mut circle) = way(&uses, edge.to, edge.from) {
            circle.push(edge);
            let first = (0..circle.len()).min_by_key(|&at| circle[at].from);
            circle.rotate_left(first.unwrap_or(0));
            circles.insert(circle);
        }
    }
    let mut circles: Vec<_> = circles.iter().collect();
    circles.sort_by_key(|circle| circle.len());
    circles
        .into_iter()
        .map(|circle| violation(circle))
        .collect()
}

/// The shortest way between two files.
fn way<'e, 's>(
    uses: &BTreeMap<&'s str, BTreeMap<&'s str, &'e Edge<'s>>>,
    from: &'s str,
    to: &'s str,
) -> Option<Vec<&'e Edge<'s>>> {
    let mut reached: BTreeMap<&str, Option<&Edge<'_>>> = BTreeMap::from([(from, None)]);
    let mut queue = VecDeque::from([from]);
    while let Some(file) = queue.pop_front() {
        if file == to {
            let steps = std::iter::successors(reached[to], |edge| reached[edge.from]);
            let mut way: Vec<_> = steps.collect();
            way.reverse();
            return Some(way);
        }
        for (next, edge) in uses.get(file).into_iter().flatten() {
            if !reached.contains_key(next) {
                reached.insert(next, Some(edge));
                queue.push_back(next);
            }
        }
    }
    None
}

fn violation(circle: &[&Edge<'_>]) -> Violation {
    let steps = circle.iter().map(|edge| {
        let Edge {
            from, line, path, ..
        } = edge;
        format!("{from}:{line} (`{path}`)")
    });
    let steps: Vec<String> = steps.collect();
    let chain = format!("{} -> {}", steps.join(" -> "), circle[0].from);
    let rule = format!("a circle of {} files: {chain}", circle.len());
    Violation::new(circle[0].from, circle[0].line, rule)
}
