//! Requests to a hub: timeouts, redirects that do not leak the token, and errors by status.
//!
//! hf-hub 0.5 downloads too, but its agents have no timeouts, so that a silent server hangs them
//! forever; its retries ask for `stream_position()` of a file opened for appending, which is 0 before
//! the first write, so that a resumed file gets its beginning twice; and it sends the token to any
//! port of the same host. So the crate gives names, URLs and the cache's layout
//! (`hf_hub::{Repo, Cache}`), and the requests are made here, with the same client (ureq).

use std::io;
use std::time::Duration;

use hf_hub::api::RepoInfo;
use hf_hub::{Repo, RepoType};
use serde::de::DeserializeOwned;
use ureq::http::header::{ETAG, LOCATION};
use ureq::http::{HeaderMap, Response, Uri};
use ureq::{Agent, Body, Error, Proxy, ResponseExt};

use super::names::{is_file_name, is_sha256};
use super::{HubError, HubOptions};

const MAX_REDIRECTS: usize = 10;
/// Largest answer of the API that is read, far above a list of thousands of revisions.
const MAX_JSON: u64 = 64 << 20;

/// An agent with the hub's address and the token.
pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
    timeout: Duration,
    metadata_timeout: Duration,
}

/// The hub's metadata of one file, before the download.
#[derive(Debug)]
pub(super) struct FileMetadata {
    /// Name of the file among the cache's blobs: SHA-256 of a large file, git's hash of a small one.
    pub(super) etag: String,
    /// Bytes, if the server says.
    pub(super) size: Option<u64>,
    /// The content's SHA-256, for a file in large-file storage.
    pub(super) sha256: Option<String>,
}

/// The kind of a request.
#[derive(Clone, Copy, PartialEq)]
enum Request {
    /// An answer of the API.
    Api,
    /// The headers of a file.
    Head,
    /// The bytes of a file from this one on.
    From(u64),
}

impl Client {
    pub(super) fn new(options: &HubOptions) -> Self {
        // A server on this machine is never behind a proxy.
        let host = options.endpoint.parse::<Uri>().ok();
        let host = host.as_ref().and_then(Uri::host).unwrap_or_default();
        let local = matches!(host, "localhost" | "[::1]") || host.starts_with("127.");
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(if local { None } else { Proxy::try_from_env() })
            .user_agent(concat!("olmo2/", env!("CARGO_PKG_VERSION")))
            // Sizes and ranges are those of the file, not of a compressed form.
            .accept_encoding("identity")
            .timeout_resolve(Some(options.timeout))
            .timeout_connect(Some(options.timeout))
            .timeout_per_write(Some(options.timeout))
            .build();
        Self {
            agent: agent.into(),
            endpoint: options.endpoint.clone(),
            token: options.token.clone(),
            timeout: options.timeout,
            metadata_timeout: options.metadata_timeout,
        }
    }

    /// Commit and list of files of a revision.
    pub(super) fn info(&self, id: &str, revision: &str) -> Result<RepoInfo, HubError> {
        let repo = Repo::with_revision(id.into(), RepoType::Model, revision.into());
        self.json(&repo.api_url(), id, revision)
    }

    /// The answer of `{endpoint}/api/{path}`, which is about `id` at `revision`.
    pub(super) fn json<T: DeserializeOwned>(
        &self,
        path: &str,
        id: &str,
        revision: &str,
    ) -> Result<T, HubError> {
        let url = format!("{}/api/{path}", self.endpoint);
        let response = self.follow(&url, Request::Api)?;
        let mut response = self.check(response, id, revision, id)?;
        let body = response
            .body_mut()
            .with_config()
            .limit(MAX_JSON)
            .read_to_vec();
        let body = body.map_err(|error| self.failed(&url, &error))?;
        serde_json::from_slice(&body).map_err(|error| self.bad_response(error.to_string()))
    }

