//! A small HTTP/1.1 server on 127.0.0.1 that answers as the Hugging Face hub does.
//!
//! - `GET /api/models/{id}/revision/{revision}` and `/api/models/{id}/refs`: JSON;
//! - `/{id}/resolve/{revision}/{file}`: for safetensors a redirect to `/lfs/{sha256}` (here, or at
//!   another server in the place of the hub's storage) with the headers of large-file storage; for
//!   small files a relative redirect to `/api/resolve-cache/..`, as since 2025;
//! - `/lfs/..` and `/api/resolve-cache/..`: bytes, with ranges.
//!
//! Every socket has timeouts, so that no test can hang on it. It keeps a list of its requests.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use serde_json::json;

const SOCKET_TIMEOUT: Duration = Duration::from_secs(20);

/// Files of a commit.
pub(super) type Tree = BTreeMap<String, Vec<u8>>;

/// A repository: names of revisions, and the files of commits.
#[derive(Default)]
pub(super) struct Repo {
    pub(super) branches: BTreeMap<String, String>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) commits: BTreeMap<String, Tree>,
}

/// What the server holds and how it misbehaves; tests change it while it runs.
#[derive(Default)]
pub(super) struct State {
    pub(super) repos: BTreeMap<String, Repo>,
    /// The token without which the hub answers 401.
    pub(super) token: Option<String>,
    /// With a valid token, still 403 and `GatedRepo`.
    pub(super) gated: bool,
    /// Answers 404 without saying what is missing.
    pub(super) silent_404: bool,
    /// Where `/lfs/` lies, if not here.
    pub(super) storage: Option<String>,
    /// Every download of `/lfs/` ends after so many bytes of its body, so many times.
    pub(super) drop_after: Option<(usize, usize)>,
    /// Ranges are ignored.
    pub(super) no_ranges: bool,
    /// Answers of `/lfs/` have their first byte changed.
    pub(super) corrupt: bool,
    /// `/lfs/` sends half of its body and then nothing more.
    pub(super) stall: bool,
    /// Every request is answered with this status.
    pub(super) status: Option<u16>,
}

/// One request as it came.
#[derive(Debug, Clone, Default)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) range: Option<String>,
    pub(super) authorization: Option<String>,
}

/// The running server; it stops when dropped.
pub(super) struct HubServer {
    address: String,
    state: Arc<Mutex<State>>,
    log: Arc<Mutex<Vec<Request>>>,
    thread: Option<JoinHandle<()>>,
}

impl HubServer {
    pub(super) fn start(state: State) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(state));
        let log = Arc::new(Mutex::new(Vec::new()));
        let (shared, requests) = (Arc::clone(&state), Arc::clone(&log));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, log) = (Arc::clone(&shared), Arc::clone(&requests));
                let mut connection = Connection { stream, state, log };
                if connection.is_stop() {
                    return;
                }
                // A silent download must not keep other requests waiting.
                std::thread::spawn(move || connection.serve());
            }
        });
        Self {
            address,
            state,
            log,
            thread: Some(thread),
        }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The requests since the last call.
    pub(super) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }
}

