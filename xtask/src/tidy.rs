//! House rules as a test: the arrows of the design, file sizes, file heads.

use anyhow::{Result, bail};
use xshell::{Shell, cmd};

use crate::root::root;

/// Lines of code that a file may have, tests at its end left out.
const MAX_LINES: usize = 400;
/// Bytes that a file may have.
const MAX_BYTES: u64 = 1 << 20;
/// Files that may be larger: the goldens and the embedded model.
const LARGE: &[&str] = &["tests/golden/", "crates/olmo2/assets/demo/", "Cargo.lock"];

/// Modules of the library and what they must not see: `crate::NAME` or a word in their text.
const ARROWS: &[(&str, &[&str])] = &[
    (
        "sampling",
        &["burn::", "Backend", "crate::model", "crate::generate"],
    ),
    (
        "tokenizer",
        &["burn::", "Backend", "crate::model", "crate::generate"],
    ),
    (
        "chat",
        &["burn::", "Backend", "crate::model", "crate::generate"],
    ),
    (
        "config",
        &[
            "burn::",
            "crate::rope",
            "crate::model",
            "crate::weights",
            "crate::record",
        ],
    ),
    (
        "model",
        &[
            "std::fs",
            "std::path",
            "crate::record",
            "crate::weights",
            "crate::hub",
        ],
    ),
    (
        "pass",
        &[
            "std::fs",
            "std::path",
            "crate::record",
            "crate::weights",
            "crate::hub",
        ],
    ),
    (
        "cache",
        &[
            "std::fs",
            "std::path",
            "crate::record",
            "crate::weights",
            "crate::hub",
        ],
    ),
    (
        "linear",
        &[
            "std::fs",
            "std::path",
            "crate::record",
            "crate::weights",
            "crate::hub",
        ],
    ),
    ("rope", &["crate::model", "crate::pass", "crate::cache"]),
    (
        "record",
        &["crate::generate", "crate::sampling", "crate::tokenizer"],
    ),
];

/// Crates of concrete backends, and where the library may name one: a seam, and the demo's example.
const BACKENDS: &[&str] = &["burn_flex", "burn_ndarray", "burn_wgpu", "burn_cuda"];
const SEAMS: &[&str] = &[
    "crates/olmo2/src/cast.rs",
    "crates/olmo2/src/cast/",
    "crates/olmo2/src/demo.rs",
];

/// Crates that the library's default features must not bring in.
const FOREIGN: &[&str] = &[
    "burn-wgpu",
    "burn-cuda",
    "cubecl-wgpu",
    "cubecl-cuda",
    "tokio",
    "axum",
];

pub(crate) fn check(sh: &Shell) -> Result<()> {
    let listed = cmd!(sh, "git ls-files --cached --others --exclude-standard").read()?;
    let files: Vec<&str> = listed
        .lines()
        .filter(|file| root().join(file).is_file())
        .collect();
    let mut broken = Vec::new();
    for file in &files {
        broken.extend(file_rules(sh, file)?);
    }
    for (module, forbidden) in ARROWS {
        broken.extend(module_arrows(sh, &files, module, forbidden)?);
    }
    broken.extend(concrete_backends(sh, &files)?);
    broken.extend(dependency_arrows(sh)?);
    match broken.is_empty() {
        true => Ok(()),
        false => bail!("house rules:\n  {}", broken.join("\n  ")),
    }
}

fn file_rules(sh: &Shell, file: &str) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    let bytes = std::fs::metadata(root().join(file))?.len();
    if bytes > MAX_BYTES && !LARGE.iter().any(|large| file.starts_with(large)) {
        broken.push(format!("{file}: {bytes} bytes, at most {MAX_BYTES}"));
    }
    if !file.ends_with(".rs") {
        return Ok(broken);
    }
    let text = sh.read_file(file)?;
    if !text.starts_with("//!") && !text.starts_with("#![cfg_attr") {
        broken.push(format!("{file}: starts without `//!`"));
    }
    if text.contains(concat!("to", "do!(")) || text.contains(concat!("unimpl", "emented!(")) {
        broken.push(format!("{file}: something is left undone"));
    }
    let lines = lines_of_code(&text);
    if lines > MAX_LINES {
        broken.push(format!(
            "{file}: {lines} lines of code, at most {MAX_LINES}"
        ));
    }
    if text.contains(concat!("unsafe", " {")) && !file.starts_with("crates/olmo2-kernels/") {
        broken.push(format!("{file}: `unsafe` outside olmo2-kernels"));
    }
    Ok(broken)
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

