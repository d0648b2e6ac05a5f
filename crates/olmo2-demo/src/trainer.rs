//! One optimization step: the library's model under `Autodiff`, the batch shared by threads.

use anyhow::{Context, Result};
use burn::backend::{Autodiff, Flex};
use burn::grad_clipping::GradientClippingConfig;
use burn::module::{AutodiffModule, Module};
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::{GradientsAccumulator, GradientsParams, Optimizer};
use burn::prelude::*;
use burn::tensor::TensorData;
use olmo2::{ForwardInput, Olmo2, causal_lm_loss};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::optimizer::DecayMatrices;

/// Where the demo is trained.
pub(crate) type Train = Autodiff<Flex>;
pub(crate) type Model = Olmo2<Train>;
pub(crate) type AdamW = OptimizerAdaptor<DecayMatrices, Model, Train>;

/// transformers' label of what is not predicted; no token has it.
const IGNORED: i64 = -100;

/// Each gradient tensor is scaled down to this norm. burn clips tensor by tensor; with AdamW, whose
/// step does not grow with the gradient, that is as good as a norm over all of them.
const CLIP_NORM: f32 = 1.0;

/// Model and optimizer, and the threads that share a batch.
pub(crate) struct Trainer {
    pub(crate) model: Model,
    pub(crate) optimizer: AdamW,
    pools: Vec<ThreadPool>,
}

impl Trainer {
    /// # Errors
    /// Threads that cannot be started.
    pub(crate) fn new(model: Model, threads: usize) -> Result<Self> {
        let optimizer = OptimizerAdaptor::from(DecayMatrices::new())
            .with_grad_clipping(GradientClippingConfig::Norm(CLIP_NORM).init());
        Ok(Self {
            model,
            optimizer,
            pools: pools(threads)?,
        })
    }

    /// One step over the rows of a batch; returns their loss before it, in nats.
    ///
    /// # Errors
    /// An input that the model refuses.
    pub(crate) fn step(&mut self, rows: &[Vec<u32>], lr: f64) -> Result<f64> {
        let share = 1.0 / self.pools.len() as f64;
        let parts = self.share_out(rows, |model, rows| {
            let loss = loss(&model, rows)? * share;
            let value = f64::from(loss.clone().into_scalar());
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            Ok((value, gradients))
        })?;
        let (mut total, mut sum) = (0.0, GradientsAccumulator::new());
        for (value, gradients) in parts {
            total += value;
            sum.accumulate(&self.model, gradients);
        }
        self.model = self.optimizer.step(lr, self.model.clone(), sum.grads());
        Ok(total)
    }

    /// The mean loss over rows, without gradients.
    ///
    /// # Errors
    /// An input that the model refuses.
    pub(crate) fn evaluate(&self, rows: &[Vec<u32>]) -> Result<f64> {
        let parts = self.share_out(rows, |model, rows| {
            let model = model.valid();
            let mut total = 0.0;
            for row in rows.chunks(4) {
                total += f64::from(loss(&model, row)?.into_scalar()) * row.len() as f64;
            }
            Ok(total)
        })?;
        Ok(parts.iter().sum::<f64>() / rows.len() as f64)
    }

    /// Gives each thread its part of the rows and a model of its own: graphs that share leaves would
    /// wait for each other. Results are in the order of the rows, so sums do not depend on timing.
    fn share_out<T: Send>(
        &self,
        rows: &[Vec<u32>],
        work: impl Fn(Model, &[Vec<u32>]) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let (device, work) = (self.model.device(), &work);
        std::thread::scope(|scope| {
            let parts: Vec<_> = rows
                .chunks(rows.len().div_ceil(self.pools.len()))
                .zip(&self.pools)
                .map(|(rows, pool)| {
                    let model = self.model.clone().fork(&device);
                    scope.spawn(move || pool.install(|| work(model, rows)))
                })
                .collect();
            parts
                .into_iter()
                .map(|part| part.join().ok().context("a training thread panicked")?)
                .collect()
        })
    }
}

/// A pool of one thread for each part of a batch: burn's operations then run in place on it.
fn pools(threads: usize) -> Result<Vec<ThreadPool>> {
    (0..threads.max(1))
        .map(|_| {
            Ok(ThreadPoolBuilder::new()
                .num_threads(1)
                .stack_size(64 << 20)
                .build()?)
        })
        .collect()
}

/// The library's own loss of the library's own forward pass.
fn loss<B: Backend>(model: &Olmo2<B>, rows: &[Vec<u32>]) -> Result<Tensor<B, 1>> {
    let shape = [rows.len(), rows[0].len()];
    let ids: Vec<i32> = rows.iter().flatten().map(|&id| id as i32).collect();
    let ids = Tensor::<B, 2, Int>::from_data(TensorData::new(ids, shape), &model.device());
    let logits = model.forward(ForwardInput::device_ids(ids.clone()))?.logits;
    let logits = logits.context("a pass over all rows has logits")?;
    Ok(causal_lm_loss(logits, ids, IGNORED))
}
