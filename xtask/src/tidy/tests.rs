//! Planted violations are found, and what is allowed is not.

use super::{Source, check};

/// The rules that planted files break. Each file is given its head.
fn violations(files: &[(&str, &str)]) -> Vec<String> {
    let sources = files.iter().map(|(path, text)| {
        let path = format!("crates/{path}");
        Source::new(&path, &format!("//! Head.\n{text}"))
    });
    let broken = check(&sources.collect::<Vec<_>>());
    broken.iter().map(ToString::to_string).collect()
}

const LIBRARY: (&str, &str) = (
    "olmo2/src/lib.rs",
    "mod cache; mod config; mod model; mod nn; mod weights; pub use nn::Linear;",
);

/// The library with some modules replaced.
fn library(planted: &[(&str, &str)]) -> Vec<String> {
    let plain = [
        ("olmo2/src/cache/mod.rs", "pub struct Cache;"),
        ("olmo2/src/config.rs", "pub struct Config;"),
        (
            "olmo2/src/model.rs",
            "use crate::nn::Linear; pub struct Model(Linear);",
        ),
        (
            "olmo2/src/nn.rs",
            "use crate::config::Config; pub struct Linear(Config);",
        ),
        ("olmo2/src/weights.rs", "pub struct Weights;"),
    ];
    let kept = |(path, _): &&(&str, &str)| !planted.iter().any(|(other, _)| other == path);
    let mut files = vec![LIBRARY];
    files.extend(plain.iter().filter(kept));
    files.extend(planted);
    violations(&files)
}

#[test]
fn uses_of_lower_floors_are_allowed() {
    assert_eq!(library(&[]), [""; 0]);
}

