//! The list of revisions, and what `models list` and `models remove` stand on.

use std::fs;

use olmo2::hub::{Hub, HubError, cached_models, remove};

use super::server::{git_hash, sha256};
use super::{ID, STEP, Setup, commit, listing, tiny, weights};

/// Both revisions of `org/tiny` in a cache.
fn both() -> Setup {
    let setup = Setup::new(tiny());
    setup.fetch("main").unwrap();
    setup.fetch(STEP).unwrap();
    setup
}

#[test]
fn revisions_come_sorted_from_the_hub() {
    let setup = Setup::new(tiny());
    {
        let mut state = setup.server.state();
        let repo = state.repos.get_mut(ID).unwrap();
        for name in [
            "stage2-ingredient1-step1000-tokens3B",
            "stage1-step9000-tokens19B",
        ] {
            repo.branches.insert(name.into(), commit('3'));
        }
        repo.tags.insert("v1".into(), commit('4'));
    }
    let revisions = Hub::new(setup.options.clone()).revisions(ID).unwrap();
    let names: Vec<&str> = revisions
        .iter()
        .map(|revision| revision.name.as_str())
        .collect();
    let expected = [
        "main",
        "v1",
        "stage1-step9000-tokens19B",
        STEP,
        "stage2-ingredient1-step1000-tokens3B",
    ];
    assert_eq!(names, expected);
    assert_eq!(revisions[3].commit, commit('2'));
    assert_eq!(revisions[3].checkpoint.unwrap().tokens_billions, Some(294));
    assert!(revisions[1].is_tag && !revisions[0].is_tag);
    let error = Hub::new(setup.options.clone())
        .revisions("org/other")
        .unwrap_err();
    assert!(matches!(error, HubError::RepoNotFound { .. }), "{error}");
}

#[test]
fn the_list_counts_shared_contents_once() {
    let setup = both();
    let root = setup.cache.path().join("models--org--tiny");
    fs::write(root.join("blobs/x.incomplete"), [0; 10]).unwrap();
    let models = cached_models(setup.cache.path()).unwrap();
    assert_eq!(models.len(), 1);
    assert_eq!((models[0].id.as_str(), &models[0].path), (ID, &root));
    let small = 2 + 12;
    let refs = 2 * 40;
    assert_eq!(models[0].size_on_disk, 2 * (1 << 20) + small + refs + 10);
    let revisions = &models[0].revisions;
    assert_eq!(
        revisions
            .iter()
            .map(|revision| &revision.commit)
            .collect::<Vec<_>>(),
        [&commit('1'), &commit('2')]
    );
    assert_eq!(revisions[1].refs, [STEP]);
    assert_eq!(revisions[1].size_on_disk, (1 << 20) + small);
    assert!(revisions.iter().all(|revision| revision.is_complete));
    fs::remove_file(root.join("blobs").join(sha256(&weights(2)))).unwrap();
    let models = cached_models(setup.cache.path()).unwrap();
    assert!(models[0].revisions[0].is_complete && !models[0].revisions[1].is_complete);
}

#[test]
fn what_is_no_model_is_not_listed() {
    let cache = tempfile::tempdir().unwrap();
    for name in [
        "datasets--org--d/snapshots",
        "models--a--b--c/snapshots",
        "models--org--x",
        ".locks",
        "blobs",
    ] {
        fs::create_dir_all(cache.path().join(name)).unwrap();
    }
    fs::write(cache.path().join("models--org--file"), "").unwrap();
    assert_eq!(cached_models(cache.path()).unwrap(), []);
    assert_eq!(cached_models(&cache.path().join("none")).unwrap(), []);
}

#[test]
fn removing_a_revision_keeps_what_others_use() {
    let setup = both();
    let root = setup.cache.path().join("models--org--tiny");
    let freed = remove(setup.cache.path(), ID, Some(STEP)).unwrap();
    assert_eq!(freed, 1 << 20);
    let shared = git_hash(b"{}");
    assert!(root.join("blobs").join(&shared).is_file());
    assert!(!root.join("blobs").join(sha256(&weights(2))).exists());
    assert_eq!(listing(&root.join("refs")), ["main"]);
    assert!(!root.join("snapshots").join(commit('2')).exists());
    // What stays is whole.
    assert!(cached_models(setup.cache.path()).unwrap()[0].revisions[0].is_complete);
    // The last one takes the folder with it, by its commit as by its name.
    remove(setup.cache.path(), ID, Some(&commit('1'))).unwrap();
    assert!(!root.exists() && !setup.cache.path().join(".locks/models--org--tiny").exists());
}