/// Holds one module of the library (`NAME.rs` and the folder `NAME`) against what it must not see.
fn module_arrows(
    sh: &Shell,
    files: &[&str],
    module: &str,
    forbidden: &[&str],
) -> Result<Vec<String>> {
    let file = format!("crates/olmo2/src/{module}.rs");
    let folder = format!("crates/olmo2/src/{module}/");
    let mut broken = Vec::new();
    for path in files
        .iter()
        .filter(|path| **path == file || path.starts_with(&folder))
    {
        for word in words_in_code(sh, path, forbidden)? {
            broken.push(format!("{path}: `{module}` must not see `{word}`"));
        }
    }
    Ok(broken)
}

/// Holds the library to generic code: a backend's own crate is named at its seams alone.
fn concrete_backends(sh: &Shell, files: &[&str]) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    let is_generic = |path: &str| {
        path.starts_with("crates/olmo2/src/") && !SEAMS.iter().any(|seam| path.starts_with(seam))
    };
    for path in files.iter().filter(|path| is_generic(path)) {
        for word in words_in_code(sh, path, BACKENDS)? {
            broken.push(format!("{path}: names the backend `{word}` outside `cast`"));
        }
    }
    Ok(broken)
}

/// Those of `words` that a file's code holds, one for each line; comments may say what they like.
fn words_in_code<'w>(sh: &Shell, path: &str, words: &[&'w str]) -> Result<Vec<&'w str>> {
    let text = sh.read_file(path)?;
    let code = |line: &&str| !line.trim_start().starts_with("//");
    let lines = text.lines().filter(code);
    let word = |line: &str| words.iter().copied().find(|word| line.contains(word));
    Ok(lines.filter_map(word).collect())
}

/// Arrows between crates, by `cargo tree`.
fn dependency_arrows(sh: &Shell) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    let names = |package: &str| -> Result<Vec<String>> {
        let tree = cmd!(sh, "cargo tree -p {package} -e normal --prefix none");
        let tree = tree.quiet().read()?;
        Ok(tree
            .lines()
            .filter_map(|line| line.split(' ').next())
            .map(str::to_owned)
            .collect())
    };
    for name in names("olmo2")? {
        if FOREIGN.contains(&name.as_str()) || name == "olmo2-cli" {
            broken.push(format!("olmo2's default features bring in `{name}`"));
        }
    }
    for name in names("olmo2-kernels")? {
        if name.starts_with("burn") || name == "olmo2" {
            broken.push(format!("olmo2-kernels depends on `{name}`"));
        }
    }
    Ok(broken)
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
    fn rules_find_what_breaks_them() {
        let sh = Shell::new().expect("a shell");
        sh.change_dir(root());
        let found = module_arrows(
            &sh,
            &["crates/olmo2/src/model.rs"],
            "model",
            &["burn::prelude"],
        );
        assert_eq!(found.expect("the file is there").len(), 1);
    }

    #[test]
    fn a_backend_is_found_outside_its_seams_alone() {
        let sh = Shell::new().expect("a shell");
        let folder = sh.create_temp_dir().expect("a folder");
        sh.change_dir(folder.path());
        let files = ["crates/olmo2/src/x.rs", "crates/olmo2/src/cast/flex.rs"];
        for file in files {
            let text = "// burn_wgpu is not named\nuse burn_flex::FlexTensor;\n";
            sh.write_file(file, text).expect("written");
        }
        let found = concrete_backends(&sh, &files).expect("the files are there");
        let expected = "crates/olmo2/src/x.rs: names the backend `burn_flex` outside `cast`";
        assert_eq!(found, [expected]);
    }
}
