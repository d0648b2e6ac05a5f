//! The scales of the 4-bit format, which quantizers, block readers and the vector code share.

/// 2^-100: with a smaller `max_scale`, the smallest scale of a tensor would leave the range of f32.
pub const MIN_MAX_SCALE: f32 = f32::from_bits((127 - 100) << 23);

/// The bits of `2^(-m / 32)`, the eighths of a quarter of an octave, rounded to f64. They are
/// constants because the meaning of a record must not depend on a machine's `exp2`.
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

/// The bits of `2^(-m / 4)`, as in [`EIGHTHS`].
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

/// The scales of a tensor in 4 bits, `max_scale * 2^(-s / 32)`, in parts that kernels can look up.
/// A scale is the product of two factors, each rounded to f32, and is rounded itself: `max_scale`
/// times the power of the lower three bits of `s`, and the power of the next two bits. Each octave
/// of the upper three bits halves it exactly.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Q4Scales {
    octave: [f32; 32],
    mantissas: [i32; 32],
    eighths: [f32; 8],
    quarters: [f32; 8],
}

impl Q4Scales {
    /// The scales from `max_scale` down. A file may hold any `max_scale`; it is replaced by the
    /// nearest finite number that is at least 2^-100.
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

    /// The scale that a block's byte encodes.
    pub fn get(&self, scale: u8) -> f32 {
        self.octave[usize::from(scale & 31)] * OCTAVES[usize::from(scale >> 5)]
    }

    /// The bits of the 32 scales of the first octave, plus their index at bit 18. The bits of a
    /// scale are those at its lower five bits, minus the whole byte at bit 18.
    pub(crate) fn mantissas(&self) -> &[i32; 32] {
        &self.mantissas
    }

    /// The two factors of a scale, by bits 0 to 2 and by bits 3 to 5. Bits 6 and 7 subtract two and
    /// four octaves.
    pub(crate) fn factors(&self) -> [&[f32; 8]; 2] {
        [&self.eighths, &self.quarters]
    }
}