#[test]
fn removing_one_of_two_names_keeps_the_snapshot() {
    let setup = both();
    let root = setup.cache.path().join("models--org--tiny");
    fs::write(root.join("refs/other"), commit('1')).unwrap();
    assert_eq!(remove(setup.cache.path(), ID, Some("main")).unwrap(), 0);
    assert_eq!(listing(&root.join("refs")), ["other", STEP]);
    assert!(root.join("snapshots").join(commit('1')).is_dir());
}

#[test]
fn removing_a_model_leaves_its_neighbors() {
    let setup = both();
    let neighbor = setup.cache.path().join("models--org--tiny2/snapshots");
    fs::create_dir_all(&neighbor).unwrap();
    let freed = remove(setup.cache.path(), ID, None).unwrap();
    assert_eq!(freed, 2 * (1 << 20) + 14 + 80);
    assert!(neighbor.is_dir() && !setup.cache.path().join("models--org--tiny").exists());
    let error = remove(setup.cache.path(), ID, None).unwrap_err();
    assert!(matches!(error, HubError::NothingCached { .. }), "{error}");
}

#[test]
fn removing_what_is_not_there_says_so() {
    let setup = both();
    for revision in ["v1", &commit('9')] {
        let error = remove(setup.cache.path(), ID, Some(revision)).unwrap_err();
        assert!(error.to_string().contains(revision), "{error}");
        assert!(matches!(error, HubError::NothingCached { .. }), "{error}");
    }
    assert_eq!(
        cached_models(setup.cache.path()).unwrap()[0]
            .revisions
            .len(),
        2
    );
}

#[test]
fn removing_never_leaves_the_cache() {
    let outside = tempfile::tempdir().unwrap();
    let cache = outside.path().join("cache");
    fs::create_dir(&cache).unwrap();
    let victim = outside.path().join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("file"), "x").unwrap();
    for id in ["..", "../victim", "x/../../victim", "", "."] {
        assert!(
            matches!(remove(&cache, id, None), Err(HubError::InvalidId { .. })),
            "{id}"
        );
    }
    let root = cache.join("models--org--tiny");
    fs::create_dir_all(root.join("snapshots/abc")).unwrap();
    for revision in ["..", "../../../victim", "/victim"] {
        let error = remove(&cache, "org/tiny", Some(revision)).unwrap_err();
        assert!(
            matches!(error, HubError::InvalidRevision { .. }),
            "{revision}"
        );
    }
    // A ref whose content leads elsewhere is none.
    fs::create_dir_all(root.join("refs")).unwrap();
    fs::write(root.join("refs/main"), "../../../../victim").unwrap();
    assert!(remove(&cache, "org/tiny", Some("main")).is_err());
    assert!(victim.join("file").is_file());
}

#[cfg(unix)]
#[test]
fn removing_does_not_follow_links() {
    use std::os::unix::fs::symlink;
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("file"), "x").unwrap();
    let setup = both();
    let root = setup.cache.path().join("models--org--tiny");
    // A snapshot's link to a file elsewhere, and a folder that is elsewhere.
    let snapshot = root.join("snapshots").join(commit('2'));
    symlink(victim.join("file"), snapshot.join("file")).unwrap();
    symlink(&victim, snapshot.join("folder")).unwrap();
    remove(setup.cache.path(), ID, Some(STEP)).unwrap();
    assert!(victim.join("file").is_file() && !snapshot.exists());
    // A model that is a link itself.
    symlink(&victim, setup.cache.path().join("models--org--link")).unwrap();
    assert!(remove(setup.cache.path(), "org/link", None).is_err());
    // A model whose refs are elsewhere.
    fs::write(victim.join("main"), commit('1')).unwrap();
    fs::remove_dir_all(root.join("refs")).unwrap();
    symlink(&victim, root.join("refs")).unwrap();
    assert!(remove(setup.cache.path(), ID, Some("main")).is_err());
    assert_eq!(listing(&victim), ["file", "main"]);
}