#[test]
fn a_use_of_a_higher_floor_is_told_with_its_line() {
    let found = library(&[
        (
            "olmo2/src/cache/mod.rs",
            "mod rows;\nuse crate::model::Model;\npub struct Cache(Model);",
        ),
        (
            "olmo2/src/cache/rows.rs",
            "fn rows() { crate::nn::make(); }",
        ),
    ]);
    let expected = [
        "crates/olmo2/src/cache/mod.rs:3: `crate::model::Model` (crates/olmo2/src/model.rs): \
         `model` is on a higher floor than `cache`",
        "crates/olmo2/src/cache/rows.rs:2: `crate::nn::make` (crates/olmo2/src/nn.rs): \
         `nn` is on a higher floor than `cache`",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_re_export_does_not_hide_a_higher_floor() {
    let found = library(&[("olmo2/src/weights.rs", "use crate::Linear;")]);
    let expected = "crates/olmo2/src/weights.rs:2: `crate::Linear` (crates/olmo2/src/nn.rs): \
         `nn` is on a higher floor than `weights`";
    assert_eq!(found, [expected]);
}

#[test]
fn on_one_floor_uses_lead_to_the_left() {
    let lib = ("olmo2/src/lib.rs", "mod cache; mod format;");
    let cache = ("olmo2/src/cache.rs", "pub struct Cache;");
    let format = ("olmo2/src/format.rs", "pub struct Part;");
    let to_left = ("olmo2/src/format.rs", "use crate::cache::Cache;");
    let to_right = ("olmo2/src/cache.rs", "use crate::format::Part;");
    assert_eq!(violations(&[lib, cache, to_left]), [""; 0]);
    let expected = "crates/olmo2/src/cache.rs:2: `crate::format::Part` \
         (crates/olmo2/src/format.rs): `format` stands on the same floor to the right of `cache`";
    assert_eq!(violations(&[lib, to_right, format]), [expected]);
}

#[test]
fn every_module_of_the_library_has_a_floor() {
    let found = violations(&[
        ("olmo2/src/lib.rs", "mod attic;\n#[cfg(test)]\nmod tests;"),
        ("olmo2/src/attic.rs", ""),
        ("olmo2/src/tests.rs", ""),
    ]);
    let expected = "crates/olmo2/src/lib.rs:2: module `attic` is on no floor of \
         xtask/src/tidy/floors.rs";
    assert_eq!(found, [expected]);
}

#[test]
fn crates_of_burn_are_named_where_they_may_be() {
    let found = violations(&[
        ("olmo2/src/lib.rs", "mod backend; mod config; mod nn;"),
        ("olmo2/src/backend.rs", "use burn_flex::FlexTensor;"),
        (
            "olmo2/src/config.rs",
            "// use burn::prelude::*;\nfn f() -> burn::Shape {}",
        ),
        (
            "olmo2/src/nn.rs",
            "use burn::prelude::*;\nuse burn_flex::Flex;\nuse burn::backend::Cuda;",
        ),
    ]);
    let expected = [
        "crates/olmo2/src/config.rs:3: `burn::Shape`: this module works on the host, without a \
         tensor library",
        "crates/olmo2/src/nn.rs:3: `burn_flex::Flex`: a backend is named in `backend` alone",
        "crates/olmo2/src/nn.rs:4: `burn::backend::Cuda`: a backend is named in `backend` alone",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_circle_is_reported_as_a_chain_of_files() {
    let found = violations(&[
        ("x/src/main.rs", "mod a; mod b; mod c;"),
        ("x/src/a.rs", "use crate::b::B;\npub struct A(B);"),
        ("x/src/b.rs", "\npub struct B(crate::c::C);"),
        ("x/src/c.rs", "use super::a::A;\npub struct C(A);"),
    ]);
    let expected = "crates/x/src/a.rs:2: a circle of 3 files: crates/x/src/a.rs:2 \
         (`crate::b::B`) -> crates/x/src/b.rs:3 (`crate::c::C`) -> crates/x/src/c.rs:2 \
         (`super::a::A`) -> crates/x/src/a.rs";
    assert_eq!(found, [expected]);
}

/// Whether two files are a circle: `a` uses `b::B`, and `b` is as given.
fn is_circle(root: &str, a: &str, b: &str) -> bool {
    let root = format!("mod a; mod b; {root}");
    let found = violations(&[
        ("x/src/lib.rs", &root),
        ("x/src/a.rs", a),
        ("x/src/b.rs", b),
    ]);
    found.iter().any(|rule| rule.contains("circle of 2 files"))
}

#[test]
fn a_circle_is_found_by_whatever_names_an_item() {
    let a = "use crate::b::B; pub struct A(B); pub fn f() {}";
    for (root, b) in [
        ("", "pub struct B; use crate::a::A;"),
        ("", "pub struct B; use crate::{a::{A as Other}};"),
        ("", "pub struct B; use crate::a;"),
        ("", "pub struct B; use crate::a::*;"),
        ("", "pub struct B; fn g() { crate::a::f() }"),
        ("", "pub struct B; fn g() { super::a::f() }"),
        ("", "pub struct B; fn g() { use crate::a::f; f() }"),
        ("", "pub struct B; impl From<crate::a::A> for B {}"),
        (
            "",
            "pub struct B; fn g() { println!(\"{}\", crate::a::f()) }",
        ),
        ("", "pub struct B; #[serde(with = crate::a::f)] struct C;"),
        ("pub use a::A;", "pub struct B; use crate::A;"),
        (
            "pub use a::A as Other;",
            "pub struct B; fn g(_: crate::Other) {}",
        ),
        ("pub(crate) use a::*;", "pub struct B; use crate::A;"),
        ("use a::A;", "pub struct B; use super::*; fn g() -> A {}"),
        ("use a::f;", "pub struct B; use super::*; fn g() { f() }"),
        (
            "use a::f;",
            "pub struct B; use super::*; fn g() { vec![f()]; }",
        ),
        (
            "pub mod face { pub use crate::a::A; }",
            "pub struct B; use crate::face::A;",
        ),
        (
            "pub use a as inner;",
            "pub struct B; fn g() { crate::inner::f() }",
        ),
    ] {
        assert!(is_circle(root, a, b), "{root} {b}");
    }
}

#[test]
fn what_belongs_to_tests_is_left_out() {
    let a = "use crate::b::B; pub struct A(B); pub fn f() {}";
    for b in [
        "pub struct B;",
        "pub struct B; // use crate::a::A;",
        "pub struct B; const TEXT: &str = \"crate::a::f()\";",
        "pub struct B; pub(in crate::a) fn g() {}",
        "pub struct B; fn g(x: X) { x.f(); let f = 1; f; }",
        "pub struct B; #[cfg(test)] use crate::a::A;",
        "pub struct B; #[cfg(all(test, unix))] mod tests { use crate::a::A; }",
        "pub struct B; fn g() { #[cfg(test)] crate::a::f!(); }",
        "pub struct B; impl B { #[cfg(test)] fn g() { crate::a::f() } }",
    ] {
        assert!(!is_circle("", a, b), "{b}");
    }
    let b = "pub struct B; #[cfg(not(test))] use crate::a::A;";
    assert!(is_circle("", a, b), "{b}");
}

#[test]
fn a_file_and_those_above_it_are_no_circle() {
    let found = violations(&[
        (
            "x/src/lib.rs",
            "pub mod a; use a::b::c::C; pub struct Root(C);",
        ),
        (
            "x/src/a/mod.rs",
            "pub mod b; use b::B; pub struct A(B, crate::Root);",
        ),
        (
            "x/src/a/b.rs",
            "pub mod c; use super::A; pub struct B(A, c::C);",
        ),
        (
            "x/src/a/b/c.rs",
            "use super::super::A; use super::B; use crate::Root; pub struct C(A, B, Root);",
        ),
    ]);
    assert_eq!(found, [""; 0]);
}

#[test]
fn files_of_one_folder_are_a_circle() {
    let found = violations(&[
        ("x/src/lib.rs", "mod a;"),
        (
            "x/src/a/mod.rs",
            "mod b; mod c; pub(crate) use b::B; pub(crate) use c::C;",
        ),
        ("x/src/a/b.rs", "use super::C;"),
        ("x/src/a/c.rs", "use crate::a::B;"),
    ]);
    // Neither file defines what it is used for: a module stands for what macros may define in it.
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn files_of_tests_alone_are_left_out() {
    let found = violations(&[
        ("x/src/lib.rs", "mod a; #[cfg(test)] mod b;"),
        ("x/src/a.rs", "pub struct A;"),
        ("x/src/b/mod.rs", "mod c; mod d;"),
        ("x/src/b/c.rs", "use super::d::D; pub struct C;"),
        ("x/src/b/d.rs", "use super::c::C; pub struct D;"),
    ]);
    assert_eq!(found, [""; 0]);
}
