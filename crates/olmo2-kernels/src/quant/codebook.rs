//! The 256 tables of 16 values for 4-bit blocks. `cargo xtask codebook` writes the first 128 to
//! `codebook.csv`; the others are these negated and reversed.

/// The table of a selector: 16 values in -63 ..= 63, ascending.
pub fn table(selector: u8) -> &'static [i8; 16] {
    &TABLES[usize::from(selector)]
}

/// All tables.
pub(crate) static TABLES: [[i8; 16]; 256] = BOTH;

/// A selector and a code that encode 0.
pub(crate) const ZERO: (u8, u8) = zero(&BOTH);

const BOTH: [[i8; 16]; 256] = mirrored(parse(include_bytes!("codebook.csv")));

/// Reads integers between commas and line ends; a line that starts with `#` is a comment.
const fn parse(text: &[u8]) -> [[i8; 16]; 128] {
    let mut tables = [[0; 16]; 128];
    let (mut at, mut count, mut number, mut negative) = (0, 0, 0, false);
    while at < text.len() {
        match text[at] {
            b'#' => {
                while text[at] != b'\n' {
                    at += 1;
                }
            }
            b'-' => negative = true,
            digit @ b'0'..=b'9' => number = number * 10 + (digit - b'0') as i8,
            b',' | b'\n' => {
                tables[count / 16][count % 16] = if negative { -number } else { number };
                (count, number, negative) = (count + 1, 0, false);
            }
            _ => panic!("codebook.csv holds something else than whole numbers"),
        }
        at += 1;
    }
    assert!(
        count == 128 * 16,
        "codebook.csv is to hold 128 tables of 16"
    );
    tables
}

const fn mirrored(half: [[i8; 16]; 128]) -> [[i8; 16]; 256] {
    let mut tables = [[0; 16]; 256];
    let mut i = 0;
    while i < 128 * 16 {
        tables[i / 16][i % 16] = half[i / 16][i % 16];
        tables[128 + i / 16][i % 16] = -half[i / 16][15 - i % 16];
        i += 1;
    }
    tables
}

const fn zero(tables: &[[i8; 16]; 256]) -> (u8, u8) {
    let mut i = 0;
    while tables[i / 16][i % 16] != 0 {
        i += 1;
        assert!(i < 256 * 16, "codebook.csv is to have a table with 0");
    }
    ((i / 16) as u8, (i % 16) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_ascend_within_seven_bits_and_differ() {
        for table in &TABLES {
            assert!(table.windows(2).all(|pair| pair[0] < pair[1]), "{table:?}");
            assert!(table.iter().all(|t| (-63..=63).contains(t)), "{table:?}");
        }
        let different: std::collections::BTreeSet<_> = TABLES.iter().collect();
        assert_eq!(different.len(), 256);
    }

    #[test]
    fn the_second_half_mirrors_the_first() {
        for selector in 0..128 {
            let mut mirror = table(selector).map(|t| -t);
            mirror.reverse();
            assert_eq!(table(selector + 128), &mirror);
        }
    }

    #[test]
    fn one_code_stands_for_zero() {
        assert_eq!(table(ZERO.0)[usize::from(ZERO.1)], 0);
    }

    #[test]
    fn the_file_names_its_command() {
        let first = include_str!("codebook.csv").lines().next();
        assert!(first.is_some_and(|line| line.starts_with("# cargo xtask codebook --seed ")));
    }
}
