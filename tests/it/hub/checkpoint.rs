//! A checkpoint by its id: downloaded once, then opened as a folder.

use olmo2::{Checkpoint, CheckpointError};

use super::*;

impl Setup {
    fn find(&self, name: &str, revision: Option<&str>) -> Result<Checkpoint, CheckpointError> {
        let hub = Hub::new(self.options.clone());
        Checkpoint::find_on(&hub, name, revision, Files::Model, &mut ())
    }
}

#[test]
fn an_id_is_downloaded_at_its_revision() {
    let setup = Setup::new(tiny());
    for (revision, digit) in [(None, '1'), (Some("main"), '1'), (Some(STEP), '2')] {
        let checkpoint = setup.find(ID, revision).expect("a checkpoint");
        let folder = checkpoint.folder().expect("a folder");
        assert!(folder.ends_with(commit(digit)), "{}", folder.display());
        assert!(folder.join(WEIGHTS).exists());
    }
}

#[test]
fn a_folder_has_no_revision_and_asks_no_hub() {
    let setup = Setup::new(tiny());
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    let name = folder.path().to_str().expect("UTF-8");
    setup.find(name, None).expect("a folder");
    let error = setup.find(name, Some("main")).expect_err("a revision");
    assert!(matches!(error, CheckpointError::RevisionOfFolder { .. }));
    assert_eq!(setup.server.requests().len(), 0);
}

#[test]
fn an_id_that_the_hub_lacks_may_have_been_meant_as_a_folder() {
    let setup = Setup::new(tiny());
    let error = setup.find("org/missing", None).expect_err("no such model");
    let start = "`org/missing` is not a local folder; on the hub: ";
    assert!(error.to_string().starts_with(start), "{error}");
    let error = setup.find("./no/such/folder", None).expect_err("no folder");
    assert!(matches!(error, CheckpointError::NoFolder { .. }), "{error}");
    assert_eq!(error.to_string(), "there is no folder `./no/such/folder`");
}
