//! Options of the hub, from the environment variables of Python's client.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::HubError;

/// The public hub.
const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
/// As Python's client: seconds without a byte before a connection counts as dead.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Options of a [`Hub`](super::Hub), from the variables that Python's `huggingface_hub` reads.
#[derive(Clone, PartialEq, Eq)]
pub struct HubOptions {
    /// Scheme and host of the hub, without a slash at the end (`HF_ENDPOINT`).
    pub endpoint: String,
    /// Folder with the `models--org--name` folders, shared with Python (`HF_HUB_CACHE`, else
    /// `HF_HOME/hub`).
    pub cache_dir: PathBuf,
    /// Access token, sent to the endpoint's host and to no other (`HF_TOKEN`, else the file that
    /// `hf auth login` writes).
    pub token: Option<String>,
    /// Whether requests are forbidden (`HF_HUB_OFFLINE`).
    pub offline: bool,
    /// Timeout of each read of a download (`HF_HUB_DOWNLOAD_TIMEOUT`, seconds).
    pub timeout: Duration,
    /// Timeout of an answer about a file or a revision (`HF_HUB_ETAG_TIMEOUT`, seconds).
    pub metadata_timeout: Duration,
    /// Number of retries in a row without a new byte after which a download fails.
    pub retries: u32,
    /// Wait before the first retry in a row; it grows by this much with each.
    pub retry_wait: Duration,
}

impl HubOptions {
    /// The defaults for a cache in `cache_dir`: the public hub, no token, no environment read.
    pub fn new(cache_dir: impl Into<PathBuf>) -> Self {
        Self {
            endpoint: DEFAULT_ENDPOINT.into(),
            cache_dir: cache_dir.into(),
            token: None,
            offline: false,
            timeout: DEFAULT_TIMEOUT,
            metadata_timeout: DEFAULT_TIMEOUT,
            retries: 5,
            retry_wait: Duration::from_secs(1),
        }
    }

    /// Options from the process's environment and the token file.
    ///
    /// # Errors
    /// [`HubError::InvalidSetting`] and [`HubError::NoHome`].
    pub fn from_env() -> Result<Self, HubError> {
        Self::from_lookup(|name| match std::env::var(name) {
            Ok(value) => Some(value),
            // The home folder is known to the system even where `HOME` is not set.
            Err(_) if name == "HOME" => Some(std::env::home_dir()?.to_str()?.to_owned()),
            Err(_) => None,
        })
    }

    /// Options from `lookup`, which returns the value of an environment variable. Besides, only the
    /// token file is read, and only if no variable holds the token.
    ///
    /// # Errors
    /// [`HubError::InvalidSetting`] for an endpoint that is not a URL or a timeout that is not a
    /// number; [`HubError::NoHome`] if no variable leads to a cache.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, HubError> {
        // An empty variable counts as none.
        let var = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let home = || {
            var("HF_HOME").map(|path| expand(&path, &var)).or_else(|| {
                let cache = var("XDG_CACHE_HOME").map(PathBuf::from);
                let cache = cache.or_else(|| Some(PathBuf::from(var("HOME")?).join(".cache")))?;
                Some(cache.join("huggingface"))
            })
        };
        let cache_dir = var("HF_HUB_CACHE")
            .or_else(|| var("HUGGINGFACE_HUB_CACHE"))
            .map(|path| expand(&path, &var))
            .or_else(|| Some(home()?.join("hub")))
            .ok_or(HubError::NoHome)?;
        let offline = var("HF_HUB_OFFLINE").or_else(|| var("TRANSFORMERS_OFFLINE"));
        Ok(Self {
            endpoint: endpoint(var("HF_ENDPOINT"))?,
            token: token(&var, home),
            offline: offline.is_some_and(|value| is_true(&value)),
            timeout: seconds("HF_HUB_DOWNLOAD_TIMEOUT", &var)?,
            metadata_timeout: seconds("HF_HUB_ETAG_TIMEOUT", &var)?,
            ..Self::new(cache_dir)
        })
    }
}