    /// Hash and size of a file at a commit.
    pub(super) fn metadata(
        &self,
        id: &str,
        commit: &str,
        file: &str,
    ) -> Result<FileMetadata, HubError> {
        let response = self.follow(&self.file_url(id, commit, file), Request::Head)?;
        let redirected = response.status().is_redirection();
        let response = match redirected {
            true => response,
            false => self.check(response, id, commit, file)?,
        };
        let headers = response.headers();
        let linked = text(headers, "x-linked-etag").map(unquoted);
        let etag = linked.or_else(|| text(headers, ETAG.as_str()).map(unquoted));
        let etag = etag.filter(|etag| is_file_name(etag));
        let Some(etag) = etag else {
            return Err(self.bad_response(format!("`{file}` has no usable ETag")));
        };
        let length = text(headers, "content-length").filter(|_| !redirected);
        let size = text(headers, "x-linked-size").or(length);
        Ok(FileMetadata {
            etag: etag.into(),
            size: size.and_then(|size| size.parse().ok()),
            sha256: linked.filter(|etag| is_sha256(etag)).map(Into::into),
        })
    }

    /// A file from byte `from` on: status 200 (the whole file), 206 (from there on) or 416 (there
    /// is nothing from there on); any other is an error.
    pub(super) fn open(
        &self,
        id: &str,
        commit: &str,
        file: &str,
        from: u64,
    ) -> Result<Response<Body>, HubError> {
        let response = self.follow(&self.file_url(id, commit, file), Request::From(from))?;
        if response.status() == 416 {
            return Ok(response);
        }
        self.check(response, id, commit, file)
    }

    fn file_url(&self, id: &str, commit: &str, file: &str) -> String {
        let repo = Repo::with_revision(id.into(), RepoType::Model, commit.into());
        let (id, commit) = (repo.url(), repo.url_revision());
        format!("{}/{id}/resolve/{commit}/{file}", self.endpoint)
    }

    /// Sends a request and follows redirects. The token is sent only where scheme, host and port are
    /// those of the hub. A request for headers stops at the answer with the metadata: the redirect
    /// to the storage of the file.
    fn follow(&self, url: &str, kind: Request) -> Result<Response<Body>, HubError> {
        let mut url = url.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let trusted = origin(&url) == origin(&self.endpoint);
            let response = self.send(&url, kind, trusted)?;
            let location = text(response.headers(), LOCATION.as_str());
            let (true, Some(location)) = (response.status().is_redirection(), location) else {
                return Ok(response);
            };
            let next = join(&url, location);
            if kind == Request::Head {
                let leaves = origin(&next) != origin(&url);
                let known = ["x-linked-etag", "x-linked-size"]
                    .iter()
                    .all(|name| response.headers().contains_key(*name));
                if leaves || known {
                    return Ok(response);
                }
            }
            url = next;
        }
        Err(self.bad_response(format!("more than {MAX_REDIRECTS} redirects")))
    }

    fn send(&self, url: &str, kind: Request, trusted: bool) -> Result<Response<Body>, HubError> {
        let mut request = match kind {
            Request::Head => self.agent.head(url),
            Request::Api | Request::From(_) => self.agent.get(url),
        };
        if let Request::From(from @ 1..) = kind {
            request = request.header("Range", format!("bytes={from}-"));
        }
        if let (true, Some(token)) = (trusted, &self.token) {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let wait = match kind {
            Request::Api | Request::Head => self.metadata_timeout,
            Request::From(_) => self.timeout,
        };
        let request = request
            .config()
            .timeout_recv_response(Some(wait))
            .timeout_per_read(Some(wait))
            .build();
        request.call().map_err(|error| self.failed(url, &error))
    }

    /// The response if it is a success, else the error of its status. The hub names the reason in
    /// `X-Error-Code` (huggingface_hub, `utils/_http.py`).
    fn check(
        &self,
        response: Response<Body>,
        id: &str,
        revision: &str,
        what: &str,
    ) -> Result<Response<Body>, HubError> {
        let status = response.status().as_u16();
        let code = text(response.headers(), "x-error-code").unwrap_or_default();
        let id = || id.to_owned();
        Err(match (status, code) {
            (200..=299, _) => return Ok(response),
            (_, "RevisionNotFound") => HubError::RevisionNotFound {
                id: id(),
                revision: revision.into(),
            },
            (_, "GatedRepo") | (401 | 403, _) => HubError::Refused {
                id: id(),
                status,
                gated: code == "GatedRepo",
                token: self.token.is_some(),
            },
            (_, "EntryNotFound") => HubError::MissingFile {
                id: id(),
                file: what.into(),
            },
            (404, _) => HubError::RepoNotFound {
                id: id(),
                endpoint: self.endpoint.clone(),
            },
            _ => HubError::Status {
                host: self.endpoint.clone(),
                what: what.into(),
                status,
            },
        })
    }

    /// The error of a connection that ended while a body arrived.
    pub(super) fn broken(&self, response: &Response<Body>, reason: &str) -> HubError {
        HubError::Network {
            host: origin(&response.get_uri().to_string()).into(),
            reason: reason.into(),
        }
    }

    /// [`Client::broken`] by an error of the reader.
    pub(super) fn broken_by(&self, response: &Response<Body>, error: io::Error) -> HubError {
        self.failed(&response.get_uri().to_string(), &Error::from(error))
    }

    fn bad_response(&self, reason: String) -> HubError {
        HubError::BadResponse {
            host: self.endpoint.clone(),
            reason,
        }
    }

    /// An error of the connection, with the host but without the URL, whose query may be a key.
    fn failed(&self, url: &str, error: &Error) -> HubError {
        let reason = match error {
            Error::HostNotFound => "the host name does not resolve".into(),
            Error::Timeout(_) => "the server is silent".into(),
            other => other.to_string(),
        };
        HubError::Network {
            host: origin(url).into(),
            reason,
        }
    }
}

