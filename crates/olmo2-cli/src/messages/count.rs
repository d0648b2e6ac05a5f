//! Numbers and names in messages.

/// `1 token`, `2 tokens`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular_and_all_else_plural() {
        assert_eq!(
            [0, 1, 2].map(|n| count(n, "token")),
            ["0 tokens", "1 token", "2 tokens"]
        );
    }
}
