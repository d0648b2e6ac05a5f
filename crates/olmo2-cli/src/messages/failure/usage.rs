//! clap's errors in the form of all others: one line and a hint.

use std::process::ExitCode;

use clap::error::ErrorKind;

use super::{USAGE, write_lines};

/// Shows what clap has to say: help and versions as they are, errors as one line and a hint.
pub(crate) fn show_usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A closed stdout has no use for help.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
        }
        _ => {
            let (message, hint) = split_usage(&error.render().to_string());
            write_lines(&message, Some(&hint));
        }
    }
    ExitCode::from(USAGE)
}

/// clap's paragraphs: the error, perhaps a tip or the possible values, the usage.
fn split_usage(text: &str) -> (String, String) {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let mut message = first.strip_prefix("error: ").unwrap_or(first).to_owned();
    let mut hint = String::new();
    for line in lines {
        if line.starts_with("Usage:") || line.starts_with("For more information") {
            break;
        }
        match line.strip_prefix("tip: ") {
            Some(tip) => hint = tip.to_owned(),
            None if line.starts_with('[') => hint = line.trim_matches(['[', ']']).to_owned(),
            None => message = format!("{message} {line}"),
        }
    }
    if hint.is_empty() {
        hint = "`--help` after the command lists its arguments".into();
    }
    (message, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_of_clap_become_one_line_and_a_hint() {
        let text = "error: the following required arguments were not provided:\n  --out <FILE>\n\n\
                    Usage: olmo2-cli logits --out <FILE>\n\nFor more information, try '--help'.\n";
        let (message, hint) = split_usage(text);
        assert_eq!(
            message,
            "the following required arguments were not provided: --out <FILE>"
        );
        assert_eq!(hint, "`--help` after the command lists its arguments");
        let text =
            "error: invalid value 'x' for '--dtype <DTYPE>'\n  [possible values: f32, bf16]\n";
        assert_eq!(split_usage(text).1, "possible values: f32, bf16");
    }
}