impl Drop for HubServer {
    fn drop(&mut self) {
        // A connection that says nothing HTTP is the sign to stop.
        if let Ok(mut stream) = TcpStream::connect(&self.address) {
            let _ = stream.write_all(b"!");
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// SHA-256 in hexadecimal: the hub's ETag of a large file.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

/// Git's hash of a blob: the hub's ETag of a small file.
pub(super) fn git_hash(bytes: &[u8]) -> String {
    let blob = [format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat();
    hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, &blob).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Connection {
    stream: TcpStream,
    state: Arc<Mutex<State>>,
    log: Arc<Mutex<Vec<Request>>>,
}

/// A status line, headers and a body.
struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn error(status: u16, code: &str) -> Self {
        let body = json!({ "error": code }).to_string();
        Self::new(status, body).with("X-Error-Code", code)
    }
}

impl Connection {
    fn is_stop(&mut self) -> bool {
        let _ = self.stream.set_read_timeout(Some(SOCKET_TIMEOUT));
        let _ = self.stream.set_write_timeout(Some(SOCKET_TIMEOUT));
        let mut first = [0];
        matches!(self.stream.peek(&mut first), Ok(1) if first[0] == b'!')
    }

    fn serve(&mut self) {
        let Some(request) = self.read() else { return };
        self.log.lock().unwrap().push(request.clone());
        let mut state = self.state.lock().unwrap();
        let answer = answer(&state, &request);
        let sent = sent_bytes(&mut state, &request, answer.body.len());
        let stalls = state.stall && request.path.starts_with("/lfs/");
        drop(state);
        let body = match request.method.as_str() {
            "HEAD" => &[],
            _ => &answer.body[..sent],
        };
        let mut head = format!("HTTP/1.1 {} Status\r\nConnection: close\r\n", answer.status);
        head += &format!("Content-Length: {}\r\n", answer.body.len());
        for (name, value) in answer.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let _ = self.stream.write_all(format!("{head}\r\n").as_bytes());
        let _ = self.stream.write_all(body);
        if stalls {
            // Ends when the client gives up, or after the socket's timeout.
            let _ = self.stream.read(&mut [0]);
        }
    }

    fn read(&self) -> Option<Request> {
        let mut lines = BufReader::new(&self.stream).lines();
        let first = lines.next()?.ok()?;
        let mut words = first.split(' ').map(str::to_owned);
        let mut request = Request {
            method: words.next()?,
            path: words.next()?,
            ..Request::default()
        };
        for line in lines {
            let line = line.ok()?;
            let Some((name, value)) = line.split_once(": ") else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "range" => request.range = Some(value.into()),
                "authorization" => request.authorization = Some(value.into()),
                _ => {}
            }
        }
        Some(request)
    }
}

/// How much of a body of `length` bytes is sent.
fn sent_bytes(state: &mut State, request: &Request, length: usize) -> usize {
    if !request.path.starts_with("/lfs/") || request.method == "HEAD" {
        return length;
    }
    match &mut state.drop_after {
        Some((bytes, times @ 1..)) => {
            *times -= 1;
            length.min(*bytes)
        }
        _ if state.stall => length / 2,
        _ => length,
    }
}

fn answer(state: &State, request: &Request) -> Answer {
    if let Some(status) = state.status {
        return Answer::new(status, "no");
    }
    let path = request.path.split('?').next().unwrap();
    if let Some(sha) = path.strip_prefix("/lfs/") {
        return storage(state, request, sha);
    }
    let expected = state.token.as_ref().map(|token| format!("Bearer {token}"));
    if expected.is_some() && expected != request.authorization {
        return Answer::new(401, "Invalid username or password.");
    }
    if state.gated {
        return Answer::error(403, "GatedRepo");
    }
    let found = match path.strip_prefix("/api/models/") {
        Some(rest) => api(state, rest),
        None => match path.strip_prefix("/api/resolve-cache/models/") {
            Some(rest) => small_file(state, request, rest),
            None => resolve(state, &path[1..]),
        },
    };
    found.unwrap_or_else(|code| match state.silent_404 {
        true => Answer::new(404, "not found"),
        false => Answer::error(404, code),
    })
}

/// The repository, the commit that `revision` is, and its files.
fn find<'a>(
    state: &'a State,
    id: &str,
    revision: &str,
) -> Result<(String, &'a Tree), &'static str> {
    let repo = state.repos.get(id).ok_or("RepoNotFound")?;
    let revision = revision.replace("%2F", "/");
    let named = repo.branches.get(&revision).or(repo.tags.get(&revision));
    let commit = named.unwrap_or(&revision);
    let tree = repo.commits.get(commit).ok_or("RevisionNotFound")?;
    Ok((commit.clone(), tree))
}

fn api(state: &State, path: &str) -> Result<Answer, &'static str> {
    if let Some(id) = path.strip_suffix("/refs") {
        let repo = state.repos.get(id).ok_or("RepoNotFound")?;
        let list = |names: &BTreeMap<String, String>, kind: &str| {
            let entry = |(name, commit): (&String, &String)| json!({ "name": name, "ref": format!("refs/{kind}/{name}"), "targetCommit": commit });
            names.iter().map(entry).collect::<Vec<_>>()
        };
        let body = json!({
            "branches": list(&repo.branches, "heads"),
            "converts": [],
            "tags": list(&repo.tags, "tags"),
        });
        return Ok(Answer::new(200, body.to_string()));
    }
    let (id, revision) = path.split_once("/revision/").ok_or("RepoNotFound")?;
    let (commit, tree) = find(state, id, revision)?;
    let siblings = tree.keys().map(|name| json!({ "rfilename": name }));
    let body = json!({
        "id": id, "sha": commit, "private": false,
        "siblings": siblings.collect::<Vec<_>>(),
    });
    Ok(Answer::new(200, body.to_string()))
}

/// The redirect to where a file lies.
fn resolve(state: &State, path: &str) -> Result<Answer, &'static str> {
    let (id, rest) = path.split_once("/resolve/").ok_or("RepoNotFound")?;
    let (revision, file) = rest.split_once('/').ok_or("EntryNotFound")?;
    let (commit, tree) = find(state, id, revision)?;
    let bytes = tree.get(file).ok_or("EntryNotFound")?;
    let is_large = file.ends_with(".safetensors");
    let (status, etag, location) = if is_large {
        let sha = sha256(bytes);
        let base = state.storage.as_deref().unwrap_or_default();
        (302, sha.clone(), format!("{base}/lfs/{sha}?Signature=key"))
    } else {
        let location = format!("/api/resolve-cache/models/{id}/{commit}/{file}");
        (307, git_hash(bytes), location)
    };
    let answer = Answer::new(status, "moved")
        .with("Location", location)
        .with("X-Repo-Commit", commit)
        // Of the redirect, not of the file.
        .with("ETag", "\"redirect\"");
    Ok(match is_large {
        true => answer
            .with("X-Linked-Etag", format!("\"{etag}\""))
            .with("X-Linked-Size", bytes.len().to_string()),
        false => answer,
    })
}

