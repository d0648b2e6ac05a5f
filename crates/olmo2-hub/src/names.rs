//! Checks names that become part of a path or URL: ids, revisions, files, hashes.
//!
//! Each is checked before use, so that none leads out of the cache and none needs escaping in a URL.

use super::HubError;

/// Longest part of an id, as on the hub.
const MAX_PART: usize = 96;
/// Longest revision; branch names are file names in the cache's `refs`.
const MAX_REVISION: usize = 250;

/// Checks a model id: `org/name` or `name`, each part of 1 to 96 letters, digits, `-`, `_`, `.`,
/// with a letter, a digit or `_` at both ends, no `--`, no `..`, no `.git` at the end
/// (huggingface_hub, `utils/_validators.py`).
///
/// # Errors
/// [`HubError::InvalidId`] names the rule.
pub fn check_id(id: &str) -> Result<(), HubError> {
    let parts: Vec<&str> = id.split('/').collect();
    let fault = if parts.len() > 2 {
        Some("expected `org/name` or `name`")
    } else if let Some(fault) = parts.iter().find_map(|part| part_fault(part)) {
        Some(fault)
    } else if id.contains("--") || id.contains("..") {
        Some("`--` and `..` are not allowed")
    } else if id.ends_with(".git") {
        Some("`.git` at the end is not allowed")
    } else {
        None
    };
    match fault {
        Some(reason) => Err(HubError::InvalidId {
            id: id.into(),
            reason,
        }),
        None => Ok(()),
    }
}

/// Parses a model id as users type it: `org/name`, or the address of the model's page on the hub,
/// each with or without a slash at its end. `None` for any other text, such as a path.
///
/// # Errors
/// [`HubError::InvalidId`] for an address that is not a model's page.
pub fn parse_id(text: &str) -> Result<Option<String>, HubError> {
    let is_id = |id: &str| id.matches('/').count() == 1 && check_id(id).is_ok();
    let bare = text.strip_prefix("https://").unwrap_or(text);
    let page = ["huggingface.co/", "hf.co/"];
    let page = page.iter().find_map(|host| bare.strip_prefix(host));
    let id = page.unwrap_or(text);
    let id = id.strip_suffix('/').unwrap_or(id);
    match page {
        _ if is_id(id) => Ok(Some(id.into())),
        None if !text.contains("://") => Ok(None),
        _ => Err(HubError::InvalidId {
            id: text.into(),
            reason: "expected the address of a model's page, `https://huggingface.co/org/name`",
        }),
    }
}

/// The rule that one half of an id breaks.
fn part_fault(part: &str) -> Option<&'static str> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = part.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
        return Some("a part of it is empty");
    };
    if bytes.len() > MAX_PART {
        Some("a part of it is longer than 96 characters")
    } else if !bytes
        .iter()
        .all(|&byte| is_word(byte) || b"-.".contains(&byte))
    {
        Some("only letters, digits, `-`, `_` and `.` are allowed")
    } else if !is_word(first) || !is_word(last) {
        Some("a part of it begins or ends with `-` or `.`")
    } else {
        None
    }
}

/// Checks a revision: a branch, a tag, `refs/pr/1`, or a commit. Letters, digits and `-_.+@=,`
/// between single slashes, no part that begins with `.` or ends with `.lock`, no `..`: the names
/// that git allows, less those that a URL or a path would read as something else.
///
/// # Errors
/// [`HubError::InvalidRevision`] names the rule.
pub fn check_revision(revision: &str) -> Result<(), HubError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+@=,/".contains(&byte);
    let fault = if revision.len() > MAX_REVISION {
        Some("it is longer than 250 characters")
    } else if !revision.bytes().all(allowed) {
        Some("only letters, digits and `-_.+@=,/` are allowed")
    } else if revision.split('/').any(str::is_empty) {
        Some("it or a part of it is empty")
    } else if revision.contains("..") {
        Some("`..` is not allowed")
    } else if revision
        .split('/')
        .any(|part| part.starts_with('.') || part.ends_with(".lock"))
    {
        Some("no part may begin with `.` or end with `.lock`")
    } else {
        None
    };
    match fault {
        Some(reason) => Err(HubError::InvalidRevision {
            revision: revision.into(),
            reason,
        }),
        None => Ok(()),
    }
}

