//! The hub, imitated by a server on this machine: what the tests of its parts share.

mod cache;
mod checkpoint;
mod faults;
mod fetch;
mod server;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use olmo2::hub::{Files, Hub, HubError, HubOptions, Notice, Progress};
use tempfile::TempDir;

use server::{HubServer, Repo, State, Tree};

const ID: &str = "org/tiny";
const STEP: &str = "stage1-step140000-tokens294B";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A commit hash of one digit.
fn commit(digit: char) -> String {
    digit.to_string().repeat(40)
}

/// A mebibyte that differs with `seed`: more than the buffers on the way.
fn weights(seed: u32) -> Vec<u8> {
    let next = |x: &mut u32| {
        *x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some((*x >> 24) as u8)
    };
    std::iter::repeat_n((), 1 << 20)
        .scan(seed, |x, ()| next(x))
        .collect()
}

fn tree(files: &[(&str, Vec<u8>)]) -> Tree {
    let files = files
        .iter()
        .map(|(name, bytes)| ((*name).into(), bytes.clone()));
    files.collect()
}

/// `org/tiny` with `main` and one checkpoint, which share their small files.
fn tiny() -> State {
    let files = |seed| {
        tree(&[
            ("README.md", b"# tiny".to_vec()),
            ("config.json", b"{}".to_vec()),
            ("tokenizer.json", b"{\"model\":{}}".to_vec()),
            (WEIGHTS, weights(seed)),
        ])
    };
    let repo = Repo {
        branches: [("main", '1'), (STEP, '2')]
            .map(|(name, digit)| (name.into(), commit(digit)))
            .into(),
        tags: BTreeMap::new(),
        commits: [(commit('1'), files(1)), (commit('2'), files(2))].into(),
    };
    State {
        repos: [(ID.to_owned(), repo)].into(),
        ..State::default()
    }
}

/// `org/tiny` with these files at `main`.
fn repo_of(files: &[(&str, Vec<u8>)]) -> State {
    let repo = Repo {
        branches: [("main".into(), commit('1'))].into(),
        tags: BTreeMap::new(),
        commits: [(commit('1'), tree(files))].into(),
    };
    State {
        repos: [(ID.to_owned(), repo)].into(),
        ..State::default()
    }
}

/// A server, a cache, and settings that know only these two.
struct Setup {
    server: HubServer,
    cache: TempDir,
    options: HubOptions,
}

impl Setup {
    fn new(state: State) -> Self {
        let server = HubServer::start(state);
        let cache = tempfile::tempdir().unwrap();
        let mut options = HubOptions::new(cache.path());
        options.endpoint = server.url();
        // Bounds a test, and is far above what a busy machine takes.
        options.timeout = Duration::from_secs(20);
        options.metadata_timeout = Duration::from_secs(20);
        options.retry_wait = Duration::from_millis(1);
        Self {
            server,
            cache,
            options,
        }
    }

    fn fetch(&self, revision: &str) -> Result<PathBuf, HubError> {
        self.fetch_seen(revision).0
    }

    fn fetch_seen(&self, revision: &str) -> (Result<PathBuf, HubError>, Seen) {
        let mut seen = Seen::default();
        let hub = Hub::new(self.options.clone());
        (hub.fetch(ID, revision, Files::Model, &mut seen), seen)
    }

    fn blob(&self, etag: &str) -> PathBuf {
        self.cache.path().join("models--org--tiny/blobs").join(etag)
    }

    /// Ranges of the downloads from storage.
    fn downloads(&self) -> Vec<Option<String>> {
        let requests = self.server.requests().into_iter();
        let storage = requests.filter(|request| request.path.starts_with("/lfs/"));
        storage.map(|request| request.range).collect()
    }
}

/// Remembers the progress.
#[derive(Default)]
struct Seen {
    bytes: Vec<(String, u64, Option<u64>)>,
    notices: Vec<Notice>,
}

impl Progress for Seen {
    fn bytes(&mut self, file: &str, done: u64, total: Option<u64>) {
        self.bytes.push((file.into(), done, total));
    }

    fn notice(&mut self, notice: &Notice) {
        self.notices.push(notice.clone());
    }
}

/// Every file beneath a folder, and where links lead.
fn listing(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(current) = folders.pop() {
        for entry in fs::read_dir(current).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            match fs::read_link(&path) {
                Ok(target) => lines.push(format!("{name} -> {}", target.display())),
                Err(_) if path.is_dir() => folders.push(path),
                Err(_) => lines.push(name),
            }
        }
    }
    lines.sort();
    lines
}
