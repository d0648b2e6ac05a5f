//! `cargo xtask slow`: what takes too long for the gate, on checkpoints of released shapes.
//!
//! Needs python3 with venv, npm for ggml's library, 8 GB of disk and, for the 32B layer's
//! conversion, 6 GB more. Weights are seeded, so that the golden of the 1B shape, which
//! transformers computed, can be compared.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use xshell::{Shell, cmd};

use crate::root::root;

/// Arguments of `cargo xtask slow`.
#[derive(Debug, Args)]
pub(crate) struct SlowArgs {
    /// Where checkpoints and records are made; kept for the next time.
    #[arg(long, default_value = "target/slow")]
    folder: PathBuf,
    /// Only this check.
    #[arg(long)]
    only: Option<Check>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Check {
    /// The 1B shape against transformers, from safetensors and from its record.
    Parity,
    /// Memory of a conversion: two layers of the 32B shape.
    Memory,
    /// A conversion killed at ten moments goes on to the same bytes.
    Kill,
    /// Error of quantized weights beside ggml's formats.
    Formats,
}

/// The npm package that has ggml's library.
const GGML: &str = "@node-llama-cpp/linux-x64@3.22.1";

/// Anonymous memory that a conversion may take, in largest tensors.
const MEMORY_BOUND: f64 = 1.5;

pub(crate) fn run(args: &SlowArgs) -> Result<()> {
    let sh = Shell::new()?;
    sh.change_dir(root());
    let folder = root().join(&args.folder);
    fs::create_dir_all(&folder)?;
    cmd!(sh, "cargo build --package olmo2-cli").run()?;
    let bench = Bench {
        sh,
        folder,
        // Cargo puts the programs of a workspace into one folder.
        program: std::env::current_exe()?.with_file_name("olmo2-cli"),
    };
    let wanted = |check| args.only.is_none_or(|only| only == check);
    if wanted(Check::Parity) {
        bench.parity()?;
    }
    if wanted(Check::Memory) {
        bench.memory()?;
    }
    if wanted(Check::Kill) {
        bench.kill()?;
    }
    if wanted(Check::Formats) {
        bench.formats()?;
    }
    Ok(())
}

struct Bench {
    sh: Shell,
    folder: PathBuf,
    /// `olmo2-cli`.
    program: PathBuf,
}

impl Bench {
    /// A checkpoint of a released shape, made once.
    fn checkpoint(&self, name: &str, flags: &[&str]) -> Result<PathBuf> {
        let (sh, folder) = (&self.sh, self.folder.join(name));
        if folder.join("config.json").exists() && folder.join("complete").exists() {
            return Ok(folder);
        }
        let venv = self.folder.join("venv");
        let python = venv.join("bin/python");
        if !python.exists() {
            cmd!(sh, "python3 -m venv {venv}").run()?;
            cmd!(sh, "{python} -m pip install --quiet numpy").run()?;
        }
        cmd!(
            sh,
            "{python} tests/golden/make_checkpoint.py {folder} {flags...}"
        )
        .run()?;
        fs::write(folder.join("complete"), "")?;
        Ok(folder)
    }

