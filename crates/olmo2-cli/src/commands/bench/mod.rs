//! `bench`: prefill and decode speed beside what the machine could do, and peak memory.

mod limits;
mod machine;
mod peak;
mod report;
mod weights;

use std::time::Instant;

use burn::prelude::*;
use olmo2::hub::Files;
use olmo2::{
    Capabilities, DOLMA2_TOKENS, ForwardInput, KvCache, LogitRows, Olmo2, PREFILL_CHUNK, chunk_len,
};
use olmo2_kernels::limits::peaks;

use super::to_host::to_host;
use crate::backend::OnBackend;
use crate::messages::{Failure, Result, Verbosity};
use crate::model::{Model, Sequences, find};
use crate::request::BenchRequest;

use limits::{Limits, Run, Step, Works, measure, median};
use machine::Machine;
use peak::Sampler;
use report::Report;

/// Tokens of each sequence in a pass of prefill at least: shorter runs count as decoding.
const MIN_PREFILL: usize = olmo2_kernels::DECODE_ROWS + 1;

pub(super) fn run(request: &BenchRequest) -> Result<()> {
    // Before anything is loaded: loading is part of the peak.
    let sampler = Sampler::start();
    let checkpoint = find(&request.run.model, Files::Model)?;
    let max_tokens = request
        .prompt_tokens
        .max(request.depth.saturating_add(request.new_tokens));
    let sequences = Sequences {
        count: request.batch,
        max_tokens: Some(max_tokens),
    };
    let model = Model::open(checkpoint, &request.run, sequences)?;
    let limit = model.positions();
    if max_tokens > limit {
        return Err(Failure::new(
            format!("sequences of {max_tokens} tokens do not fit {limit} positions"),
            "lower `-p`, `-n` or `--depth`, or raise `--context` as far as the model goes",
        ));
    }
    model.backend.dispatch(Bench {
        request,
        model,
        sampler,
    })
}

struct Bench<'a> {
    request: &'a BenchRequest,
    model: Model,
    sampler: Sampler,
}

impl OnBackend for Bench<'_> {
    fn run<B: Backend>(self, device: B::Device) -> Result<()> {
        let (request, opened) = (self.request, &self.model);
        let model = opened.load::<B>(&device)?;
        let by_kernels = Capabilities::of::<B>(&device).has_kernels(model.precision());
        let machine = by_kernels.then(|| Machine::new(weights::memory(&model, opened.weights())));
        let batch = request.batch;
        let mut runs = Runs {
            cache: model.new_cache(opened.cache),
            ids: Ids::new(model.config().vocab_size),
            model: &model,
            batch,
            weight_bytes: weights::bytes_per_token(&model),
            machine,
        };
        let prefill = runs.measure_prefill(request)?;
        let decode = runs.measure_decode(request)?;
        let rates =
            |name, runs: &[Run], tokens| rates(name, runs, tokens * batch, opened.verbosity);
        let prefill_samples = rates("prefill", &prefill, request.prompt_tokens);
        let decode_samples = rates("decode", &decode, request.new_tokens);
        let report = Report {
            model: opened.checkpoint.name().replace('`', ""),
            backend: opened.backend.name(),
            device: B::name(&device),
            dtype: model.precision().name(),
            cache_dtype: runs.cache.dtype().name(),
            threads: opened.threads,
            prompt_tokens: request.prompt_tokens,
            new_tokens: request.new_tokens,
            depth: request.depth,
            batch,
            repetitions: request.repetitions.into(),
            prefill_tokens_per_second: median(prefill_samples.iter().copied()),
            decode_tokens_per_second: median(decode_samples.iter().copied()),
            weight_bytes_per_token: runs.weight_bytes,
            cache_bytes_per_token: runs.cache_bytes_per_token(request),
            limits: Limits::of(&prefill, &decode, runs.works(request)),
            cache_bytes: runs.cache.size_bytes(),
            peaks: self.sampler.stop(),
            prefill_samples,
            decode_samples,
        };
        report.print(request.json)
    }
}

/// `tokens` a second in each run.
fn rates(name: &str, runs: &[Run], tokens: usize, verbosity: Verbosity) -> Vec<f64> {
    let rates = runs.iter().map(|run| tokens as f64 / run.seconds);
    rates
        .inspect(|rate| verbosity.detail(format_args!("{name}: {rate:.2} tok/s")))
        .collect()
}

/// A model with a cache of `batch` sequences.
struct Runs<'m, B: Backend> {
    model: &'m Olmo2<B>,
    cache: KvCache<B>,
    ids: Ids,
    batch: usize,
    weight_bytes: u64,
    /// `None` where no own kernels compute, which alone are held against its limits.
    machine: Option<Machine>,
}

