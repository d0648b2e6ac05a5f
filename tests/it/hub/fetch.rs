//! Downloads where nothing goes wrong, and what is refused before one begins.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::time::Duration;

use olmo2::hub::{Files, Hub, HubError};

use super::server::{HubServer, git_hash, sha256};
use super::*;

#[test]
fn the_cache_is_laid_out_as_pythons() {
    let setup = Setup::new(tiny());
    let folder = setup.fetch("main").unwrap();
    let root = setup.cache.path().join("models--org--tiny");
    assert_eq!(folder, root.join("snapshots").join(commit('1')));
    assert_eq!(fs::read(folder.join(WEIGHTS)).unwrap(), weights(1));
    assert_eq!(fs::read(folder.join("config.json")).unwrap(), b"{}");
    // No line end, as huggingface_hub writes it.
    assert_eq!(
        fs::read_to_string(root.join("refs/main")).unwrap(),
        commit('1')
    );
    // What `hf_hub_download` of huggingface_hub 2.4.0 leaves for these files, locks aside.
    let (config, tokenizer) = (git_hash(b"{}"), git_hash(b"{\"model\":{}}"));
    let (large, one) = (sha256(&weights(1)), commit('1'));
    let mut expected = vec![
        format!("blobs/{config}"),
        format!("blobs/{tokenizer}"),
        format!("blobs/{large}"),
        "refs/main".into(),
        format!("snapshots/{one}/config.json -> ../../blobs/{config}"),
        format!("snapshots/{one}/model.safetensors -> ../../blobs/{large}"),
        format!("snapshots/{one}/tokenizer.json -> ../../blobs/{tokenizer}"),
    ];
    expected.sort();
    assert_eq!(listing(&root), expected);
}

#[test]
fn what_is_in_the_cache_is_not_downloaded_again() {
    let setup = Setup::new(tiny());
    setup.fetch("main").unwrap();
    setup.server.requests();
    let (folder, seen) = setup.fetch_seen("main");
    assert!(folder.is_ok() && seen.bytes.is_empty());
    let requests = setup.server.requests();
    let paths: Vec<&str> = requests
        .iter()
        .map(|request| request.path.as_str())
        .collect();
    assert_eq!(paths, ["/api/models/org/tiny/revision/main"]);
}

#[test]
fn progress_goes_from_nothing_to_all_bytes() {
    let setup = Setup::new(tiny());
    let (folder, seen) = setup.fetch_seen("main");
    folder.unwrap();
    let of = |name: &str| -> Vec<u64> {
        let calls = seen.bytes.iter().filter(|(file, ..)| file == name);
        calls
            .map(|(_, done, total)| {
                assert!(total.is_some());
                *done
            })
            .collect()
    };
    let done = of(WEIGHTS);
    assert_eq!((done[0], done.last()), (0, Some(&(1 << 20))));
    assert!(done.len() > 3 && done.is_sorted());
    assert_eq!(of("config.json"), [0, 2]);
    assert!(seen.notices.is_empty());
}

#[test]
fn a_revision_shares_its_small_files_with_main() {
    let setup = Setup::new(tiny());
    setup.fetch("main").unwrap();
    setup.server.requests();
    let folder = setup.fetch(STEP).unwrap();
    assert!(folder.ends_with(commit('2')));
    assert_eq!(fs::read(folder.join(WEIGHTS)).unwrap(), weights(2));
    let requests = setup.server.requests();
    let small = requests
        .iter()
        .filter(|request| request.method == "GET" && request.path.contains("resolve-cache"));
    assert_eq!(small.count(), 0);
    // A full commit hash needs no ref.
    assert_eq!(setup.fetch(&commit('2')).unwrap(), folder);
    let refs = setup.cache.path().join("models--org--tiny/refs");
    assert_eq!(listing(&refs), ["main", STEP]);
}

#[test]
fn the_hub_is_asked_again_where_a_branch_stands() {
    let setup = Setup::new(tiny());
    setup.fetch("main").unwrap();
    let moved = commit('2');
    setup
        .server
        .state()
        .repos
        .get_mut(ID)
        .unwrap()
        .branches
        .insert("main".into(), moved.clone());
    assert!(setup.fetch("main").unwrap().ends_with(moved));
}

#[test]
fn the_token_goes_to_the_hub_and_not_to_its_storage() {
    let storage = HubServer::start(tiny());
    let mut setup = Setup::new(tiny());
    setup.server.state().storage = Some(storage.url());
    setup.server.state().token = Some("hf_secret".into());
    setup.options.token = Some("hf_secret".into());
    let folder = setup.fetch("main").unwrap();
    assert_eq!(fs::read(folder.join(WEIGHTS)).unwrap(), weights(1));
    let at_storage = storage.requests();
    assert_eq!(at_storage.len(), 1);
    assert!(at_storage[0].authorization.is_none() && at_storage[0].path.starts_with("/lfs/"));
    let at_hub = setup.server.requests();
    assert!(at_hub.iter().all(|request| request.authorization.is_some()));
}

