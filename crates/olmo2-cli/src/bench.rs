//! `bench`: prefill and decode speed, the bytes of weights behind a token, and peak memory.

mod peak;
mod weights;

use std::io::{self, Write};
use std::time::Instant;

use anyhow::Result;
use burn::prelude::*;
use olmo2::hub::Files;
use olmo2::{CacheOptions, DOLMA2_TOKENS, ForwardInput, KvCache, LogitRows, Olmo2};
use serde::Serialize;

use crate::args::BenchArgs;
use crate::backend::Command;
use crate::failure::Failure;
use crate::memory::{Sequences, size};
use crate::model::{Checkpoint, Source, cache_options, positions};
use crate::passes;
use crate::talk::Talk;
use crate::words::count;

use peak::{Peaks, Sampler};

/// Tokens of a pass in prefill, over all sequences.
const CHUNK: usize = 512;

pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    // Before anything is loaded: loading is part of the peak.
    let sampler = Sampler::start();
    let source = Source::find(&args.run.source, Files::Model, Talk::new(&args.run.source))?;
    let longest = args
        .prompt_tokens
        .max(args.depth.saturating_add(args.new_tokens));
    let sequences = Sequences {
        count: args.batch.into(),
        longest: Some(longest),
    };
    let checkpoint = Checkpoint::open(source, &args.run, sequences)?;
    let limit = positions(&checkpoint.config, args.run.context);
    if longest > limit {
        return Err(Failure::new(
            format!("sequences of {longest} tokens do not fit {limit} positions"),
            "lower `-p`, `-n` or `--depth`, or raise `--context` as far as the model goes",
        )
        .into());
    }
    checkpoint.backend.dispatch(Bench {
        args,
        checkpoint,
        sampler,
    })
}

struct Bench<'a> {
    args: &'a BenchArgs,
    checkpoint: Checkpoint,
    sampler: Sampler,
}

impl Command for Bench<'_> {
    fn run<B: Backend>(self, device: B::Device) -> Result<()> {
        let (args, talk) = (self.args, self.checkpoint.talk);
        let model = self.checkpoint.load::<B>(&device)?;
        let batch = usize::from(args.batch);
        let mut runs = Runs {
            cache: model.new_cache(CacheOptions {
                slots: batch,
                ..cache_options(&self.checkpoint.config, &args.run)
            }),
            ids: Ids::new(model.config().vocab_size),
            model: &model,
            batch,
        };
        let prefill = runs.measure_prefill(args, talk)?;
        let decode = runs.measure_decode(args, talk)?;
        let report = Report {
            model: self.checkpoint.source.name().replace('`', ""),
            backend: self.checkpoint.backend.name(),
            device: B::name(&device),
            dtype: model.precision().name(),
            cache_dtype: runs.cache.dtype().name(),
            threads: self.checkpoint.threads,
            prompt_tokens: args.prompt_tokens,
            new_tokens: args.new_tokens,
            depth: args.depth,
            batch,
            repetitions: args.repetitions.into(),
            prefill_tokens_per_second: median(&prefill),
            decode_tokens_per_second: median(&decode),
            weight_bytes_per_token: weights::bytes_per_token(&model),
            cache_bytes: runs.cache.size_bytes(),
            peaks: self.sampler.stop(),
            prefill_samples: prefill,
            decode_samples: decode,
        };
        report.print(args.json)
    }
}

/// Seconds of each run, after one that is not counted.
fn measure(repetitions: u16, mut work: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    work()?;
    let timed = |_| {
        let started = Instant::now();
        work()?;
        Ok(started.elapsed().as_secs_f64())
    };
    (0..repetitions).map(timed).collect()
}

/// The middle value, or the mean of the two in the middle.
fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        len if len % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// A model with a cache of `batch` sequences.
struct Runs<'m, B: Backend> {
    model: &'m Olmo2<B>,
    cache: KvCache<B>,
    ids: Ids,
    batch: usize,
}

