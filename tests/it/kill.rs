//! A conversion in a process of its own, ended by `SIGKILL`. `cargo xtask slow` does the same to a
//! checkpoint of 4 GB.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use olmo2::Olmo2Config;
use olmo2::convert::{ConvertOptions, convert};
use olmo2::record::{Receipt, check};
use olmo2_tests::golden_folder;

const OUT: &str = "OLMO2_TESTS_CONVERT_OUT";

/// The process that is killed.
#[test]
#[ignore = "run by `a_killed_conversion_goes_on_to_the_same_bytes`"]
fn child() {
    let Some(out) = std::env::var_os(OUT).map(PathBuf::from) else {
        return;
    };
    let options = ConvertOptions::new(golden_folder("sharded"), out);
    convert(&options, &mut ()).expect("a conversion");
}

#[test]
fn a_killed_conversion_goes_on_to_the_same_bytes() {
    let source = golden_folder("sharded");
    let config = Olmo2Config::from_folder(&source).expect("a config");
    let whole = tempfile::tempdir().expect("a folder");
    convert(&ConvertOptions::new(&source, whole.path()), &mut ()).expect("a conversion");
    let expected = Receipt::read(whole.path()).expect("readable");
    for milliseconds in [0, 2, 5, 10, 20, 40] {
        let out = tempfile::tempdir().expect("a folder");
        let mut child = Command::new(std::env::current_exe().expect("the test's program"))
            .args(["--exact", "kill::child", "--ignored"])
            .env(OUT, out.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a process");
        sleep(Duration::from_millis(milliseconds));
        child.kill().expect("SIGKILL");
        child.wait().expect("a process");
        convert(&ConvertOptions::new(&source, out.path()), &mut ()).expect("resumed");
        check(out.path(), &config, |_| ()).expect("intact");
        assert_eq!(Receipt::read(out.path()).expect("readable"), expected);
    }
}