impl fmt::Debug for HubOptions {
    /// Shows whether a token is set, never the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubOptions")
            .field("endpoint", &self.endpoint)
            .field("cache_dir", &self.cache_dir)
            .field("token", &self.token.as_ref().map(|_| "***"))
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

/// The token of the environment, else the one in the file.
fn token(
    var: &impl Fn(&str) -> Option<String>,
    home: impl Fn() -> Option<PathBuf>,
) -> Option<String> {
    if var("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(|value| is_true(&value)) {
        return None;
    }
    let path = var("HF_TOKEN_PATH").map(|path| expand(&path, var));
    let path = path.or_else(|| Some(home()?.join("token")));
    var("HF_TOKEN")
        .or_else(|| var("HUGGING_FACE_HUB_TOKEN"))
        .and_then(|token| clean(&token))
        .or_else(|| clean(&std::fs::read_to_string(path?).ok()?))
}

/// Whether Python's client takes the value for true.
fn is_true(value: &str) -> bool {
    ["1", "ON", "YES", "TRUE"].contains(&value.to_ascii_uppercase().as_str())
}

fn endpoint(value: Option<String>) -> Result<String, HubError> {
    let value = value.unwrap_or_else(|| DEFAULT_ENDPOINT.into());
    let trimmed = value.trim_end_matches('/');
    let host = trimmed
        .strip_prefix("https://")
        .or_else(|| trimmed.strip_prefix("http://"));
    if host.is_none_or(|host| host.is_empty() || host.contains(['?', '#', ' '])) {
        return Err(HubError::InvalidSetting {
            name: "HF_ENDPOINT",
            value,
            expected: "a URL such as `https://huggingface.co`",
        });
    }
    Ok(trimmed.into())
}

/// A timeout in whole seconds; 0 means the default, as in Python's client.
fn seconds(
    name: &'static str,
    var: &impl Fn(&str) -> Option<String>,
) -> Result<Duration, HubError> {
    let Some(value) = var(name) else {
        return Ok(DEFAULT_TIMEOUT);
    };
    match value.trim().parse() {
        Ok(0) => Ok(DEFAULT_TIMEOUT),
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => Err(HubError::InvalidSetting {
            name,
            value,
            expected: "a whole number of seconds",
        }),
    }
}

/// A token without the line ends that files and shells leave in it.
fn clean(token: &str) -> Option<String> {
    let token = token.replace(['\r', '\n'], "");
    let token = token.trim();
    (!token.is_empty()).then(|| token.into())
}

/// A path with `~`, `$NAME` and `${NAME}` replaced, as Python's client does; a name that is not
/// set stays as it is.
fn expand(path: &str, var: &impl Fn(&str) -> Option<String>) -> PathBuf {
    let mut text = String::new();
    let mut rest = path;
    if let (Some(tail), Some(home)) = (path.strip_prefix('~'), var("HOME"))
        && (tail.is_empty() || tail.starts_with('/'))
    {
        text += &home;
        rest = tail;
    }
    while let Some((before, after)) = rest.split_once('$') {
        text += before;
        let (name, tail) = variable_name(after);
        match var(name) {
            Some(value) => text += &value,
            None => {
                text.push('$');
                text += &after[..after.len() - tail.len()];
            }
        }
        rest = tail;
    }
    PathBuf::from(text + rest)
}

/// The name after a `$` and what follows it; an empty name where there is none.
fn variable_name(after: &str) -> (&str, &str) {
    if let Some((name, tail)) = after
        .strip_prefix('{')
        .and_then(|inner| inner.split_once('}'))
    {
        return (name, tail);
    }
    let end = after
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(after.len());
    after.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(vars: &[(&str, &str)]) -> Result<HubOptions, HubError> {
        HubOptions::from_lookup(|name| {
            let found = vars.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn cache_dir(vars: &[(&str, &str)]) -> String {
        options(vars).unwrap().cache_dir.display().to_string()
    }

    #[test]
    fn the_cache_lies_where_python_has_it() {
        let home = ("HOME", "/home/me");
        assert_eq!(cache_dir(&[home]), "/home/me/.cache/huggingface/hub");
        assert_eq!(
            cache_dir(&[home, ("XDG_CACHE_HOME", "/x")]),
            "/x/huggingface/hub"
        );
        assert_eq!(
            cache_dir(&[home, ("HF_HOME", "/hf"), ("XDG_CACHE_HOME", "/x")]),
            "/hf/hub"
        );
        assert_eq!(
            cache_dir(&[home, ("HF_HOME", "/hf"), ("HUGGINGFACE_HUB_CACHE", "/old")]),
            "/old"
        );
        let both = [
            home,
            ("HUGGINGFACE_HUB_CACHE", "/old"),
            ("HF_HUB_CACHE", "/new"),
        ];
        assert_eq!(cache_dir(&both), "/new");
        assert_eq!(
            cache_dir(&[home, ("HF_HOME", "")]),
            "/home/me/.cache/huggingface/hub"
        );
        assert!(matches!(options(&[]), Err(HubError::NoHome)));
    }

    #[test]
    fn paths_are_expanded_as_by_python() {
        let home = ("HOME", "/home/me");
        assert_eq!(cache_dir(&[home, ("HF_HUB_CACHE", "~/c")]), "/home/me/c");
        assert_eq!(cache_dir(&[home, ("HF_HUB_CACHE", "~")]), "/home/me");
        assert_eq!(cache_dir(&[home, ("HF_HUB_CACHE", "~you/c")]), "~you/c");
        assert_eq!(
            cache_dir(&[home, ("D", "/d"), ("HF_HUB_CACHE", "$D/x/${D}y")]),
            "/d/x//dy"
        );
        assert_eq!(
            cache_dir(&[home, ("HF_HUB_CACHE", "/a/$NONE/${NONE}/$")]),
            "/a/$NONE/${NONE}/$"
        );
    }

    #[test]
    fn offline_takes_pythons_words_for_true() {
        let offline = |vars: &[(&str, &str)]| {
            options(&[&[("HOME", "/h")], vars].concat())
                .unwrap()
                .offline
        };
        for value in ["1", "true", "YES", "On"] {
            assert!(offline(&[("HF_HUB_OFFLINE", value)]), "{value}");
        }
        for value in ["", "0", "no", "2"] {
            assert!(!offline(&[("HF_HUB_OFFLINE", value)]), "{value}");
        }
        assert!(offline(&[("TRANSFORMERS_OFFLINE", "1")]));
        assert!(!offline(&[
            ("TRANSFORMERS_OFFLINE", "1"),
            ("HF_HUB_OFFLINE", "0")
        ]));
    }

    #[test]
    fn endpoint_and_timeouts_are_checked() {
        let home = ("HOME", "/h");
        assert_eq!(options(&[home]).unwrap().endpoint, "https://huggingface.co");
        let local = options(&[home, ("HF_ENDPOINT", "http://127.0.0.1:80/")]).unwrap();
        assert_eq!(local.endpoint, "http://127.0.0.1:80");
        for bad in ["huggingface.co", "ftp://x", "https://", "https://a b"] {
            let error = options(&[home, ("HF_ENDPOINT", bad)]).unwrap_err();
            assert!(
                error.to_string().contains(bad) && error.hint().unwrap().contains("HF_ENDPOINT")
            );
        }
        let slow = options(&[
            home,
            ("HF_HUB_DOWNLOAD_TIMEOUT", "30"),
            ("HF_HUB_ETAG_TIMEOUT", "7"),
        ])
        .unwrap();
        assert_eq!(
            (slow.timeout.as_secs(), slow.metadata_timeout.as_secs()),
            (30, 7)
        );
        assert!(options(&[home, ("HF_HUB_DOWNLOAD_TIMEOUT", "soon")]).is_err());
    }

    #[test]
    fn the_token_comes_from_the_variable_then_from_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_str().unwrap();
        let token = |vars: &[(&str, &str)]| {
            options(&[&[("HOME", "/none"), ("HF_HOME", home)], vars].concat())
                .unwrap()
                .token
        };
        assert_eq!(token(&[]), None);
        std::fs::write(dir.path().join("token"), " hf_file\n").unwrap();
        assert_eq!(token(&[]).as_deref(), Some("hf_file"));
        assert_eq!(
            token(&[("HF_TOKEN", "hf_var\n")]).as_deref(),
            Some("hf_var")
        );
        assert_eq!(token(&[("HF_TOKEN", " ")]).as_deref(), Some("hf_file"));
        assert_eq!(
            token(&[("HUGGING_FACE_HUB_TOKEN", "hf_old")]).as_deref(),
            Some("hf_old")
        );
        let other = dir.path().join("other");
        std::fs::write(&other, "hf_other").unwrap();
        assert_eq!(
            token(&[("HF_TOKEN_PATH", other.to_str().unwrap())]).as_deref(),
            Some("hf_other")
        );
        assert_eq!(
            token(&[
                ("HF_TOKEN", "hf_var"),
                ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
            ]),
            None
        );
    }

    #[test]
    fn the_token_is_never_shown() {
        let shown = format!(
            "{:?}",
            options(&[("HOME", "/h"), ("HF_TOKEN", "hf_secret")]).unwrap()
        );
        assert!(!shown.contains("hf_secret") && shown.contains("***"));
    }
}