    fn convert(&self, source: &Path, out: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("convert").arg(source).arg("-o").arg(out);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn parity(&self) -> Result<()> {
        let source = self.checkpoint("1b", &["--preset", "1b"])?;
        let record = self.folder.join("1b-record");
        let started = Instant::now();
        ensure!(
            self.convert(&source, &record).status()?.success(),
            "conversion of the 1B shape"
        );
        println!("1B converted in {:.1} s", started.elapsed().as_secs_f64());
        for folder in [&source, &record] {
            println!("{}", folder.display());
            let sh = &self.sh;
            let _folder = sh.push_env("OLMO2_1B", folder);
            let test = "slow::one_billion_parameters_match_transformers";
            cmd!(
                sh,
                "cargo test -p olmo2-tests --test it -- --ignored --exact {test} --nocapture"
            )
            .run()?;
        }
        Ok(())
    }

    fn memory(&self) -> Result<()> {
        let source = self.large()?;
        // The vocabulary's matrix: 100352 rows of 5120 bf16.
        let largest = 100_352.0 * 5120.0 * 2.0;
        let idle = peak_anon(Command::new(&self.program).arg("--help"))?;
        for (flag, format) in [
            ("--dtype", "bf16"),
            ("--dtype", "f16"),
            ("--quantize", "q8"),
            ("--quantize", "q4"),
        ] {
            let record = self.folder.join(format!("32b-{format}"));
            let _ = fs::remove_dir_all(&record);
            let mut command = self.convert(&source, &record);
            let started = Instant::now();
            let peak = peak_anon(command.args([flag, format]))?.saturating_sub(idle);
            let share = peak as f64 / largest;
            println!(
                "32B, two layers, to {format}: {:.1} s, {:.0} MB anonymous above idle, {share:.3} of the largest tensor",
                started.elapsed().as_secs_f64(),
                peak as f64 / 1e6,
            );
            ensure!(
                share <= MEMORY_BOUND,
                "more than {MEMORY_BOUND} largest tensors"
            );
            fs::remove_dir_all(record)?;
        }
        Ok(())
    }

    fn kill(&self) -> Result<()> {
        let source = self.large()?;
        let (whole, cut) = (self.folder.join("32b-whole"), self.folder.join("32b-cut"));
        let _ = (fs::remove_dir_all(&whole), fs::remove_dir_all(&cut));
        let started = Instant::now();
        ensure!(
            self.convert(&source, &whole).status()?.success(),
            "an undisturbed conversion"
        );
        let whole_time = started.elapsed();
        for moment in 1..=10 {
            // Scattered over the whole run; each on a folder of its own.
            let _ = fs::remove_dir_all(&cut);
            let wait = whole_time.mul_f64(f64::from(moment * 7 % 11) / 11.0);
            let mut child = self.convert(&source, &cut).spawn()?;
            std::thread::sleep(wait);
            child.kill()?;
            child.wait()?;
            let parts = record_parts(&cut);
            ensure!(
                self.convert(&source, &cut).status()?.success(),
                "the resumed conversion"
            );
            let sh = &self.sh;
            cmd!(sh, "diff -r {whole} {cut}")
                .run()
                .context("the resumed record differs")?;
            println!(
                "killed after {:.2} s with {parts} of 3 parts",
                wait.as_secs_f64()
            );
        }
        println!("ten times killed, the same bytes");
        fs::remove_dir_all(whole)?;
        fs::remove_dir_all(cut)?;
        Ok(())
    }

    fn formats(&self) -> Result<()> {
        let (sh, folder) = (&self.sh, &self.folder);
        let library = folder.join("package/bins/linux-x64");
        if !library.exists() {
            let _folder = sh.push_dir(folder);
            let packed = cmd!(sh, "npm pack --silent {GGML}").read()?;
            cmd!(sh, "tar xzf {packed}").run()?;
        }
        Ok(cmd!(sh, "python3 tests/accuracy/ggml.py {library}").run()?)
    }

    fn large(&self) -> Result<PathBuf> {
        self.checkpoint("32b", &["--preset", "32b", "--set", "num_hidden_layers=2"])
    }
}

/// Finished parts in a folder.
fn record_parts(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.path().extension().is_some_and(|x| x == "bpk"))
        .count()
}

/// Largest `RssAnon` of a process, in bytes, looked at every 5 ms.
///
/// `olmo2-cli bench` samples itself, from a thread, since it ends when its work does; here a child
/// is waited for, and that loop is the sampler. The line of `/proc` is all that both would share.
fn peak_anon(command: &mut Command) -> Result<u64> {
    let mut child = command.stdout(Stdio::null()).spawn()?;
    let mut peak = 0;
    loop {
        peak = peak.max(anon(&child).unwrap_or(0));
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "the process failed");
            return Ok(peak);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn anon(child: &Child) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    line.split_whitespace()
        .nth(1)?
        .parse::<u64>()
        .ok()
        .map(|kb| kb * 1024)
}
