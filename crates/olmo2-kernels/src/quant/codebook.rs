//! The 256 tables of 16 numbers that 4-bit blocks choose from.

/// The table of a selector: 16 numbers in -64 ..= 63, ascending.
pub fn table(selector: u8) -> &'static [i8; 16] {
    &TABLES[usize::from(selector)]
}

/// All tables.
pub(crate) static TABLES: [[i8; 16]; 256] = [[
    -63, -52, -41, -32, -24, -17, -11, -5, 0, 6, 12, 19, 26, 34, 44, 56,
]; 256];
