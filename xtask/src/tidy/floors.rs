//! The floors of the library, and which of its modules may name which crates of burn.

use super::Violation;
use super::graph::Edge;
use super::modules::Crate;

/// Modules of `crates/olmo2`, the lowest floor first. A module uses modules of lower floors and, on
/// its own floor, those to its left.
const FLOORS: &[&[&str]] = &[
    &[
        "hint",
        "foreign",
        "precision",
        "storage",
        "sampling",
        "config",
    ],
    &["weights", "text"],
    &["cache", "quantize", "format"],
    &["backend"],
    &["nn"],
    &["forward"],
    &["model"],
    &["load"],
    &["generate", "demo"],
    &["checkpoint", "convert"],
];

/// The library's sources.
const LIBRARY: &str = "crates/olmo2/src/";

/// Crates of concrete backends, and burn's names for backends: only the seam names one.
const BACKENDS: &[&str] = &["burn_flex", "burn_ndarray", "burn_wgpu", "burn_cuda"];
const NAMES_OF_BACKENDS: &[&str] = &["Flex", "NdArray", "Wgpu", "Vulkan", "Metal", "Cuda"];
const SEAM: &str = "backend";

/// Modules that work on the host alone: they name no tensor library.
const HOST_ONLY: &[&str] = &["hint", "foreign", "sampling", "config", "text"];

/// Uses of the library that lead to a higher floor, or to the right on the same one.
pub(super) fn upward(edges: &[Edge<'_>]) -> Vec<Violation> {
    let mut broken = Vec::new();
    for edge in edges {
        let (Some(user), Some(used)) = (module(edge.from), module(edge.to)) else {
            continue;
        };
        // What is on no floor is reported by `unlisted`.
        if let (Some(own), Some(other)) = (place(user), place(used))
            && other > own
        {
            let Edge { path, to, .. } = edge;
            let relation = match other.0 > own.0 {
                true => "is on a higher floor than",
                false => "stands on the same floor to the right of",
            };
            let rule = format!("`{path}` ({to}): `{used}` {relation} `{user}`");
            broken.push(Violation::new(edge.from, edge.line, rule));
        }
    }
    broken
}

/// Modules of the library that are on no floor.
pub(super) fn unlisted(of: &Crate<'_>) -> Vec<Violation> {
    let root = &of.modules[0];
    if root.file != format!("{LIBRARY}lib.rs") {
        return Vec::new();
    }
    let children = root.syntax.children.iter();
    let unlisted = children.filter(|child| !child.is_test && place(&child.name).is_none());
    let violations = unlisted.map(|child| {
        let rule = format!(
            "module `{}` is on no floor of xtask/src/tidy/floors.rs",
            child.name
        );
        Violation::new(root.file, child.line, rule)
    });
    violations.collect()
}

/// Crates that the library's modules name against the rules.
pub(super) fn foreign(of: &Crate<'_>) -> Vec<Violation> {
    let mut broken = Vec::new();
    for part in &of.modules {
        let Some(module) = part.file.strip_prefix(LIBRARY) else {
            continue;
        };
        let module = top(module);
        let imports = part.syntax.imports.iter().map(|import| &import.mention);
        for mention in imports.chain(&part.syntax.mentions) {
            let name = mention.path[0].as_str();
            let rule = if module != SEAM && names_a_backend(&mention.path) {
                "a backend is named in `backend` alone"
            } else if name.starts_with("burn") && HOST_ONLY.contains(&module) {
                "this module works on the host, without a tensor library"
            } else {
                continue;
            };
            let rule = format!("`{}`: {rule}", mention.path.join("::"));
            broken.push(Violation::new(part.file, mention.line, rule));
        }
    }
    broken
}

/// Whether a path leads into a backend's crate, or to a backend by burn's name for it.
fn names_a_backend(path: &[String]) -> bool {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path[..] {
        ["burn", "backend", name, ..] => NAMES_OF_BACKENDS.contains(&name),
        [name, ..] => BACKENDS.contains(&name),
        [] => false,
    }
}

/// Floor, and place on it.
fn place(module: &str) -> Option<(usize, usize)> {
    let floors = FLOORS.iter().enumerate();
    let mut places = floors.filter_map(|(floor, modules)| {
        let at = modules.iter().position(|other| *other == module)?;
        Some((floor, at))
    });
    places.next()
}

/// The top-level module of one of the library's files; `lib.rs` is none.
fn module(file: &str) -> Option<&str> {
    let file = file.strip_prefix(LIBRARY)?;
    (file != "lib.rs").then(|| top(file))
}

fn top(file: &str) -> &str {
    let name = file.split('/').next().unwrap_or(file);
    name.strip_suffix(".rs").unwrap_or(name)
}
