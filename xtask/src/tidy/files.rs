//! What holds for a file by itself: its size, its head, and words that it must not have.

use super::{Source, Violation};

/// Lines of code that a file may have, tests at its end left out.
const MAX_LINES: usize = 400;
/// Bytes that a file may have.
const MAX_BYTES: u64 = 1 << 20;
/// Files that may be larger: the goldens and the embedded model.
const LARGE: &[&str] = &["tests/golden/", "crates/olmo2/assets/demo/", "Cargo.lock"];
/// The crate that may have `unsafe`.
const UNSAFE: &str = "crates/olmo2-kernels/";

/// Holds one file against the rules.
pub(super) fn check(source: &Source) -> Vec<Violation> {
    let Source { path, text, bytes } = source;
    let mut broken = Vec::new();
    let mut refuse = |line, rule| broken.push(Violation::new(path, line, rule));
    if *bytes > MAX_BYTES && !LARGE.iter().any(|large| path.starts_with(large)) {
        refuse(1, format!("{bytes} bytes, at most {MAX_BYTES}"));
    }
    if !path.ends_with(".rs") {
        return broken;
    }
    if !text.starts_with("//!") && !text.starts_with("#![cfg_attr") {
        refuse(1, "starts without `//!`".into());
    }
    let lines = lines_of_code(text);
    if lines > MAX_LINES {
        refuse(1, format!("{lines} lines of code, at most {MAX_LINES}"));
    }
    for (line, text) in (1..).zip(text.lines()) {
        if text.contains(concat!("to", "do!(")) || text.contains(concat!("unimpl", "emented!(")) {
            refuse(line, "something is left undone".into());
        }
        if text.contains(concat!("unsafe", " {")) && !path.starts_with(UNSAFE) {
            refuse(line, "`unsafe` outside olmo2-kernels".into());
        }
    }
    broken
}

/// Lines that hold code, up to a module of tests at the file's end.
fn lines_of_code(text: &str) -> usize {
    let body = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or(text);
    let code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    body.lines().filter(code).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_code_leave_out_comments_and_tests() {
        let text = "//! Head.\n\nfn a() {}\n// why\nfn b() {}\n#[cfg(test)]\nmod tests {\n    fn c() {}\n}\n";
        assert_eq!(lines_of_code(text), 2);
    }

    #[test]
    fn each_rule_names_its_line() {
        let text = concat!(
            "fn a() {\n    to",
            "do!()\n}\nfn b() {\n    unsafe",
            " {}\n}\n"
        );
        let violations = |path: &str| {
            let broken = check(&Source::new(path, text));
            broken.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let expected = [
            "crates/x/a.rs:1: starts without `//!`",
            "crates/x/a.rs:2: something is left undone",
            "crates/x/a.rs:5: `unsafe` outside olmo2-kernels",
        ];
        assert_eq!(violations("crates/x/a.rs"), expected);
        assert_eq!(violations("crates/olmo2-kernels/a.rs").len(), 2);
        assert_eq!(violations("a.md").len(), 0);
    }
}
