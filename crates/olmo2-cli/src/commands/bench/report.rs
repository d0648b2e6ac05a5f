//! What `bench` prints: an object of JSON, or a table for people.

use std::io::{self, Write};

use serde::Serialize;

use super::limits::Limits;
use super::peak::Peaks;
use crate::commands::json::print_json;
use crate::memory::size;
use crate::messages::{Result, count};

/// The object of `--json`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) model: String,
    pub(super) backend: &'static str,
    pub(super) device: String,
    pub(super) dtype: &'static str,
    pub(super) cache_dtype: &'static str,
    pub(super) threads: usize,
    pub(super) prompt_tokens: usize,
    pub(super) new_tokens: usize,
    pub(super) depth: usize,
    pub(super) batch: usize,
    pub(super) repetitions: usize,
    pub(super) prefill_tokens_per_second: Option<f64>,
    pub(super) decode_tokens_per_second: Option<f64>,
    pub(super) weight_bytes_per_token: u64,
    pub(super) cache_bytes_per_token: u64,
    #[serde(flatten)]
    pub(super) limits: Limits,
    pub(super) cache_bytes: usize,
    #[serde(flatten)]
    pub(super) peaks: Peaks,
    pub(super) prefill_samples: Vec<f64>,
    pub(super) decode_samples: Vec<f64>,
}

impl Report {
    pub(super) fn print(&self, json: bool) -> Result<()> {
        if json {
            return print_json(self);
        }
        let mut out = io::stdout().lock();
        for (name, value) in self.lines() {
            writeln!(out, "{name:<18} {value}")?;
        }
        Ok(out.flush()?)
    }

    /// Names and values; what is not measured on a backend has no line.
    fn lines(&self) -> Vec<(&'static str, String)> {
        let (backend, dtype, cache) = (self.backend, self.dtype, self.cache_dtype);
        let threads = count(self.threads, "thread");
        let tokens = |n| count(n, "token");
        let (depth, batch) = (self.depth, self.batch);
        let (prompt, new) = (tokens(self.prompt_tokens), tokens(self.new_tokens));
        let prefill = rate(self.prefill_tokens_per_second);
        let decode = rate(self.decode_tokens_per_second);
        let bytes = |bytes: Option<u64>| bytes.map_or("not known here".into(), size);
        let mut lines = vec![
            ("model", self.model.clone()),
            (
                "backend",
                format!("{backend}, {dtype}, cache {cache}, {threads}"),
            ),
            ("prefill", format!("{prefill} ({prompt}, batch {batch})")),
            (
                "decode",
                format!("{decode} ({new} from position {depth}, batch {batch})"),
            ),
            ("weights per token", size(self.weight_bytes_per_token)),
        ];
        if depth > 0 {
            lines.push(("cache per token", size(self.cache_bytes_per_token)));
        }
        lines.extend(self.limits.lines());
        lines.push(("peak resident", bytes(self.peaks.peak_rss_bytes)));
        lines.push(("peak anonymous", bytes(self.peaks.peak_anon_bytes)));
        lines
    }
}

fn rate(rate: Option<f64>) -> String {
    rate.map_or("not run".into(), |rate| format!("{rate:.2} tok/s"))
}

fn percent(share: f64) -> String {
    format!("{:.0}%", 100.0 * share)
}

impl Limits {
    fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        if let (Some(read), Some(share)) =
            (self.read_gigabytes_per_second, self.decode_share_of_read)
        {
            let text = format!("{read:.1} GB/s, decode {} of it", percent(share));
            lines.push(("memory reads", text));
        }
        let peaks = [
            ("f32", self.peak_f32_gops),
            ("bf16", self.peak_bf16_gops),
            ("bf16 in AMX tiles", self.peak_bf16_tiles_gops),
            ("int8", self.peak_int8_gops),
            ("int8 in AMX tiles", self.peak_int8_tiles_gops),
        ];
        let peak = |(name, peak): (&str, Option<f64>)| Some(format!("{name} {:.0}", peak?));
        let peaks: Vec<String> = peaks.into_iter().filter_map(peak).collect();
        if let Some(product_type) = self.product_type {
            let mut text = format!("{} Gop/s", peaks.join(", "));
            let tiles = match product_type {
                "bf16" => self.peak_bf16_tiles_gops,
                "int8" => self.peak_int8_tiles_gops,
                _ => None,
            };
            let tiles = if tiles.is_some() { " in AMX tiles" } else { "" };
            for (name, share, tiles) in [
                ("prefill", self.prefill_share_of_peak, tiles),
                ("decode", self.decode_share_of_peak, ""),
            ] {
                if let Some(share) = share {
                    let share = percent(share);
                    text += &format!("; {name} {share} of {product_type}{tiles}");
                }
            }
            lines.push(("multiply-adds", text));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_tiles_is_named_as_one() {
        let line = |product_type| {
            let limits = Limits {
                peak_f32_gops: Some(100.0),
                peak_bf16_gops: Some(200.0),
                peak_bf16_tiles_gops: Some(800.0),
                peak_int8_gops: Some(400.0),
                product_type: Some(product_type),
                prefill_share_of_peak: Some(0.25),
                decode_share_of_peak: Some(0.5),
                ..Limits::default()
            };
            limits.lines()[0].1.clone()
        };
        let peaks = "f32 100, bf16 200, bf16 in AMX tiles 800, int8 400 Gop/s";
        for (product_type, of) in [
            ("f32", "f32"),
            ("bf16", "bf16 in AMX tiles"),
            ("int8", "int8"),
        ] {
            let right = format!("{peaks}; prefill 25% of {of}; decode 50% of {product_type}");
            assert_eq!(line(product_type), right);
        }
    }
}