fn small_file(state: &State, request: &Request, path: &str) -> Result<Answer, &'static str> {
    let mut parts: Vec<&str> = path.split('/').collect();
    let file = parts.pop().ok_or("EntryNotFound")?;
    let commit = parts.pop().ok_or("EntryNotFound")?;
    let (commit, tree) = find(state, &parts.join("/"), commit)?;
    let bytes = tree.get(file).ok_or("EntryNotFound")?;
    Ok(ranged(state, request, bytes)
        .with("ETag", format!("W/\"{}\"", git_hash(bytes)))
        .with("X-Repo-Commit", commit))
}

/// The storage behind the hub: it knows contents by their hash, and wants no token.
fn storage(state: &State, request: &Request, sha: &str) -> Answer {
    let trees = state.repos.values().flat_map(|repo| repo.commits.values());
    let mut contents = trees.flat_map(BTreeMap::values);
    match contents.find(|bytes| sha256(bytes) == sha) {
        Some(bytes) => ranged(state, request, bytes).with("ETag", "\"of-the-storage\""),
        None => Answer::new(403, "AccessDenied"),
    }
}

/// The bytes that the request asks for.
fn ranged(state: &State, request: &Request, bytes: &[u8]) -> Answer {
    let mut bytes = bytes.to_vec();
    if state.corrupt
        && let Some(first) = bytes.first_mut()
    {
        *first ^= 1;
    }
    let range = request.range.as_deref().filter(|_| !state.no_ranges);
    let start = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
    let Some(start) = start.and_then(|start| start.parse::<usize>().ok()) else {
        return Answer::new(200, bytes);
    };
    let total = bytes.len();
    if start >= total {
        return Answer::new(416, "").with("Content-Range", format!("bytes */{total}"));
    }
    let range = format!("bytes {start}-{}/{total}", total - 1);
    Answer::new(206, &bytes[start..]).with("Content-Range", range)
}