impl<B: Backend> Runs<'_, B> {
    /// Passes of `--prompt-tokens`; no run where there are no tokens.
    fn measure_prefill(&mut self, request: &BenchRequest) -> Result<Vec<Run>> {
        let tokens = request.prompt_tokens;
        if tokens == 0 {
            return Ok(Vec::new());
        }
        measure(request.repetitions, || {
            self.cache.clear();
            let started = Instant::now();
            self.prefill(tokens)?;
            let seconds = started.elapsed().as_secs_f64();
            Ok(self.run(seconds, Vec::new()))
        })
    }

    /// `--new-tokens`, one by one, each run from `--depth` filled positions.
    fn measure_decode(&mut self, request: &BenchRequest) -> Result<Vec<Run>> {
        let (tokens, depth) = (request.new_tokens, request.depth);
        if tokens == 0 {
            return Ok(Vec::new());
        }
        measure(request.repetitions, || {
            self.fill(depth)?;
            let steps = (0..tokens).map(|i| self.step(depth, i));
            let steps = steps.collect::<Result<Vec<_>>>()?;
            Ok(self.run(steps.iter().map(|step| step.seconds).sum(), steps))
        })
    }

    /// Fills each sequence up to `depth`, or cuts it there.
    fn fill(&mut self, depth: usize) -> Result<()> {
        // Sliding layers cannot always be cut.
        if (0..self.batch).all(|slot| self.cache.truncate(slot, depth) == depth) {
            return Ok(());
        }
        self.cache.clear();
        self.prefill(depth)
    }

    /// What was run, with the peaks of the machine at this time.
    fn run(&self, seconds: f64, steps: Vec<Step>) -> Run {
        Run {
            seconds,
            steps,
            peaks: self.machine.as_ref().map(|_| peaks()),
        }
    }

    /// Decodes the token after `depth + i` others, with its logits on the host, and then reads
    /// the weights alone.
    fn step(&mut self, depth: usize, i: usize) -> Result<Step> {
        let started = Instant::now();
        self.pass(1, LogitRows::Last)?;
        let seconds = started.elapsed().as_secs_f64();
        let cached = match depth {
            // A few positions beside the weights, which are better judged alone.
            0 => 0,
            _ => self.cache_bytes(depth + i),
        };
        Ok(Step {
            seconds,
            bytes: self.weight_bytes + cached,
            read: self.machine.as_ref().map(Machine::read),
        })
    }

    /// Bytes of keys and values that the token after `len` others attends to, its own among them, in
    /// all sequences.
    fn cache_bytes(&self, len: usize) -> u64 {
        let config = self.model.config();
        let activations =
            Capabilities::of::<B>(&self.model.device()).activations(self.model.precision());
        let head = self.cache.dtype().head_bytes(config.head_dim, activations);
        let seen = |layer| {
            config
                .window(layer)
                .map_or(len + 1, |window| window.min(len + 1))
        };
        let seen: usize = (0..config.num_hidden_layers).map(seen).sum();
        (2 * config.num_key_value_heads * self.batch * head * seen) as u64
    }

    /// The mean of [`cache_bytes`](Self::cache_bytes) over the decoded tokens.
    fn cache_bytes_per_token(&self, request: &BenchRequest) -> u64 {
        let steps = 0..request.new_tokens;
        let bytes = steps.map(|i| self.cache_bytes(request.depth + i));
        let count = request.new_tokens.max(1) as u64;
        bytes.sum::<u64>() / count
    }

    /// What a run of each kind has to multiply.
    fn works(&self, request: &BenchRequest) -> Works {
        let layers = weights::work_of_layers(self.model);
        let all = layers.plus(weights::work_of_head(self.model));
        Works {
            token: layers,
            prefill: layers.times(request.prompt_tokens * self.batch),
            decode: (self.batch > 1).then(|| all.times(request.new_tokens * self.batch)),
        }
    }

    /// Adds `tokens` to each sequence, and waits for the logits of the last.
    fn prefill(&mut self, tokens: usize) -> Result<()> {
        let of_each = (PREFILL_CHUNK / self.batch).max(MIN_PREFILL);
        let chunk = chunk_len(self.model.config(), tokens, of_each);
        let mut left = tokens;
        while left > 0 {
            let seq = left.min(chunk);
            left -= seq;
            self.pass(
                seq,
                if left == 0 {
                    LogitRows::Last
                } else {
                    LogitRows::None
                },
            )?;
        }
        Ok(())
    }

    fn pass(&mut self, seq: usize, rows: LogitRows) -> Result<()> {
        let ids = (0..self.batch).map(|_| self.ids.take(seq)).collect();
        let input = ForwardInput::batch(ids)
            .with_cache(&mut self.cache)
            .logits(rows);
        if let Some(logits) = self.model.forward(input)?.logits {
            to_host(logits)?;
        }
        Ok(())
    }
}

/// Random ids, the same in each run of the program.
#[derive(Debug)]
struct Ids {
    state: u64,
    count: u64,
}

impl Ids {
    fn new(vocab_size: usize) -> Self {
        Self {
            state: 1,
            count: vocab_size.min(DOLMA2_TOKENS) as u64,
        }
    }

    fn take(&mut self, count: usize) -> Vec<u32> {
        (0..count).map(|_| self.next()).collect()
    }

    /// Knuth's MMIX generator, its upper bits.
    fn next(&mut self) -> u32 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.state >> 33) % self.count) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_are_tokens_and_differ() {
        let ids = Ids::new(100_352).take(10_000);
        assert!(ids.iter().all(|id| (*id as usize) < DOLMA2_TOKENS));
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        assert!(distinct.len() > 9_000, "{}", distinct.len());
    }
}
