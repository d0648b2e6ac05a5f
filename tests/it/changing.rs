//! A source that changes while it is converted.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use olmo2::Olmo2Config;
use olmo2::convert::{ConvertOptions, convert};
use olmo2::record::{ConvertEvent, ConvertProgress};
use olmo2_tests::golden_folder;

/// A mapped source that is overwritten in place would mix two models in one record.
#[test]
fn a_source_that_changes_meanwhile_is_named() {
    struct Overwrite<'a>(&'a Path);
    impl ConvertProgress for Overwrite<'_> {
        fn event(&mut self, event: ConvertEvent<'_>) -> ControlFlow<()> {
            if let ConvertEvent::Finished { .. } = event {
                let other = golden_folder("mha-tiny").join("model.safetensors");
                let other = fs::read(other).expect("weights");
                fs::write(self.0, other).expect("written in place");
            }
            ControlFlow::Continue(())
        }
    }
    let (source, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for name in ["config.json", "model.safetensors"] {
        let from = golden_folder("mha-tiny").join(name);
        fs::copy(from, source.path().join(name)).expect("copied");
    }
    let file = source.path().join("model.safetensors");
    // The clock of a file system may be coarse.
    let opened = fs::File::options().write(true).open(&file).expect("opened");
    opened.set_modified(std::time::UNIX_EPOCH).expect("a time");
    let options = ConvertOptions::new(source.path(), out.path());
    let error = convert(&options, &mut Overwrite(&file)).expect_err("the source changed");
    let expected = format!("`{}` changed while it was converted", file.display());
    assert_eq!(error.to_string(), expected);
    let config = Olmo2Config::from_folder(source.path()).expect("a config");
    olmo2::format::open(out.path(), &config).expect_err("an unfinished record");
}
