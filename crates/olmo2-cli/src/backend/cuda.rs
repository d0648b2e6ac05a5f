//! Whether CUDA is installed: its driver, its run-time compiler and that one's headers, found
//! without touching any of them.

use std::env;
use std::path::{Path, PathBuf};

use crate::messages::{Failure, Result};

/// # Errors
/// The driver, the compiler or its headers are missing.
#[cfg_attr(
    not(feature = "cuda"),
    expect(dead_code, reason = "tests run its parts")
)]
pub(super) fn is_installed() -> Result<()> {
    let missing = |what: &str, hint: &str| {
        let message = format!("backend `cuda` cannot start: {what}");
        Err(Failure::new(message, hint))
    };
    if !cfg!(target_os = "linux") {
        return Ok(());
    }
    let folders = library_folders();
    if !holds(&folders, "libcuda.so") {
        return missing(
            "found no `libcuda.so.1`",
            "install the NVIDIA driver, or choose another `--backend`",
        );
    }
    if !holds(&folders, "libnvrtc.so") {
        return missing(
            "found no `libnvrtc.so`, which compiles kernels",
            "install the CUDA toolkit, or add the folder of libnvrtc to `LD_LIBRARY_PATH`",
        );
    }
    let toolkit = toolkit();
    if !toolkit.as_deref().is_some_and(has_headers) {
        return missing(
            "found no `include/cuda_runtime.h` of a CUDA toolkit, which its kernels include",
            "set `CUDA_PATH` to the toolkit's folder",
        );
    }
    Ok(())
}

/// Where burn looks for the toolkit (cubecl-cuda, `install::cuda_path`).
fn toolkit() -> Option<PathBuf> {
    if let Some(path) = env::var_os("CUDA_PATH") {
        return Some(path.into());
    }
    let usual = ["/usr/local/cuda", "/opt/cuda", "/usr"];
    usual
        .map(PathBuf::from)
        .into_iter()
        .find(|folder| has_headers(folder))
}

fn has_headers(folder: &Path) -> bool {
    folder.join("include/cuda_runtime.h").is_file()
}

/// Folders that the dynamic linker searches, as far as files show.
fn library_folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = env::var_os("LD_LIBRARY_PATH")
        .map(|paths| env::split_paths(&paths).collect())
        .unwrap_or_default();
    folders.extend(conf_folders(Path::new("/etc/ld.so.conf.d")));
    let triple = format!("{}-linux-gnu", env::consts::ARCH);
    for base in ["/lib", "/usr/lib", "/usr/local/lib"] {
        folders.push(Path::new(base).join(&triple));
        folders.push(base.into());
        folders.push(format!("{base}64").into());
    }
    let own = ["/usr/lib/wsl/lib", "/usr/local/nvidia/lib64"];
    folders.extend(own.map(PathBuf::from));
    folders.extend(toolkit().map(|toolkit| toolkit.join("lib64")));
    folders
}

/// The folders that `ldconfig` searches.
fn conf_folders(conf: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(conf).into_iter().flatten().flatten();
    let texts = files.filter_map(|file| std::fs::read_to_string(file.path()).ok());
    let lines = |text: String| {
        let lines = text.lines().map(str::trim);
        let folders = lines.filter(|line| line.starts_with('/'));
        folders.map(PathBuf::from).collect::<Vec<_>>()
    };
    texts.flat_map(lines).collect()
}

/// Whether a folder contains `name`, or `name` with a version appended.
fn holds(folders: &[PathBuf], name: &str) -> bool {
    let entries = folders
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok());
    entries
        .flatten()
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_found_with_its_version_and_not_in_a_folder_without_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let folders = [folder.path().to_owned(), "/no/such/folder".into()];
        assert!(!holds(&folders, "libcuda.so"));
        std::fs::write(folder.path().join("libcuda.so.1"), "").expect("written");
        assert!(holds(&folders, "libcuda.so"));
    }

    #[test]
    fn folders_of_ldconfig_are_read_and_comments_are_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let conf = "# NVIDIA\n/usr/local/cuda/lib64\n\ninclude x\n";
        std::fs::write(folder.path().join("cuda.conf"), conf).expect("written");
        let expected = [PathBuf::from("/usr/local/cuda/lib64")];
        assert_eq!(conf_folders(folder.path()), expected);
    }
}
