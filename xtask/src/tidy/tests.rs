//! Planted faults: what tidy must find, and what it must leave alone.

use super::*;

/// The violations of a workspace of these files, without those of files' heads.
fn told(files: &[(&str, &str)]) -> Vec<String> {
    let head = |(path, text): &(&str, &str)| Source::new(path, &format!("//! Head.\n{text}"));
    let sources: Vec<Source> = files.iter().map(head).collect();
    check(&sources).iter().map(ToString::to_string).collect()
}

/// The library with these modules, each a file of its own.
fn library(modules: &[(&str, &str)]) -> Vec<String> {
    let declared: String = modules
        .iter()
        .map(|(name, _)| format!("mod {name};\n"))
        .collect();
    let paths: Vec<String> = modules
        .iter()
        .map(|(name, _)| format!("crates/olmo2/src/{name}.rs"))
        .collect();
    let mut files = vec![("crates/olmo2/src/lib.rs", declared.as_str())];
    files.extend(
        paths
            .iter()
            .zip(modules)
            .map(|(path, (_, text))| (path.as_str(), *text)),
    );
    told(&files)
}

#[test]
fn an_upward_use_is_found() {
    let found = library(&[
        ("cache", "use crate::model::Olmo2;"),
        ("model", "pub struct Olmo2;"),
    ]);
    let expected = "crates/olmo2/src/cache.rs:2: `crate::model::Olmo2` \
                    (crates/olmo2/src/model.rs): `model` is on a higher floor than `cache`";
    assert_eq!(found, [expected]);
}

#[test]
fn a_use_of_a_neighbor_to_the_right_is_found_and_to_the_left_is_not() {
    let right = library(&[
        ("cache", "use crate::format::open;"),
        ("format", "pub fn open() {}"),
    ]);
    assert_eq!(right.len(), 1);
    assert!(
        right[0].contains("stands on the same floor to the right of"),
        "{right:?}"
    );
    let left = library(&[
        ("cache", "pub struct Run;"),
        ("format", "use crate::cache::Run;"),
    ]);
    assert_eq!(left, [""; 0]);
}

#[test]
fn an_inline_path_and_a_re_export_at_the_root_count() {
    let inline = library(&[
        ("cache", "fn f() { crate::model::g() }"),
        ("model", "pub fn g() {}"),
    ]);
    assert_eq!(inline.len(), 1);
    let lib = "mod cache;\nmod model;\npub use model::Olmo2;\n";
    let through_root = told(&[
        ("crates/olmo2/src/lib.rs", lib),
        ("crates/olmo2/src/cache.rs", "use crate::Olmo2;"),
        ("crates/olmo2/src/model.rs", "pub struct Olmo2;"),
    ]);
    assert_eq!(through_root.len(), 1, "{through_root:?}");
}

#[test]
fn a_module_on_no_floor_is_found() {
    let found = library(&[("surprise", "")]);
    assert_eq!(found.len(), 1);
    assert!(
        found[0].contains("module `surprise` is on no floor"),
        "{found:?}"
    );
}

const PARENT: &str = "mod a;\nmod b;\nmod c;\n";

/// A crate of three neighbors.
fn neighbors(a: &str, b: &str, c: &str) -> Vec<String> {
    told(&[
        ("crates/x/src/lib.rs", PARENT),
        ("crates/x/src/a.rs", a),
        ("crates/x/src/b.rs", b),
        ("crates/x/src/c.rs", c),
    ])
}

#[test]
fn a_circle_is_found_with_its_chain() {
    let found = neighbors(
        "use crate::b::B;\npub struct A;",
        "use super::a::A;\npub struct B;",
        "",
    );
    let expected = "crates/x/src/a.rs:2: a circle of 2 files: crates/x/src/a.rs:2 \
                    (`crate::b::B`) -> crates/x/src/b.rs:2 (`super::a::A`) -> crates/x/src/a.rs";
    assert_eq!(found, [expected]);
}

#[test]
fn a_circle_of_three_through_a_re_export_and_an_inline_path_is_found() {
    let found = neighbors(
        "pub use crate::b::B;\npub fn f() {}",
        "pub struct B;\nfn g() { crate::c::h() }",
        // `B` is taken from `a`, and is defined in `b`; `f` is `a`'s.
        "use crate::a::B;\npub fn h() { crate::a::f() }",
    );
    assert!(
        found
            .iter()
            .any(|line| line.contains("a circle of 3 files")),
        "{found:?}"
    );
    let through = neighbors(
        "pub use crate::b::B;",
        "use crate::c::C;\npub struct B;",
        // Not a use of `a`, but of `b`, where `B` is defined.
        "use crate::a::B;\npub struct C;",
    );
    assert!(
        through
            .iter()
            .any(|line| line.contains("a circle of 2 files")),
        "{through:?}"
    );
}

#[test]
fn a_parent_and_its_files_are_no_circle() {
    let found = told(&[
        ("crates/x/src/lib.rs", "mod a;\npub struct Root;"),
        (
            "crates/x/src/a/mod.rs",
            "mod deep;\nuse deep::D;\npub struct A;",
        ),
        (
            "crates/x/src/a/deep.rs",
            "use super::A;\nuse crate::Root;\npub struct D;",
        ),
    ]);
    assert_eq!(found, [""; 0]);
}

#[test]
fn tests_are_left_out() {
    let test = "#[cfg(test)]\nuse crate::b::B;\npub struct A;\n#[cfg(test)]\nmod tests {\n    \
                use crate::b::B;\n}";
    assert_eq!(
        neighbors(test, "use crate::a::A;\npub struct B;", ""),
        [""; 0]
    );
}

#[test]
fn a_backend_is_named_in_the_seam_alone() {
    let found = library(&[
        ("cache", "use burn_flex::FlexTensor;"),
        ("backend", "use burn_flex::F;"),
    ]);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("crates/olmo2/src/cache.rs:2: `burn_flex::FlexTensor`"));
    let host = library(&[("sampling", "use burn::prelude::*;")]);
    assert_eq!(host.len(), 1, "{host:?}");
}

/// The house holds its own rules.
#[test]
fn the_workspace_breaks_no_rule() {
    run().unwrap_or_else(|error| panic!("{error}"));
}
