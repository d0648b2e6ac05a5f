//! AdamW as language models are trained with: weight decay on matrices, none on the gains of norms.

use burn::optim::{AdamW, AdamWConfig, LearningRate, SimpleOptimizer};
use burn::prelude::*;

/// AdamW with betas 0.9 and 0.95; weight decay 0.1 on tensors of two dimensions.
#[derive(Clone)]
pub(crate) struct DecayMatrices {
    matrices: AdamW,
    vectors: AdamW,
}

impl DecayMatrices {
    pub(crate) fn new() -> Self {
        let adam = |decay: f32| {
            AdamWConfig::new()
                .with_beta_1(0.9)
                .with_beta_2(0.95)
                .with_epsilon(1e-8)
                .with_weight_decay(decay)
                .build()
        };
        Self {
            matrices: adam(0.1),
            vectors: adam(0.0),
        }
    }
}

impl<B: Backend> SimpleOptimizer<B> for DecayMatrices {
    type State<const D: usize> = <AdamW as SimpleOptimizer<B>>::State<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<B, D>,
        grad: Tensor<B, D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<B, D>, Option<Self::State<D>>) {
        let adam = if D > 1 { &self.matrices } else { &self.vectors };
        adam.step(lr, tensor, grad, state)
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &B::Device) -> Self::State<D> {
        <AdamW as SimpleOptimizer<B>>::to_device(state, device)
    }
}

/// Linear warm-up, then a cosine down to a tenth.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    pub(crate) peak: f64,
    pub(crate) warm_up: usize,
    pub(crate) steps: usize,
}

impl Schedule {
    /// The learning rate of a step, counted from 0.
    pub(crate) fn at(&self, step: usize) -> f64 {
        if step < self.warm_up {
            return self.peak * (step + 1) as f64 / self.warm_up as f64;
        }
        let rest = (self.steps - self.warm_up).max(1) as f64;
        let progress = ((step - self.warm_up) as f64 / rest).min(1.0);
        self.peak * (0.1 + 0.9 * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_warms_up_and_ends_at_a_tenth() {
        let schedule = Schedule {
            peak: 2.0,
            warm_up: 10,
            steps: 110,
        };
        assert!((schedule.at(0) - 0.2).abs() < 1e-12);
        assert!((schedule.at(9) - 2.0).abs() < 1e-12);
        assert!((schedule.at(10) - 2.0).abs() < 1e-12);
        assert!((schedule.at(60) - 1.1).abs() < 1e-12);
        assert!((schedule.at(110) - 0.2).abs() < 1e-12);
    }
}