#[test]
fn shards_are_those_of_the_index() {
    let index = br#"{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#;
    let files = [
        ("config.json", b"{}".to_vec()),
        (INDEX, index.to_vec()),
        ("model-00001-of-00002.safetensors", weights(3)),
        ("model-00002-of-00002.safetensors", weights(4)),
        ("other.safetensors", weights(5)),
    ];
    let setup = Setup::new(repo_of(&files));
    let folder = setup.fetch("main").unwrap();
    let names: Vec<String> = files[..4].iter().map(|(name, _)| (*name).into()).collect();
    let found: Vec<String> = listing(&folder)
        .iter()
        .map(|line| line.split(' ').next().unwrap().into())
        .collect();
    assert_eq!(found.len(), 4);
    assert!(names.iter().all(|name| found.contains(name)), "{found:?}");
    assert_eq!(fs::read(folder.join(&names[3])).unwrap(), weights(4));

    let setup = Setup::new(repo_of(&files[..3]));
    let error = setup.fetch("main").unwrap_err();
    assert!(
        matches!(&error, HubError::MissingFile { file, .. } if file == &names[3]),
        "{error}"
    );
}

#[test]
fn pickled_weights_are_refused_before_any_download() {
    let setup = Setup::new(repo_of(&[
        ("config.json", b"{}".to_vec()),
        ("pytorch_model.bin", vec![0]),
    ]));
    let error = setup.fetch("main").unwrap_err();
    assert!(matches!(error, HubError::NoSafetensors { .. }));
    assert!(error.to_string().contains("pytorch_model.bin"));
    assert_eq!(setup.server.requests().len(), 1);
    let setup = Setup::new(repo_of(&[("config.json", b"{}".to_vec())]));
    assert!(matches!(
        setup.fetch("main"),
        Err(HubError::NoWeights { .. })
    ));
}

#[test]
fn offline_makes_no_request() {
    let mut setup = Setup::new(tiny());
    let folder = setup.fetch("main").unwrap();
    setup.server.requests();
    setup.options.offline = true;
    assert_eq!(setup.fetch("main").unwrap(), folder);
    assert_eq!(setup.fetch(&commit('1')).unwrap(), folder);
    let error = setup.fetch(STEP).unwrap_err();
    assert!(
        matches!(error, HubError::NotCached { .. }) && error.to_string().contains(STEP),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("needs no network"));
    fs::remove_file(folder.join(WEIGHTS)).unwrap();
    let error = setup.fetch("main").unwrap_err();
    assert!(error.to_string().contains(WEIGHTS), "{error}");
    assert!(matches!(
        Hub::new(setup.options.clone()).revisions(ID),
        Err(HubError::Offline { .. })
    ));
    assert!(setup.server.requests().is_empty());
}

#[test]
fn two_at_once_download_once() {
    let setup = Setup::new(tiny());
    std::thread::scope(|scope| {
        let runs = [(); 4].map(|()| scope.spawn(|| setup.fetch("main").unwrap()));
        for run in runs {
            let folder = run.join().unwrap();
            assert_eq!(fs::read(folder.join(WEIGHTS)).unwrap(), weights(1));
        }
    });
    assert_eq!(setup.downloads().len(), 1);
}

#[test]
fn names_that_lead_elsewhere_are_refused_before_any_request() {
    let setup = Setup::new(tiny());
    let hub = Hub::new(setup.options.clone());
    for id in ["../etc", "a/b/c", "org/tiny?x"] {
        let error = hub.fetch(id, "main", Files::Model, &mut ()).unwrap_err();
        assert!(matches!(error, HubError::InvalidId { .. }), "{id}");
    }
    let error = setup.fetch("../../main").unwrap_err();
    assert!(matches!(error, HubError::InvalidRevision { .. }));
    assert!(setup.server.requests().is_empty());
}

#[test]
fn https_speaks_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut setup = Setup::new(tiny());
    setup.options.endpoint = format!("https://{}", listener.local_addr().unwrap());
    let first = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let mut header = [0; 2];
        stream.read_exact(&mut header).unwrap();
        header
    });
    assert!(matches!(setup.fetch("main"), Err(HubError::Network { .. })));
    // A handshake record of TLS 1.x (RFC 8446, 5.1).
    assert_eq!(first.join().unwrap(), [0x16, 0x03]);
}
