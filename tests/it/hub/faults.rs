//! Downloads where something goes wrong: refusals, broken connections, no network.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use olmo2::hub::{Files, Hub, HubError, Notice};

use super::server::sha256;
use super::*;

#[test]
fn a_missing_revision_names_itself_and_where_to_look() {
    let setup = Setup::new(tiny());
    for silent in [false, true] {
        setup.server.state().silent_404 = silent;
        let error = setup.fetch("stage1-step1-tokens1B").unwrap_err();
        assert!(
            matches!(error, HubError::RevisionNotFound { .. }),
            "{error}"
        );
        assert!(error.to_string().contains("stage1-step1-tokens1B"));
        assert!(error.hint().unwrap().contains("revision"));
    }
}

#[test]
fn a_missing_model_is_not_a_missing_revision() {
    let setup = Setup::new(tiny());
    let hub = Hub::new(setup.options.clone());
    for (silent, revision) in [(false, "main"), (true, "main"), (true, STEP)] {
        setup.server.state().silent_404 = silent;
        let error = hub
            .fetch("org/other", revision, Files::Model, &mut ())
            .unwrap_err();
        assert!(
            matches!(&error, HubError::RepoNotFound { id, .. } if id == "org/other"),
            "{error}"
        );
    }
}

#[test]
fn a_refusal_tells_of_the_token() {
    let mut setup = Setup::new(tiny());
    setup.server.state().token = Some("hf_secret".into());
    let error = setup.fetch("main").unwrap_err();
    assert!(
        matches!(
            error,
            HubError::Refused {
                status: 401,
                token: false,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("HF_TOKEN"));
    setup.options.token = Some("hf_wrong".into());
    let error = setup.fetch("main").unwrap_err();
    assert!(
        matches!(
            error,
            HubError::Refused {
                status: 401,
                token: true,
                ..
            }
        ),
        "{error}"
    );
    assert!(!format!("{error} {error:?} {:?}", error.hint()).contains("hf_wrong"));
}

#[test]
fn a_gated_model_says_to_ask_for_access() {
    let mut setup = Setup::new(tiny());
    setup.options.token = Some("hf_secret".into());
    setup.server.state().gated = true;
    let error = setup.fetch("main").unwrap_err();
    assert!(
        matches!(
            error,
            HubError::Refused {
                status: 403,
                gated: true,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("request access"));
}

#[test]
fn a_broken_connection_goes_on_where_it_broke() {
    let setup = Setup::new(tiny());
    setup.server.state().drop_after = Some((300_000, 3));
    let (folder, seen) = setup.fetch_seen("main");
    assert_eq!(fs::read(folder.unwrap().join(WEIGHTS)).unwrap(), weights(1));
    let ranges = [300_000, 600_000, 900_000].map(|start| Some(format!("bytes={start}-")));
    assert_eq!(setup.downloads(), [vec![None], ranges.to_vec()].concat());
    assert_eq!(seen.notices.len(), 3);
    assert!(matches!(&seen.notices[0], Notice::Retry { file, .. } if file == WEIGHTS));
}

#[test]
fn a_later_run_goes_on_where_the_last_one_stopped() {
    let mut setup = Setup::new(tiny());
    setup.options.retries = 0;
    setup.server.state().drop_after = Some((300_000, 1));
    let error = setup.fetch("main").unwrap_err();
    assert!(matches!(error, HubError::Network { .. }), "{error}");
    let part = setup.blob(&format!("{}.incomplete", sha256(&weights(1))));
    assert_eq!(fs::read(&part).unwrap(), weights(1)[..300_000]);
    assert!(
        !setup
            .cache
            .path()
            .join("models--org--tiny/refs/main")
            .exists()
    );
    setup.downloads();
    // Twice the connection breaks before the first byte: what is there is not asked for again.
    setup.options.retries = 2;
    setup.server.state().drop_after = Some((0, 2));
    let (folder, seen) = setup.fetch_seen("main");
    assert_eq!(fs::read(folder.unwrap().join(WEIGHTS)).unwrap(), weights(1));
    let range = Some("bytes=300000-".to_owned());
    assert_eq!(setup.downloads(), [range.clone(), range.clone(), range]);
    assert_eq!(seen.bytes[0], (WEIGHTS.into(), 300_000, Some(1 << 20)));
    assert!(!part.exists());
}

#[test]
fn retries_end() {
    let mut setup = Setup::new(tiny());
    setup.options.retries = 2;
    setup.server.state().drop_after = Some((0, 50));
    assert!(matches!(setup.fetch("main"), Err(HubError::Network { .. })));
    assert_eq!(setup.downloads().len(), 3);
    // The same bytes again are no progress.
    setup.server.state().drop_after = Some((1000, 50));
    setup.server.state().no_ranges = true;
    assert!(matches!(setup.fetch("main"), Err(HubError::Network { .. })));
    assert_eq!(setup.downloads().len(), 3);
}

#[test]
fn a_server_without_ranges_sends_the_file_anew() {
    let setup = Setup::new(tiny());
    setup.server.state().drop_after = Some((300_000, 1));
    setup.server.state().no_ranges = true;
    let folder = setup.fetch("main").unwrap();
    assert_eq!(fs::read(folder.join(WEIGHTS)).unwrap(), weights(1));
}

#[test]
fn a_whole_or_spoilt_part_is_finished_all_the_same() {
    let setup = Setup::new(tiny());
    let good = weights(1);
    let part = setup.blob(&format!("{}.incomplete", sha256(&good)));
    let spoilt = vec![7; 1000];
    let long = [good.clone(), spoilt.clone()].concat();
    // Content of the part, and the downloads that it takes.
    for (left, downloads) in [(good.clone(), 0), (spoilt, 2), (long, 1), (Vec::new(), 1)] {
        fs::create_dir_all(part.parent().unwrap()).unwrap();
        fs::write(&part, &left).unwrap();
        let folder = setup.fetch("main").unwrap();
        assert_eq!(fs::read(folder.join(WEIGHTS)).unwrap(), good);
        assert_eq!(
            setup.downloads().len(),
            downloads,
            "{} bytes left",
            left.len()
        );
        fs::remove_dir_all(setup.cache.path().join("models--org--tiny")).unwrap();
    }
}

#[test]
fn a_corrupt_file_never_enters_the_cache() {
    let setup = Setup::new(tiny());
    setup.server.state().corrupt = true;
    let error = setup.fetch("main").unwrap_err();
    let expected = format!("SHA-256 {}", sha256(&weights(1)));
    assert!(
        matches!(&error, HubError::Corrupt { expected: e, .. } if *e == expected),
        "{error}"
    );
    let large = sha256(&weights(1));
    assert!(!setup.blob(&large).exists() && !setup.blob(&format!("{large}.incomplete")).exists());
    setup.server.state().corrupt = false;
    assert!(setup.fetch("main").is_ok());
}

#[test]
fn no_network_names_the_way_without() {
    let mut setup = Setup::new(tiny());
    // A port where nothing listens: it was just given back.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    setup.options.endpoint = format!("http://127.0.0.1:{port}");
    let error = setup.fetch("main").unwrap_err();
    assert!(matches!(error, HubError::Network { .. }), "{error}");
    assert!(error.to_string().contains("network is down"), "{error}");
    assert!(error.hint().unwrap().contains("needs no network"));
}

#[test]
fn the_cache_stands_in_for_a_hub_that_is_away() {
    let setup = Setup::new(tiny());
    let folder = setup.fetch("main").unwrap();
    for status in [503, 429, 401, 404] {
        setup.server.state().status = Some(status);
        let (found, seen) = setup.fetch_seen("main");
        assert_eq!(found.unwrap(), folder);
        assert!(
            matches!(&seen.notices[..], [Notice::FromCache { .. }]),
            "{status}"
        );
        // What the cache lacks stays the error that it is.
        assert!(!matches!(
            setup.fetch(STEP),
            Err(HubError::NotCached { .. }) | Ok(_)
        ));
    }
}

#[test]
fn a_silent_server_is_left_after_the_timeout() {
    let mut setup = Setup::new(tiny());
    setup.options.timeout = Duration::from_millis(300);
    setup.options.retries = 0;
    setup.server.state().stall = true;
    let start = Instant::now();
    let error = setup.fetch("main").unwrap_err();
    // Far from the 20 s after which the server itself gives up.
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(matches!(error, HubError::Network { .. }), "{error}");
    assert!(
        error.to_string().contains("the server is silent"),
        "{error}"
    );
    setup.options.timeout = Duration::from_secs(20);
    setup.server.state().stall = false;
    assert!(setup.fetch("main").is_ok());
}

#[test]
fn a_cache_that_cannot_be_written_names_the_path() {
    let mut setup = Setup::new(tiny());
    let file = setup.cache.path().join("file");
    fs::write(&file, "").unwrap();
    setup.options.cache_dir = file.clone();
    let error = setup.fetch("main").unwrap_err();
    assert!(
        matches!(&error, HubError::Io { path, .. } if path.starts_with(&file)),
        "{error}"
    );
}