impl<B: Backend> Runs<'_, B> {
    /// Tokens a second of each run; none where there are no tokens.
    fn measure_prefill(&mut self, args: &BenchArgs, talk: Talk) -> Result<Vec<f64>> {
        let tokens = args.prompt_tokens;
        if tokens == 0 {
            return Ok(Vec::new());
        }
        let seconds = measure(args.repetitions, || {
            self.cache.clear();
            self.prefill(tokens)
        })?;
        Ok(self.rates("prefill", tokens, &seconds, talk))
    }

    /// As [`measure_prefill`](Self::measure_prefill), each run from `--depth` filled positions.
    fn measure_decode(&mut self, args: &BenchArgs, talk: Talk) -> Result<Vec<f64>> {
        let tokens = args.new_tokens;
        if tokens == 0 {
            return Ok(Vec::new());
        }
        self.cache.clear();
        self.prefill(args.depth)?;
        let seconds = measure(args.repetitions, || {
            (0..self.batch).for_each(|slot| self.cache.truncate(slot, args.depth));
            self.decode(tokens)
        })?;
        Ok(self.rates("decode", tokens, &seconds, talk))
    }

    /// Tokens a second over all sequences.
    fn rates(&self, name: &str, tokens: usize, seconds: &[f64], talk: Talk) -> Vec<f64> {
        let tokens = (tokens * self.batch) as f64;
        let rates: Vec<f64> = seconds.iter().map(|seconds| tokens / seconds).collect();
        for rate in &rates {
            talk.detail(format_args!("{name}: {rate:.2} tok/s"));
        }
        rates
    }

    /// Adds `tokens` to each sequence, and waits for the logits of the last.
    fn prefill(&mut self, tokens: usize) -> Result<()> {
        let chunk = match self.model.config().rope.is_dynamic() {
            true => tokens.max(1),
            false => (CHUNK / self.batch).max(1),
        };
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

    /// Adds `tokens` to each sequence, one by one, with the logits of each on the host.
    fn decode(&mut self, tokens: usize) -> Result<()> {
        (0..tokens).try_for_each(|_| self.pass(1, LogitRows::Last))
    }

    fn pass(&mut self, seq: usize, rows: LogitRows) -> Result<()> {
        let ids = (0..self.batch).map(|_| self.ids.take(seq)).collect();
        let input = ForwardInput::batch(ids)
            .with_cache(&mut self.cache)
            .logits(rows);
        if let Some(logits) = self.model.forward(input)?.logits {
            passes::values(logits)?;
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

/// The object of `--json`.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    backend: &'static str,
    device: String,
    dtype: &'static str,
    cache_dtype: &'static str,
    threads: usize,
    prompt_tokens: usize,
    new_tokens: usize,
    depth: usize,
    batch: usize,
    repetitions: usize,
    prefill_tokens_per_second: Option<f64>,
    decode_tokens_per_second: Option<f64>,
    weight_bytes_per_token: u64,
    cache_bytes: usize,
    #[serde(flatten)]
    peaks: Peaks,
    prefill_samples: Vec<f64>,
    decode_samples: Vec<f64>,
}

impl Report {
    fn print(&self, json: bool) -> Result<()> {
        let mut out = io::stdout().lock();
        if json {
            writeln!(out, "{}", serde_json::to_string(self)?)?;
            return Ok(out.flush()?);
        }
        let bytes = |bytes: Option<u64>| bytes.map_or("not known here".into(), size);
        let rate =
            |rate: Option<f64>| rate.map_or("not run".into(), |rate| format!("{rate:.2} tok/s"));
        let (backend, dtype, cache) = (self.backend, self.dtype, self.cache_dtype);
        let threads = count(self.threads, "thread");
        let tokens = |n| count(n, "token");
        let (p, n, depth, batch) = (self.prompt_tokens, self.new_tokens, self.depth, self.batch);
        let prefill = rate(self.prefill_tokens_per_second);
        let decode = rate(self.decode_tokens_per_second);
        let weights = size(self.weight_bytes_per_token);
        writeln!(out, "model              {}", self.model)?;
        writeln!(
            out,
            "backend            {backend}, {dtype}, cache {cache}, {threads}"
        )?;
        writeln!(
            out,
            "prefill            {prefill} ({}, batch {batch})",
            tokens(p)
        )?;
        writeln!(
            out,
            "decode             {decode} ({} from position {depth}, batch {batch})",
            tokens(n)
        )?;
        writeln!(out, "weights per token  {weights}")?;
        writeln!(
            out,
            "peak resident      {}",
            bytes(self.peaks.peak_rss_bytes)
        )?;
        writeln!(
            out,
            "peak anonymous     {}",
            bytes(self.peaks.peak_anon_bytes)
        )?;
        Ok(out.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 9.0]), Some(3.0));
        assert_eq!(median(&[4.0, 1.0, 9.0, 2.0]), Some(3.0));
    }

    #[test]
    fn random_ids_are_tokens_and_differ() {
        let ids = Ids::new(100_352).take(10_000);
        assert!(ids.iter().all(|id| (*id as usize) < DOLMA2_TOKENS));
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        assert!(distinct.len() > 9_000, "{}", distinct.len());
    }
}
