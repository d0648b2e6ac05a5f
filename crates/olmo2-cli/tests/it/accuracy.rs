//! `accuracy`: the table of formats.

use crate::fixture::golden;
use crate::program::run;

#[test]
fn each_format_has_a_line_and_more_bits_lose_less() {
    let model = golden("gqa-tiny");
    let ran = run(&["accuracy", "--tokens", "16", "--model", &model]).ok();
    assert_eq!(ran.stderr, "");
    let title = format!("`{model}` on 16 tokens, against f32:");
    assert_eq!(ran.stdout.lines().next(), Some(title.as_str()));
    let rows: Vec<Vec<&str>> = ran
        .stdout
        .lines()
        .filter(|line| line.starts_with("| "))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    let names: Vec<&str> = rows.iter().map(|row| row[1]).collect();
    let expected = [
        "format",
        "as stored, `--dtype bf16`",
        "as stored, `--cache-dtype bf16`",
        "q8",
        "q4",
        "q4, head and embedding in q8",
    ];
    assert_eq!(names, expected);
    let divergence = |row: usize| rows[row][5].parse::<f64>().expect("a number");
    assert!(divergence(2) < divergence(3), "{ran:?}");
    assert!(divergence(3) < divergence(4), "{ran:?}");
    assert!(divergence(5) < divergence(4), "{ran:?}");
}
