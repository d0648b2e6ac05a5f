//! What a file is that is not what its name says: a pointer, a page, another format.

/// Characters of a page or an answer that a message repeats.
const SHOWN: usize = 120;

/// Names the kind of a file by its first bytes; `None` where it is none of the usual ones.
pub(crate) fn kind(bytes: &[u8]) -> Option<String> {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    if starts(b"version https://git-lfs") {
        return Some("a git-lfs pointer: `git lfs pull` fetches the file itself".into());
    }
    if starts(b"PK\x03\x04") {
        return Some("a PyTorch file (a zip)".into());
    }
    if starts(b"GGUF") {
        return Some("a GGUF file".into());
    }
    if starts(b"\xFF\xFE") || starts(b"\xFE\xFF") {
        return Some("text in UTF-16: save it as UTF-8".into());
    }
    let head = &bytes[..bytes.len().min(4 * SHOWN)];
    let head = String::from_utf8_lossy(head.trim_ascii_start()).into_owned();
    let lower = head.to_ascii_lowercase();
    if lower.starts_with("<!doctype html") || lower.starts_with("<html") {
        return Some(format!("a web page: {}", words(&without_tags(&head))));
    }
    // A header of safetensors begins with its length, a whole number of at most some megabytes.
    (head.starts_with("{\"") || head.starts_with("{ "))
        .then(|| format!("a JSON answer: {}", words(&head)))
}

fn without_tags(page: &str) -> String {
    let mut parts = page.split('<');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push(' ');
        text.push_str(part.split_once('>').map_or("", |(_, text)| text));
    }
    text
}

/// The text on one line, without control characters, cut.
fn words(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line: String = words
        .join(" ")
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("`{}..`", &line[..end]),
        None => format!("`{line}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_mistakes_are_named() {
        for (bytes, expected) in [
            (
                "version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
                "a git-lfs pointer: `git lfs pull` fetches the file itself",
            ),
            ("PK\x03\x04rest", "a PyTorch file (a zip)"),
            ("GGUF\x03", "a GGUF file"),
            (
                "\n<!DOCTYPE html><html><title>404</title><body>Not\n found</body>",
                "a web page: `404 Not found`",
            ),
            (
                r#"{"error": "Repository not found"}"#,
                r#"a JSON answer: `{"error": "Repository not found"}`"#,
            ),
        ] {
            assert_eq!(kind(bytes.as_bytes()).as_deref(), Some(expected));
        }
        let utf16 = kind(b"\xFF\xFE{\0").expect("a kind");
        assert!(utf16.contains("UTF-16"), "{utf16}");
        assert_eq!(kind(b"\x10\0\0\0\0\0\0\0{\"a\":1}"), None);
        assert_eq!(kind(b""), None);
    }

    #[test]
    fn a_long_page_is_cut_on_one_line() {
        let page = format!("<html>\x1b[31m{}", "é ".repeat(5000));
        let kind = kind(page.as_bytes()).expect("a page");
        assert!(
            kind.chars().count() < 160 && !kind.contains('\x1b'),
            "{kind}"
        );
    }
}
