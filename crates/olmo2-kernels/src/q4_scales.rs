//! Scales of q4 blocks, which kernels of every level look up in one table.

/// 2^-100: what is below would leave the range of f32 by the least scale.
pub const MIN_MAX_SCALE: f32 = f32::from_bits((127 - 100) << 23);

/// The bits of `2^(-m / 32)`, the eighths of a quarter of an octave, rounded to f64: what a record
/// means must not hang on a machine's `exp2`.
pub(crate) const EIGHTHS: [u64; 8] = [
    0x3ff0_0000_0000_0000,
    0x3fef_5076_5b6e_4540,
    0x3fee_a4af_a2a4_90da,
    0x3fed_fc97_337b_9b5f,
    0x3fed_5818_dcfb_a487,
    0x3fec_b720_dcef_9069,
    0x3fec_199b_dd85_529c,
    0x3feb_7f76_f2fb_5e47,
];

/// The bits of `2^(-m / 4)`, as those of [`EIGHTHS`].
pub(crate) const QUARTERS: [u64; 4] = [
    0x3ff0_0000_0000_0000,
    0x3fea_e89f_995a_d3ad,
    0x3fe6_a09e_667f_3bcd,
    0x3fe3_06fe_0a31_b715,
];

/// Powers of a half.
const OCTAVES: [f32; 8] = [
    1.0,
    0.5,
    0.25,
    0.125,
    0.0625,
    0.031_25,
    0.015_625,
    0.007_812_5,
];

/// The scales of a tensor in 4 bits: `max_scale * 2^(-s / 32)`, in parts that kernels may look up. `max_scale`
/// times the power of the lower three bits of `s`, and the power of the next two bits, are each
/// rounded to f32, and so is their product; each octave of the upper three is exactly a half.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Q4Scales {
    octave: [f32; 32],
    mantissas: [i32; 32],
    eighths: [f32; 8],
    quarters: [f32; 8],
}

impl Q4Scales {
    /// The scales below and at `max_scale`, which is taken for the nearest finite number from 2^-100 on
    /// (a file may hold any).
    pub fn new(max_scale: f32) -> Self {
        let max_scale = match max_scale.is_nan() {
            true => MIN_MAX_SCALE,
            false => max_scale.clamp(MIN_MAX_SCALE, f32::MAX),
        };
        let eighth = |m: usize| (f64::from(max_scale) * f64::from_bits(EIGHTHS[m])) as f32;
        let eighths: [f32; 8] = std::array::from_fn(eighth);
        let quarter = |m: usize| f64::from_bits(QUARTERS[m % 4]) as f32 * OCTAVES[m / 4];
        let quarters: [f32; 8] = std::array::from_fn(quarter);
        let octave: [f32; 32] = std::array::from_fn(|m| eighths[m % 8] * quarters[m / 8]);
        let mantissa = |m: usize| (octave[m].to_bits() as i32).wrapping_add((m as i32) << 18);
        Self {
            octave,
            mantissas: std::array::from_fn(mantissa),
            eighths,
            quarters,
        }
    }

    /// The scale that a block's byte stands for.
    pub fn get(&self, scale: u8) -> f32 {
        self.octave[usize::from(scale & 31)] * OCTAVES[usize::from(scale >> 5)]
    }

    /// The bits of the 32 scales of the first octave, plus their index at bit 18: a scale's bits
    /// are those at its lower five bits, minus the whole byte at bit 18.
    pub(crate) fn mantissas(&self) -> &[i32; 32] {
        &self.mantissas
    }

    /// A scale's two factors, by bits 0 to 2 and by bits 3 to 5; bits 6 and 7 take two and four octaves
    /// away.
    pub(crate) fn factors(&self) -> [&[f32; 8]; 2] {
        [&self.eighths, &self.quarters]
    }
}
