//! Conversion of a large checkpoint in a process of its own: its memory, and `kill -9`.
//!
//! ```sh
//! tests/golden/make_checkpoint.py 32b2 --preset 32b --set num_hidden_layers=2
//! OLMO2_CHECKPOINT=32b2 cargo test -p olmo2-tests --test it -- kill::large --ignored --nocapture
//! ```
#![cfg(target_os = "linux")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use olmo2::convert::{ConvertOptions, convert};
use olmo2::record::{Receipt, StoredDtype, verify};
use olmo2::{Olmo2Config, Weights, WeightsError};
use olmo2_tests::golden_folder;

const SOURCE: &str = "OLMO2_CONVERT_SOURCE";
const OUT: &str = "OLMO2_CONVERT_OUT";
const DTYPE: &str = "OLMO2_CONVERT_DTYPE";

/// The process under test: a conversion, or nothing for a second.
#[test]
#[ignore = "run by the tests of this file"]
fn child() {
    let path = |name| std::env::var_os(name).map(PathBuf::from);
    let Some((source, out)) = path(SOURCE).zip(path(OUT)) else {
        return sleep(Duration::from_secs(1));
    };
    let mut options = ConvertOptions::new(source, out);
    let dtype = std::env::var(DTYPE).ok();
    options.dtype = StoredDtype::ALL
        .into_iter()
        .find(|known| dtype.as_deref() == Some(known.name()));
    convert(&options, &mut ()).expect("a conversion");
}

fn spawn(paths: Option<(&Path, &Path)>, dtype: Option<StoredDtype>) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("the test's program"));
    command.args(["--exact", "kill::child", "--ignored"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    if let Some((source, out)) = paths {
        command.env(SOURCE, source).env(OUT, out);
    }
    if let Some(dtype) = dtype {
        command.env(DTYPE, dtype.name());
    }
    command.spawn().expect("a process")
}

/// Anonymous memory of a process in bytes, while it runs.
fn anonymous(child: &Child) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}

/// The most anonymous memory that a process had, asked every 5 ms, and the time that it took.
fn watch(mut child: Child) -> (u64, Duration) {
    let (mut peak, started) = (0, Instant::now());
    loop {
        if let Some(status) = child.try_wait().expect("a process") {
            assert!(status.success(), "{status}");
            return (peak, started.elapsed());
        }
        peak = peak.max(anonymous(&child).unwrap_or(0));
        sleep(Duration::from_millis(5));
    }
}

fn checkpoint() -> (PathBuf, Olmo2Config) {
    let folder = PathBuf::from(std::env::var_os("OLMO2_CHECKPOINT").expect("OLMO2_CHECKPOINT"));
    let config = Olmo2Config::from_folder(&folder).expect("a config");
    (folder, config)
}

/// A folder beside the checkpoint, on the same disk.
fn beside(folder: &Path) -> tempfile::TempDir {
    let parent = folder.canonicalize().expect("a folder");
    let parent = parent.parent().expect("a parent");
    tempfile::tempdir_in(parent).expect("a folder")
}

#[test]
#[ignore = "needs OLMO2_CHECKPOINT: a folder as at the head of this file"]
fn large_checkpoints_convert_in_little_memory() {
    let (source, config) = checkpoint();
    let weights = Weights::open(&source, &config).expect("weights");
    let largest = weights.iter().map(|(_, t)| t.bytes.len() as u64).max();
    let (idle, _) = watch(spawn(None, None));
    for dtype in [None, Some(StoredDtype::F32), Some(StoredDtype::F16)] {
        let out = beside(&source);
        let (peak, time) = watch(spawn(Some((&source, out.path())), dtype));
        let read = weights.total_bytes() as f64 / 1e6 / time.as_secs_f64();
        println!(
            "{}: {:.1} s, {read:.0} MB/s of the source, anonymous memory {:.1} MB, idle {:.1} MB",
            dtype.map_or("as it is", StoredDtype::name),
            time.as_secs_f64(),
            peak as f64 / 1e6,
            idle as f64 / 1e6,
        );
        assert!(peak - idle <= largest.unwrap_or(0) * 3 / 2);
        assert!(
            peak - idle <= 16 << 20,
            "memory does not grow with the model"
        );
    }
}

/// Kills conversions after fractions of the time that a whole one takes, resumes each, and holds
/// it against `whole`.
fn kill_and_resume(source: &Path, config: &Olmo2Config, whole: &Path, time: Duration, kills: u32) {
    let expected = Receipt::read(whole).expect("readable").expect("a receipt");
    let mut cut = 0;
    for kill in 0..kills {
        let out = beside(whole);
        let mut child = spawn(Some((source, out.path())), None);
        // Fractions of the golden ratio fill the time evenly and in no order.
        let fraction = (f64::from(kill + 1) * 0.618_033_988_75).fract();
        sleep(time.mul_f64(fraction));
        child.kill().expect("SIGKILL");
        child.wait().expect("a process");
        match Weights::open(out.path(), config) {
            Ok(_) => {}
            Err(WeightsError::Incomplete { .. } | WeightsError::NoWeights { .. }) => cut += 1,
            Err(other) => panic!("{other}"),
        }
        let report = convert(&ConvertOptions::new(source, out.path()), &mut ()).expect("resumed");
        println!(
            "killed at {:3.0} %: {} parts kept",
            fraction * 100.0,
            report.parts.kept
        );
        verify(out.path(), config, |_| ()).expect("intact");
        let found = Receipt::read(out.path()).expect("readable");
        assert_eq!(found.expect("a receipt"), expected);
        let names = fs::read_dir(out.path()).expect("a folder").count();
        assert_eq!(names, fs::read_dir(whole).expect("a folder").count());
    }
    assert!(
        cut > kills / 2,
        "{cut} of {kills} kills met a conversion at work"
    );
}

#[test]
#[ignore = "needs OLMO2_CHECKPOINT: a folder as at the head of this file"]
fn large_conversions_survive_kills() {
    let (source, config) = checkpoint();
    let whole = beside(&source);
    let (_, time) = watch(spawn(Some((&source, whole.path())), None));
    kill_and_resume(&source, &config, whole.path(), time, 10);
}

#[test]
fn a_killed_conversion_can_be_resumed() {
    let source = golden_folder("sharded");
    let config = Olmo2Config::from_folder(&source).expect("a config");
    let whole = tempfile::tempdir().expect("a folder");
    convert(&ConvertOptions::new(&source, whole.path()), &mut ()).expect("a conversion");
    let expected = Receipt::read(whole.path()).expect("readable");
    for milliseconds in [0, 2, 5, 10, 20, 40] {
        let out = tempfile::tempdir().expect("a folder");
        let mut child = spawn(Some((&source, out.path())), None);
        sleep(Duration::from_millis(milliseconds));
        child.kill().expect("SIGKILL");
        child.wait().expect("a process");
        convert(&ConvertOptions::new(&source, out.path()), &mut ()).expect("resumed");
        verify(out.path(), &config, |_| ()).expect("intact");
        assert_eq!(Receipt::read(out.path()).expect("readable"), expected);
    }
}
