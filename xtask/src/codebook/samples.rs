//! Blocks to train on: 60% Gaussian, 40% from Student's t with 6 degrees of freedom, as the
//! weights of trained models lie between the two.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Weights in a block.
pub(super) const BLOCK: usize = 32;

/// A block of numbers whose variance was 1.
#[derive(Clone)]
pub(super) struct Block {
    /// Scaled so that the largest magnitude is +1.
    pub(super) x: [f32; BLOCK],
    /// What a squared error counts: the square of what `x` was divided by.
    pub(super) weight: f32,
}

pub(super) fn draw(seed: u64, count: usize) -> Vec<Block> {
    let mut random = Random(ChaCha8Rng::seed_from_u64(seed));
    let block = |i: usize| {
        let heavy = i % 5 < 2;
        let x: [f64; BLOCK] = std::array::from_fn(|_| match heavy {
            true => random.student(),
            false => random.gaussian(),
        });
        let largest = x
            .iter()
            .fold(0.0_f64, |m, &x| if x.abs() > m.abs() { x } else { m });
        Block {
            x: x.map(|x| (x / largest) as f32),
            weight: (largest * largest) as f32,
        }
    };
    (0..count).map(block).collect()
}

/// Random numbers of several distributions, all of variance 1 but the uniform.
pub(super) struct Random(ChaCha8Rng);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Between 0 and 1, both left out.
    pub(super) fn uniform(&mut self) -> f64 {
        ((self.0.next_u64() >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
    }

    /// By the polar method.
    fn gaussian(&mut self) -> f64 {
        loop {
            let (u, v) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let s = u * u + v * v;
            if s < 1.0 {
                return u * (-2.0 * ln(s) / s).sqrt();
            }
        }
    }

    /// Student's t with 6 degrees of freedom, over the root of its variance 1.5.
    fn student(&mut self) -> f64 {
        let gaussian = self.gaussian();
        let chi_squared = -2.0 * ln(self.uniform() * self.uniform() * self.uniform());
        gaussian * (4.0 / chi_squared).sqrt()
    }
}

/// The natural logarithm of a positive number. That of the standard library differs between
/// machines in its last bits.
fn ln(x: f64) -> f64 {
    let exponent = (x.to_bits() >> 52) as i64 - 1023;
    let mantissa = f64::from_bits(x.to_bits() & ((1 << 52) - 1) | 1023 << 52);
    let y = (mantissa - 1.0) / (mantissa + 1.0);
    let series = (0..20)
        .rev()
        .fold(0.0, |sum, i| sum * y * y + 1.0 / (2 * i + 1) as f64);
    exponent as f64 * std::f64::consts::LN_2 + 2.0 * y * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_one() {
        for i in 1..2000 {
            let x = f64::from(i) * 1e-3;
            assert!((ln(x) - x.ln()).abs() < 1e-13, "{x}");
        }
    }

    #[test]
    fn blocks_have_variance_one_and_the_largest_is_one() {
        let blocks = draw(3, 20_000);
        let square = |block: &Block| block.x.iter().map(|x| x * x).sum::<f32>() * block.weight;
        for kind in [0..2, 2..5] {
            let chosen = blocks
                .iter()
                .enumerate()
                .filter(|(i, _)| kind.contains(&(i % 5)));
            let squares: Vec<f64> = chosen.map(|(_, block)| f64::from(square(block))).collect();
            let variance = squares.iter().sum::<f64>() / (squares.len() * BLOCK) as f64;
            assert!((variance - 1.0).abs() < 0.03, "{variance}");
        }
        for block in &blocks {
            assert_eq!(block.x.iter().copied().fold(-1.0, f32::max), 1.0);
        }
    }
}