/// A header as text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// An ETag without the quotes and the mark of a weak one.
fn unquoted(etag: &str) -> &str {
    etag.trim_start_matches("W/").trim_matches('"')
}

/// Scheme, host and port of a URL.
fn origin(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find(['/', '?', '#']);
    &url[..end.map_or(url.len(), |end| start + end)]
}

/// Where a `Location` header leads from `url`.
fn join(url: &str, location: &str) -> String {
    let origin = origin(url);
    if location.starts_with("http://") || location.starts_with("https://") {
        location.into()
    } else if location.starts_with("//") {
        let scheme = origin.split("//").next().unwrap_or_default();
        format!("{scheme}{location}")
    } else if location.starts_with('/') {
        format!("{origin}{location}")
    } else {
        let path = url.split(['?', '#']).next().unwrap_or(url);
        let folder = path.rfind('/').filter(|&at| at >= origin.len());
        format!("{}/{location}", folder.map_or(origin, |at| &path[..at]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_joined_as_in_rfc_3986() {
        let url = "https://hub.example:8080/org/name/resolve/main/f?x=/y";
        for (location, expected) in [
            ("/api/f?k=1", "https://hub.example:8080/api/f?k=1"),
            ("http://cdn.example/f", "http://cdn.example/f"),
            ("//cdn.example/f", "https://cdn.example/f"),
            ("g", "https://hub.example:8080/org/name/resolve/main/g"),
        ] {
            assert_eq!(join(url, location), expected);
        }
        assert_eq!(join("https://hub.example", "g"), "https://hub.example/g");
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert_eq!(origin("http://127.0.0.1:80/a/b"), "http://127.0.0.1:80");
        assert_eq!(origin("https://h?q"), "https://h");
        assert_ne!(origin("http://h:1/a"), origin("http://h:2/a"));
        assert_ne!(origin("http://h/a"), origin("https://h/a"));
    }

    #[test]
    fn etags_lose_their_quotes() {
        assert_eq!(unquoted("\"abc\""), "abc");
        assert_eq!(unquoted("W/\"abc\""), "abc");
        assert_eq!(unquoted("abc"), "abc");
    }
}
