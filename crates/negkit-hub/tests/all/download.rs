//! Downloads from a local server: the regular course, every way it breaks, and what it leaves in
//! the cache.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use negkit_hub::{ClipSize, Error, Hub, Location, ModelKind, Source, Want};

use crate::server::{self, COMMIT, FakeHub, Reply, git_sha1, noise, sha256};

const ID: &str = "owner/clip";

fn encoder() -> Want {
    Want::new(ModelKind::TextEncoder)
}

fn at(text: &str) -> Location {
    Location::parse(text).unwrap()
}

/// A repository as CLIP is published in, with more than is needed.
fn clip() -> server::Builder {
    FakeHub::of(ID)
        .small("config.json", "{}")
        .small("merges.txt", "#version: 0.2")
        .small("vocab.json", "{\"a\": 0}")
        .small("README.md", "no need for it")
        .large("model.safetensors", noise(300_000))
        .large("pytorch_model.bin", noise(100))
        .large("flax_model.msgpack", noise(100))
}

/// A repository of one large file, `w.pth`, of 300,000 bytes.
fn one_file() -> server::Builder {
    FakeHub::of(ID).large("w.pth", noise(300_000))
}

fn blobs(folder: &Path) -> Vec<String> {
    let dir = folder.join("hub/models--owner--clip/blobs");
    let mut names: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn partial(folder: &Path) -> std::path::PathBuf {
    let hash = sha256(&noise(300_000));
    folder.join(format!("hub/models--owner--clip/blobs/{hash}.incomplete"))
}

#[test]
fn fetches_what_is_needed_into_the_standard_layout() {
    let fake = clip().start();
    let dir = tempfile::tempdir().unwrap();
    let found = fake.hub(dir.path()).resolve(&at(ID), &encoder()).unwrap();

    let root = dir.path().join("hub/models--owner--clip");
    let snapshot = root.join("snapshots").join(COMMIT);
    assert_eq!(found.path, snapshot);
    assert_eq!(
        found.source,
        Source::Hub {
            id: ID.to_owned(),
            commit: COMMIT.to_owned()
        }
    );
    let names = [
        "config.json",
        "model.safetensors",
        "vocab.json",
        "merges.txt",
    ];
    let expected: Vec<_> = names.iter().map(|name| snapshot.join(name)).collect();
    assert_eq!(found.files, expected);
    assert_eq!(
        fs::read(snapshot.join("model.safetensors")).unwrap(),
        noise(300_000)
    );
    assert_eq!(fs::read_to_string(root.join("refs/main")).unwrap(), COMMIT);

    // Large files are named by SHA-256, small ones as git does; nothing else is left behind.
    let mut hashes = vec![
        sha256(&noise(300_000)),
        git_sha1(b"{}"),
        git_sha1(b"#version: 0.2"),
        git_sha1(b"{\"a\": 0}"),
    ];
    hashes.sort();
    assert_eq!(blobs(dir.path()), hashes);
    #[cfg(unix)]
    assert_eq!(
        fs::read_link(snapshot.join("config.json")).unwrap(),
        Path::new("../../blobs").join(git_sha1(b"{}"))
    );
    let asked: Vec<String> = fake.log().into_iter().map(|r| r.path).collect();
    assert!(
        !asked
            .iter()
            .any(|p| p.contains("pytorch_model") || p.contains("README"))
    );
}

#[test]
fn links_of_nested_files_lead_to_the_blobs() {
    let fake = FakeHub::of(ID).large("a/b/w.pth", noise(10)).start();
    let dir = tempfile::tempdir().unwrap();
    let location = at(&format!("{ID}:a/b/w.pth"));
    let found = fake.hub(dir.path()).resolve(&location, &encoder()).unwrap();
    assert!(found.path.ends_with(format!("{COMMIT}/a/b/w.pth")));
    assert_eq!(fs::read(&found.path).unwrap(), noise(10));
}

#[test]
fn a_cached_model_is_used_without_a_request() {
    let fake = clip().start();
    let dir = tempfile::tempdir().unwrap();
    let hub = fake.hub(dir.path());
    assert_eq!(hub.find_local(&at(ID), &encoder()).unwrap(), None);
    let first = hub.resolve(&at(ID), &encoder()).unwrap();
    fake.clear_log();
    assert_eq!(hub.resolve(&at(ID), &encoder()).unwrap(), first);
    assert_eq!(hub.find_local(&at(ID), &encoder()).unwrap(), Some(first));
    let file = hub
        .resolve(&at(&format!("{ID}:config.json")), &encoder())
        .unwrap();
    assert!(file.path.ends_with("config.json"));
    // The commit names the same files.
    hub.resolve(&at(&format!("{ID}@{COMMIT}")), &encoder())
        .unwrap();
    assert!(fake.log().is_empty(), "{:?}", fake.log());
    // Asked to look for news, it asks for the listing and fetches nothing again.
    hub.fetch(&at(ID), &encoder()).unwrap();
    assert_eq!(fake.log().len(), 1);
}

#[test]
fn a_known_blob_is_not_fetched_for_another_file() {
    let fake = FakeHub::of(ID)
        .large("a.pth", noise(9))
        .large("b.pth", noise(9))
        .start();
    let dir = tempfile::tempdir().unwrap();
    let hub = fake.hub(dir.path());
    hub.resolve(&at(&format!("{ID}:a.pth")), &encoder())
        .unwrap();
    fake.clear_log();
    let b = hub
        .resolve(&at(&format!("{ID}:b.pth")), &encoder())
        .unwrap();
    assert_eq!(fs::read(b.path).unwrap(), noise(9));
    assert!(
        fake.course().iter().all(|r| r == "HEAD hub"),
        "{:?}",
        fake.course()
    );
}

#[test]
fn a_broken_download_continues_where_it_broke() {
    let fake = one_file()
        .tamper(|request, _, mut reply| {
            if request.host == "cdn" && request.header("range").is_none() {
                reply.break_after = Some(100_000);
            }
            reply
        })
        .start();
    let dir = tempfile::tempdir().unwrap();
    let found = fake.hub(dir.path()).resolve(&at(ID), &encoder()).unwrap();
    assert_eq!(fs::read(found.path).unwrap(), noise(300_000));

    let ranges: Vec<_> = fake
        .log()
        .iter()
        .filter(|r| r.host == "cdn")
        .map(|r| r.header("range").map(str::to_owned))
        .collect();
    assert_eq!(ranges, [None, Some("bytes=100000-".to_owned())]);
}

#[test]
fn another_run_continues_what_an_earlier_one_left() {
    let broken = one_file()
        .tamper(|request, _, mut reply| {
            match (request.host, request.header("range")) {
                ("cdn", None) => reply.break_after = Some(70_000),
                ("cdn", Some(_)) => return Reply::status(503),
                _ => {}
            }
            reply
        })
        .start();
    let dir = tempfile::tempdir().unwrap();
    let err = broken
        .hub(dir.path())
        .resolve(&at(ID), &encoder())
        .unwrap_err();
    assert!(matches!(err, Error::Status { status: 503, .. }), "{err}");
    assert_eq!(fs::metadata(partial(dir.path())).unwrap().len(), 70_000);
    assert!(
        !dir.path()
            .join("hub/models--owner--clip/refs/main")
            .exists()
    );

    let whole = one_file().start();
    let found = whole.hub(dir.path()).resolve(&at(ID), &encoder()).unwrap();
    assert_eq!(fs::read(found.path).unwrap(), noise(300_000));
    let log = whole.log();
    let get = log.iter().find(|r| r.host == "cdn").unwrap();
    assert_eq!(get.header("range"), Some("bytes=70000-"));
    assert!(!partial(dir.path()).exists());
}

#[test]
fn a_download_that_only_breaks_gives_up_and_says_how_far_it_came() {
    let fake = one_file()
        .tamper(|request, _, mut reply| {
            if request.host == "cdn" {
                reply.break_after = Some(1000);
            }
            reply
        })
        .start();
    let dir = tempfile::tempdir().unwrap();
    let err = fake
        .hub(dir.path())
        .resolve(&at(ID), &encoder())
        .unwrap_err();
    let Error::Interrupted {
        have,
        expected,
        attempts,
        ..
    } = &err
    else {
        panic!("{err}");
    };
    // One try and three repetitions, each of which brought its thousand bytes.
    assert_eq!((*have, *expected, *attempts), (4000, Some(300_000), 4));
    assert!(
        err.to_string().contains("run it again to continue"),
        "{err}"
    );
}

#[test]
fn a_connection_that_falls_silent_is_given_up_and_continued() {
    let fake = one_file()
        .tamper(|request, _, mut reply| {
            if request.host == "cdn" && request.header("range").is_none() {
                reply.break_after = Some(100_000);
                reply.silence = Duration::from_secs(60);
            }
            reply
        })
        .start();
    let dir = tempfile::tempdir().unwrap();
    let mut config = fake.config(dir.path());
    config.timeout = Duration::from_millis(300);
    let start = Instant::now();
    let found = Hub::new(config)
        .unwrap()
        .resolve(&at(ID), &encoder())
        .unwrap();
    assert_eq!(fs::read(found.path).unwrap(), noise(300_000));
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_hub_that_does_not_answer_in_time_is_asked_again() {
    let fake = one_file()
        .tamper(|_, nth, mut reply| {
            if nth == 0 {
                reply.delay = Duration::from_secs(60);
            }
            reply
        })
        .start();
    let dir = tempfile::tempdir().unwrap();
    let mut config = fake.config(dir.path());
    config.timeout = Duration::from_millis(300);
    let found = Hub::new(config)
        .unwrap()
        .resolve(&at(ID), &encoder())
        .unwrap();
    assert_eq!(fs::read(found.path).unwrap(), noise(300_000));
}

#[test]
fn breaks_that_bring_much_do_not_count_as_failures() {
    // Nine pieces of 1.5 MB need more connections than there are repetitions.
    let content = noise(9 * 1_500_000);
    let fake = FakeHub::of(ID)
        .large("w.pth", content.clone())
        .tamper(|request, _, mut reply| {
            if request.host == "cdn" {
                reply.break_after = Some(1_500_000);
            }
            reply
        })
        .start();
    let dir = tempfile::tempdir().unwrap();
    let found = fake.hub(dir.path()).resolve(&at(ID), &encoder()).unwrap();
    assert!(fs::read(found.path).unwrap() == content);
    assert_eq!(fake.log().iter().filter(|r| r.host == "cdn").count(), 9);
}

#[test]
fn a_server_without_ranges_starts_again() {
    let fake = one_file()
        .tamper(|request, _, reply| {
            if request.host == "cdn" && request.header("range").is_some() {
                return Reply::status(200).body(noise(300_000));
            }
            reply
        })
        .start();
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(partial(dir.path()).parent().unwrap()).unwrap();
    fs::write(partial(dir.path()), &noise(300_000)[..5000]).unwrap();
    let found = fake.hub(dir.path()).resolve(&at(ID), &encoder()).unwrap();
    assert_eq!(fs::read(found.path).unwrap(), noise(300_000));
}

#[test]
fn a_range_other_than_asked_for_is_refused() {
    let fake = one_file()
        .tamper(|request, _, mut reply| {
            if request.host == "cdn" && reply.status == 206 {
                reply.headers = vec![(
                    "Content-Range".to_owned(),
                    "bytes 0-299999/300000".to_owned(),
                )];
            }
            reply
        })
        .start();
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(partial(dir.path()).parent().unwrap()).unwrap();
    fs::write(partial(dir.path()), &noise(300_000)[..5000]).unwrap();
    let err = fake
        .hub(dir.path())
        .resolve(&at(ID), &encoder())
        .unwrap_err();
    assert!(matches!(err, Error::Protocol { .. }), "{err}");
}

#[test]
fn a_rotten_partial_file_is_noticed_and_replaced() {
    for rest in [vec![7; 5000], vec![7; 300_000], vec![7; 400_000]] {
        let fake = one_file().start();
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(partial(dir.path()).parent().unwrap()).unwrap();
        fs::write(partial(dir.path()), &rest).unwrap();
        let found = fake.hub(dir.path()).resolve(&at(ID), &encoder()).unwrap();
        assert_eq!(
            fs::read(found.path).unwrap(),
            noise(300_000),
            "{}",
            rest.len()
        );
        assert_eq!(blobs(dir.path()).len(), 1);
    }
}

#[test]
fn lies_about_the_size_are_found_out() {
    // The hub announces 300,000 bytes; the other host has fewer or more, and says so or not.
    let announced_short = |reply: &mut Reply| reply.body.truncate(200_000);
    let announced_long = |reply: &mut Reply| reply.body.extend([1, 2, 3]);
    let silent_long = |reply: &mut Reply| {
        reply.body.extend([1, 2, 3]);
        reply.no_length = true;
    };
    type Lie = fn(&mut Reply);
    for (lie, found_size, open) in [
        (announced_short as Lie, 200_000, false),
        (announced_long, 300_003, false),
        (silent_long, 300_003, true),
    ] {
        let fake = one_file()
            .tamper(move |request, _, mut reply| {
                if request.host == "cdn" {
                    lie(&mut reply);
                }
                reply
            })
            .start();
        let dir = tempfile::tempdir().unwrap();
        let err = fake
            .hub(dir.path())
            .resolve(&at(ID), &encoder())
            .unwrap_err();
        let Error::WrongSize {
            expected,
            found,
            open_ended,
            ..
        } = &err
        else {
            panic!("{err}");
        };
        assert_eq!(
            (*expected, *found, *open_ended),
            (300_000, found_size, open),
            "{err}"
        );
        assert!(blobs(dir.path()).is_empty(), "{:?}", blobs(dir.path()));
    }
}

#[test]
fn a_body_that_silently_ends_early_is_never_taken_for_whole() {
    let fake = one_file()
        .tamper(|request, _, mut reply| {
            if request.host == "cdn" {
                reply = Reply::status(200).body(&noise(300_000)[..200_000]);
                reply.no_length = true;
            }
            reply
        })
        .start();
    let dir = tempfile::tempdir().unwrap();
    let err = fake
        .hub(dir.path())
        .resolve(&at(ID), &encoder())
        .unwrap_err();
    assert!(
        matches!(err, Error::Interrupted { have: 200_000, .. }),
        "{err}"
    );
    assert!(
        blobs(dir.path())
            .iter()
            .all(|name| name.ends_with(".incomplete"))
    );
}

#[test]
fn a_hub_that_lies_about_the_size_is_found_out() {
    for announced in [299_999, 300_001] {
        let fake = one_file()
            .tamper(move |request, _, mut reply| {
                if request.host == "hub" {
                    for (name, value) in &mut reply.headers {
                        if name == "X-Linked-Size" {
                            *value = announced.to_string();
                        }
                    }
                }
                reply
            })
            .start();
        let dir = tempfile::tempdir().unwrap();
        let err = fake
            .hub(dir.path())
            .resolve(&at(ID), &encoder())
            .unwrap_err();
        assert!(
            matches!(err, Error::WrongSize { found: 300_000, .. }),
            "{err}"
        );
        assert!(blobs(dir.path()).is_empty());
    }
}

#[test]
fn other_content_of_the_right_size_is_refused() {
    // A large file by SHA-256, a small one by git's hash.
    for small in [false, true] {
        let builder = match small {
            true => FakeHub::of(ID).small("w.pth", noise(300)),
            false => FakeHub::of(ID).large("w.pth", noise(300)),
        };
        let fake = builder
            .tamper(|request, _, mut reply| {
                if request.method == "GET" && reply.body.len() == 300 {
                    reply.body[150] ^= 1;
                }
                reply
            })
            .start();
        let dir = tempfile::tempdir().unwrap();
        let err = fake
            .hub(dir.path())
            .resolve(&at(ID), &encoder())
            .unwrap_err();
        let Error::WrongHash {
            algorithm,
            expected,
            found,
            ..
        } = &err
        else {
            panic!("{err}");
        };
        let (name, hash) = match small {
            true => ("git blob sha1", git_sha1(&noise(300))),
            false => ("sha256", sha256(&noise(300))),
        };
        assert_eq!((*algorithm, expected), (name, &hash));
        assert_ne!(expected, found);
        assert!(blobs(dir.path()).is_empty());
        assert!(
            !dir.path()
                .join("hub/models--owner--clip/snapshots")
                .exists()
        );
    }
}

#[test]
fn refusals_say_what_to_do_and_are_not_repeated() {
    for (status, code, hint) in [
        (401, "RepoNotFound", "HF_TOKEN"),
        (403, "GatedRepo", "accept its terms"),
        (404, "RevisionNotFound", "the revision"),
    ] {
        let fake = one_file()
            .tamper(move |_, _, _| Reply::status(status).with("X-Error-Code", code))
            .start();
        let dir = tempfile::tempdir().unwrap();
        let err = fake
            .hub(dir.path())
            .resolve(&at(ID), &encoder())
            .unwrap_err();
        let variant_fits = match &err {
            Error::Unauthorized { with_token, .. } => status == 401 && !with_token,
            Error::Forbidden { .. } => status == 403,
            Error::NotFound { .. } => status == 404,
            _ => false,
        };
        assert!(variant_fits, "{status}: {err:?}");
        let text = err.to_string();
        assert!(
            text.contains(hint) && text.contains(code) && text.contains(ID),
            "{text}"
        );
        assert_eq!(fake.log().len(), 1, "a refusal is final");
    }
}

#[test]
fn a_missing_file_of_a_repository_is_named() {
    let fake = one_file().start();
    let dir = tempfile::tempdir().unwrap();
    let location = at(&format!("{ID}:other.pth"));
    let err = fake
        .hub(dir.path())
        .resolve(&location, &encoder())
        .unwrap_err();
    assert!(matches!(err, Error::NotFound { .. }));
    assert!(err.to_string().contains("other.pth"), "{err}");
}

#[test]
fn a_busy_hub_is_given_the_time_it_asks_for() {
    let fake = one_file()
        .tamper(|_, nth, reply| match nth {
            0 => Reply::status(429).with("Retry-After", 1),
            _ => reply,
        })
        .start();
    let dir = tempfile::tempdir().unwrap();
    let start = Instant::now();
    fake.hub(dir.path()).resolve(&at(ID), &encoder()).unwrap();
    assert!(
        start.elapsed() >= Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_hub_that_asks_for_too_much_time_is_not_waited_for() {
    let fake = one_file()
        .tamper(|_, _, _| Reply::status(429).with("Retry-After", 3600))
        .start();
    let dir = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let err = fake
        .hub(dir.path())
        .resolve(&at(ID), &encoder())
        .unwrap_err();
    assert!(matches!(err, Error::Status { status: 429, .. }), "{err}");
    assert!(err.to_string().contains("3600 s"), "{err}");
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(fake.log().len(), 1);
}

#[test]
fn passing_server_errors_are_repeated_and_lasting_ones_reported() {
    // The first request of each kind fails, so every step of a download is repeated once.
    let seen = Mutex::new(HashSet::new());
    let passing = one_file()
        .tamper(move |request, _, reply| {
            let first = seen
                .lock()
                .unwrap()
                .insert((request.brief(), request.path.clone()));
            if first { Reply::status(500) } else { reply }
        })
        .start();
    let dir = tempfile::tempdir().unwrap();
    let found = passing
        .hub(dir.path())
        .resolve(&at(ID), &encoder())
        .unwrap();
    assert_eq!(fs::read(found.path).unwrap(), noise(300_000));

    let lasting = one_file()
        .tamper(|_, _, _| Reply::status(500).body("out of\nservice"))
        .start();
    let dir = tempfile::tempdir().unwrap();
    let err = lasting
        .hub(dir.path())
        .resolve(&at(ID), &encoder())
        .unwrap_err();
    let Error::Status {
        status,
        attempts,
        message,
        ..
    } = &err
    else {
        panic!("{err}");
    };
    assert_eq!(
        (*status, *attempts, message.as_str()),
        (500, 4, "out of service")
    );
    assert_eq!(lasting.log().len(), 4);
}

#[test]
fn the_token_goes_to_the_hub_and_to_no_other_host() {
    let fake = clip().start();
    let dir = tempfile::tempdir().unwrap();
    fake.hub_with_token(dir.path(), "hf_secret")
        .resolve(&at(ID), &encoder())
        .unwrap();
    let log = fake.log();
    assert!(log.iter().any(|r| r.host == "cdn"));
    for request in &log {
        let sent = request.header("authorization");
        match request.host {
            "hub" => assert_eq!(sent, Some("Bearer hf_secret"), "{request:?}"),
            _ => assert_eq!(sent, None, "{request:?}"),
        }
    }
}

#[test]
fn no_error_shows_the_token_or_a_signature() {
    for (host, status) in [("hub", 401), ("hub", 500), ("cdn", 403)] {
        let fake = one_file()
            .tamper(move |request, _, reply| {
                if request.host != host {
                    return reply;
                }
                let sent = request.header("authorization").unwrap_or("none").to_owned();
                Reply::status(status).with("X-Error-Message", format!("bad header {sent}"))
            })
            .start();
        let dir = tempfile::tempdir().unwrap();
        let hub = fake.hub_with_token(dir.path(), "hf_secret");
        let err = hub.resolve(&at(ID), &encoder()).unwrap_err();
        let texts = format!("{err} {err:?}");
        assert!(!texts.contains("hf_secret"), "{texts}");
        assert!(!texts.contains("s3cret"), "{texts}");
    }
}

#[test]
fn redirects_in_a_circle_end() {
    let fake = one_file()
        .tamper(|request, _, reply| {
            if request.host == "cdn" {
                return Reply::status(302).with("Location", request.path.as_str());
            }
            reply
        })
        .start();
    let dir = tempfile::tempdir().unwrap();
    let err = fake
        .hub(dir.path())
        .resolve(&at(ID), &encoder())
        .unwrap_err();
    assert!(err.to_string().contains("redirects"), "{err}");
}

#[test]
fn a_hostile_listing_or_name_cannot_write_outside_the_cache() {
    let listing = |sha: &str, file: &str| {
        let answer = serde_json::json!({ "sha": sha, "siblings": [{ "rfilename": file }] });
        Reply::status(200).body(answer.to_string())
    };
    let cases: Vec<Reply> = vec![
        listing(COMMIT, "../../../../evil.pth"),
        listing(COMMIT, "/tmp/evil.pth"),
        listing("../../evil", "w.pth"),
        listing("", "w.pth"),
        Reply::status(200).body("<html>"),
        Reply::status(200).body("{\"sha\": 1}"),
    ];
    for reply in cases {
        let fake = one_file()
            .tamper(
                move |request, _, regular| match request.path.starts_with("/api/models/") {
                    true => reply.clone(),
                    false => regular,
                },
            )
            .start();
        let dir = tempfile::tempdir().unwrap();
        let err = fake
            .hub(dir.path())
            .resolve(&at(ID), &encoder())
            .unwrap_err();
        assert!(matches!(err, Error::Protocol { .. }), "{err}");
        assert!(blobs(dir.path()).is_empty());
    }
    for header in ["X-Linked-Etag", "X-Repo-Commit"] {
        let fake = one_file()
            .tamper(move |_, _, mut reply| {
                reply.headers.retain(|(name, _)| name != header);
                reply.with(header, "../../../evil")
            })
            .start();
        let dir = tempfile::tempdir().unwrap();
        let err = fake
            .hub(dir.path())
            .resolve(&at(&format!("{ID}:w.pth")), &encoder())
            .unwrap_err();
        assert!(matches!(err, Error::Protocol { .. }), "{err}");
    }
}

#[test]
fn a_file_without_a_name_for_its_content_is_refused() {
    let fake = one_file()
        .tamper(|_, _, mut reply| {
            reply
                .headers
                .retain(|(name, _)| !name.to_lowercase().ends_with("etag"));
            reply
        })
        .start();
    let dir = tempfile::tempdir().unwrap();
    let err = fake
        .hub(dir.path())
        .resolve(&at(ID), &encoder())
        .unwrap_err();
    assert!(err.to_string().contains("no ETag"), "{err}");
}

#[test]
fn simultaneous_downloads_give_one_whole_file() {
    let fake = one_file()
        .tamper(|request, _, reply| {
            if request.host == "cdn" {
                std::thread::sleep(Duration::from_millis(50));
            }
            reply
        })
        .start();
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..8)
            .map(|_| {
                // A hub each, as in separate processes: they share the disk and nothing else.
                let hub: Hub = fake.hub(dir.path());
                scope.spawn(move || hub.resolve(&at(ID), &encoder()).unwrap())
            })
            .collect();
        for run in runs {
            let found = run.join().unwrap();
            assert_eq!(fs::read(found.path).unwrap(), noise(300_000));
        }
    });
    assert_eq!(
        fake.log().iter().filter(|r| r.host == "cdn").count(),
        1,
        "fetched once"
    );
    assert_eq!(blobs(dir.path()), [sha256(&noise(300_000))]);
}

#[test]
fn a_blob_that_was_cut_is_fetched_again() {
    let fake = one_file().start();
    let dir = tempfile::tempdir().unwrap();
    let blob = partial(dir.path()).with_extension("");
    fs::create_dir_all(blob.parent().unwrap()).unwrap();
    fs::write(&blob, b"cut").unwrap();
    let found = fake.hub(dir.path()).resolve(&at(ID), &encoder()).unwrap();
    assert_eq!(fs::read(found.path).unwrap(), noise(300_000));
}

#[test]
fn empty_files_are_files() {
    let fake = FakeHub::of(ID)
        .small("e.txt", "")
        .small("w.pth", "x")
        .start();
    let dir = tempfile::tempdir().unwrap();
    let location = at(&format!("{ID}:e.txt"));
    let found = fake.hub(dir.path()).resolve(&location, &encoder()).unwrap();
    assert_eq!(fs::read(found.path).unwrap(), b"");
}

#[test]
fn a_known_name_asks_its_repository_for_the_wanted_size() {
    let fake = FakeHub::of("jerryray/negationclip")
        .large("negationclip_ViT-B32.pth", noise(32))
        .large("negationclip_ViT-L14.pth", noise(14))
        .large("negationclip_ViT-L14@336px.pth", noise(336))
        .start();
    let dir = tempfile::tempdir().unwrap();
    let hub = fake.hub(dir.path());
    for (text, want, length) in [
        ("negationclip", encoder().size(ClipSize::VitL14), 14),
        (
            "negationclip:ViT-B-32",
            encoder().size(ClipSize::VitL14),
            32,
        ),
        ("negationclip:ViT-L/14@336px", encoder(), 336),
        (
            "jerryray/negationclip",
            encoder().size(ClipSize::VitB32),
            32,
        ),
    ] {
        let found = hub.resolve(&at(text), &want).unwrap();
        assert_eq!(fs::read(&found.path).unwrap(), noise(length), "{text}");
    }
    let err = hub.resolve(&at("negationclip"), &encoder()).unwrap_err();
    assert!(matches!(err, Error::Size { asked: None, .. }), "{err}");
    assert!(err.to_string().contains("ViT-L/14@336px"), "{err}");
    // In the table, but not in this repository.
    let err = hub
        .resolve(&at("negationclip:ViT-B-16"), &encoder())
        .unwrap_err();
    assert!(matches!(err, Error::FilesMissing { .. }), "{err}");
}

#[test]
fn a_pipeline_is_fetched_in_the_wanted_variant() {
    let mut builder = FakeHub::of("CompVis/stable-diffusion-v1-4");
    for name in [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "vae/config.json",
        "text_encoder/config.json",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "safety_checker/config.json",
    ] {
        builder = builder.small(name, name);
    }
    for stem in [
        "unet/diffusion_pytorch_model",
        "vae/diffusion_pytorch_model",
        "text_encoder/model",
        "safety_checker/model",
    ] {
        for ending in [".safetensors", ".fp16.safetensors", ".bin"] {
            let name = format!("{stem}{ending}");
            builder = builder.large(&name, name.clone());
        }
    }
    let fake = builder.start();
    for (want, ending, other) in [
        (Want::new(ModelKind::Diffusion), "model.safetensors", "fp16"),
        (
            Want::new(ModelKind::Diffusion).fp16(),
            "model.fp16.safetensors",
            ".bin",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let found = fake.hub(dir.path()).resolve(&at("sd-1.4"), &want).unwrap();
        let names: Vec<String> = found
            .files
            .iter()
            .map(|f| {
                f.strip_prefix(&found.path)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        assert_eq!(
            names.iter().filter(|n| n.ends_with(ending)).count(),
            3,
            "{names:?}"
        );
        assert!(
            !names
                .iter()
                .any(|n| n.contains(other) || n.contains("safety")),
            "{names:?}"
        );
        assert_eq!(names.len(), 10);
        assert!(found.files.iter().all(|f| f.is_file()));
    }
    let dir = tempfile::tempdir().unwrap();
    let err = fake
        .hub(dir.path())
        .resolve(&at("sd-1.4"), &Want::new(ModelKind::ClipSeg))
        .unwrap_err();
    assert!(matches!(err, Error::Kind { .. }), "{err}");
}