/// Whether this is one plain file name: letters, digits, `-`, `_`, `.`, no dot in front.
pub(super) fn is_file_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && name.bytes().all(allowed)
}

/// Whether this is a full commit hash, which names itself and is never looked up in `refs`.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && is_lower_hex(revision)
}

/// Whether this is a SHA-256 as the hub writes it.
pub(super) fn is_sha256(etag: &str) -> bool {
    etag.len() == 64 && is_lower_hex(etag)
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_the_rules_of_the_hub() {
        // Valid and invalid examples of `validate_repo_id` in huggingface_hub 2.4.0, and more.
        let long = "a".repeat(96);
        for id in [
            "foo",
            "foo/bar",
            "123",
            "Foo-BAR_foo.bar123",
            "allenai/OLMo-2-0425-1B",
            &long,
        ] {
            assert!(check_id(id).is_ok(), "{id}");
        }
    }

    #[test]
    fn an_address_and_a_slash_at_the_end_are_read_and_a_path_is_none() {
        for text in [
            "allenai/OLMo-2-0425-1B",
            "allenai/OLMo-2-0425-1B/",
            "https://huggingface.co/allenai/OLMo-2-0425-1B",
            "https://huggingface.co/allenai/OLMo-2-0425-1B/",
            "hf.co/allenai/OLMo-2-0425-1B",
        ] {
            let id = parse_id(text).unwrap();
            assert_eq!(id.as_deref(), Some("allenai/OLMo-2-0425-1B"), "{text}");
        }
        for path in [
            "nowhere",
            "/no/such/folder",
            "./a",
            "../a/b",
            "a/b/c",
            "a//",
            "",
        ] {
            assert_eq!(parse_id(path).unwrap(), None, "{path}");
        }
        for address in [
            "https://huggingface.co/allenai/OLMo-2-0425-1B/tree/main",
            "https://huggingface.co/allenai",
            "https://example.com/a/b",
            "http://huggingface.co/a/b",
        ] {
            let error = parse_id(address).unwrap_err();
            assert!(error.to_string().contains(address), "{error}");
        }
    }

    #[test]
    fn other_ids_are_refused() {
        let too_long = "a".repeat(97);
        for id in [
            "",
            "/",
            "a/",
            "/a",
            "datasets/foo/bar",
            ".repo_id",
            "foo--bar",
            "foo.git",
            "a/..",
            "../a",
            "a/b.",
            "-a/b",
            "a b",
            "a/b?c",
            "a\\b",
            "caf\u{e9}",
            "a/b\n",
            "~/model",
            "./model",
            "C:",
            &too_long,
        ] {
            assert!(
                matches!(check_id(id), Err(HubError::InvalidId { .. })),
                "{id:?}"
            );
        }
    }

    #[test]
    fn revisions_cannot_leave_a_folder_or_a_url() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        for revision in [
            "main",
            "stage1-step140000-tokens294B",
            "refs/pr/1",
            "v1.0",
            "step_10",
            commit,
        ] {
            assert!(check_revision(revision).is_ok(), "{revision}");
        }
        for revision in [
            "",
            "/main",
            "main/",
            "a//b",
            "..",
            "../../etc",
            "a/../b",
            ".hidden",
            "a/.b",
            "main.lock",
            "a b",
            "a?b",
            "a#b",
            "a%2e",
            "a:b",
            "a\\b",
            "main\n",
        ] {
            assert!(
                matches!(
                    check_revision(revision),
                    Err(HubError::InvalidRevision { .. })
                ),
                "{revision:?}"
            );
        }
    }
}
