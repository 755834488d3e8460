//! What is found on this machine, and what is said when it is not.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use negkit_hub::{
    ClipSize, Error, Hub, HubConfig, Location, ModelKind, Placement, RetryPolicy, Source, Want, Why,
};

use crate::server::{FakeHub, noise};

fn offline(folder: &Path) -> Hub {
    let mut config = HubConfig::new(folder.join("hub"), folder.join("weights"));
    config.offline = true;
    // If it asked after all, nobody would answer.
    config.endpoint = "http://127.0.0.1:1".to_owned();
    config.retry.repeats = 0;
    Hub::new(config).unwrap()
}

fn at(text: &str) -> Location {
    Location::parse(text).unwrap()
}

fn placement(result: Result<negkit_hub::Resolved, Error>) -> Placement {
    match result {
        Err(Error::NotHere(placement)) => *placement,
        other => panic!("{other:?}"),
    }
}

fn put(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, b"x").unwrap();
}

#[test]
fn offline_the_hub_is_not_asked() {
    let fake = FakeHub::of("owner/clip").large("w.pth", noise(10)).start();
    let dir = tempfile::tempdir().unwrap();
    let mut config = fake.config(dir.path());
    config.offline = true;
    let hub = Hub::new(config).unwrap();
    let want = Want::new(ModelKind::TextEncoder);
    for text in ["owner/clip", "owner/clip:w.pth"] {
        let placement = placement(hub.resolve(&at(text), &want));
        assert!(matches!(placement.why, Why::Offline));
    }
    assert!(fake.log().is_empty());
    // What an online run fetched is found.
    fake.hub(dir.path())
        .resolve(&at("owner/clip"), &want)
        .unwrap();
    fake.clear_log();
    for text in ["owner/clip", "owner/clip:w.pth", "owner/clip@main"] {
        assert!(
            hub.resolve(&at(text), &want)
                .unwrap()
                .path
                .ends_with("w.pth")
        );
    }
    assert!(fake.log().is_empty());
}

#[test]
fn offline_the_error_says_exactly_what_goes_where() {
    let dir = tempfile::tempdir().unwrap();
    let want = Want::new(ModelKind::Diffusion);
    let text = placement(offline(dir.path()).resolve(&at("sd-1.4"), &want)).to_string();
    for part in [
        "HF_HUB_OFFLINE",
        "https://huggingface.co/CompVis/stable-diffusion-v1-4",
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors  (UNet weights, about 3.4 GB)  or unet/diffusion_pytorch_model.bin",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "tokenizer/vocab.json + tokenizer/merges.txt",
        "Together about 4.2 GB",
        "Licence: CreativeML OpenRAIL-M",
        dir.path().join("weights/sd-1.4").to_str().unwrap(),
        dir.path()
            .join("hub/models--CompVis--stable-diffusion-v1-4/snapshots/main")
            .to_str()
            .unwrap(),
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let half = placement(offline(dir.path()).resolve(&at("sd-1.4"), &want.fp16())).to_string();
    assert!(
        half.contains("  unet/diffusion_pytorch_model.fp16.safetensors  ("),
        "{half}"
    );
}

#[test]
fn following_the_error_makes_the_model_be_found() {
    // Whatever the table says of every model, in both places that the error names.
    let table = offline(Path::new("unused")).table().clone();
    for model in &table.models {
        for kind in model.kinds() {
            let want = Want::new(kind);
            let location = at(&model.label());
            let dir = tempfile::tempdir().unwrap();
            let hub = offline(dir.path());
            let said = placement(hub.resolve(&location, &want));
            assert!(!said.files.is_empty());
            for place in [said.folder.clone(), said.cache.clone()]
                .into_iter()
                .flatten()
            {
                for file in &said.files {
                    for name in &file.any_of[0] {
                        put(&place.join(name));
                    }
                }
                let found = hub.resolve(&location, &want).unwrap();
                assert!(found.path.starts_with(&place), "{place:?} {found:?}");
                assert!(found.files.iter().all(|file| file.is_file()));
                fs::remove_dir_all(&place).unwrap();
            }
        }
    }
}

#[test]
fn con_clip_is_honest_about_not_being_on_the_hub() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeHub::of("x/y").start();
    let hub = fake.hub(dir.path());
    let want = Want::new(ModelKind::TextEncoder).size(ClipSize::VitB32);
    let said = placement(hub.resolve(&at("con-clip"), &want));
    assert!(matches!(said.why, Why::NotOnTheHub));
    assert_eq!(said.cache, None);
    let text = said.to_string();
    assert!(text.contains("not published on the hub"), "{text}");
    assert!(
        text.contains("https://github.com/jaisidhsingh/CoN-CLIP"),
        "{text}"
    );
    assert!(text.contains("conclip_vit_b32.pt"), "{text}");
    assert!(fake.log().is_empty());

    let file = dir.path().join("weights/con-clip/ckpt_5_conclip_b32.pt");
    put(&file);
    let found = hub.resolve(&at("con-clip"), &want).unwrap();
    assert_eq!((found.path, found.source), (file, Source::Weights));
}

#[test]
fn a_plain_copy_wins_over_the_cache_but_not_over_a_revision() {
    let dir = tempfile::tempdir().unwrap();
    let hub = offline(dir.path());
    let want = Want::new(ModelKind::TextEncoder).size(ClipSize::VitB32);
    let plain = dir
        .path()
        .join("weights/negationclip/negationclip_ViT-B32.pth");
    let cached = dir
        .path()
        .join("hub/models--jerryray--negationclip/snapshots/main/negationclip_ViT-B32.pth");
    put(&plain);
    put(&cached);
    assert_eq!(hub.resolve(&at("negationclip"), &want).unwrap().path, plain);
    assert_eq!(
        hub.resolve(&at("negationclip@main"), &want).unwrap().path,
        cached
    );
    assert_eq!(
        hub.resolve(&at("jerryray/negationclip"), &want)
            .unwrap()
            .path,
        plain
    );
}

#[test]
fn an_unfinished_snapshot_is_not_taken_for_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = dir
        .path()
        .join("hub/models--CIDAS--clipseg-rd64/snapshots/abc");
    put(&snapshot.join("config.json"));
    put(&snapshot.join("vocab.json"));
    let reference = dir.path().join("hub/models--CIDAS--clipseg-rd64/refs/main");
    fs::create_dir_all(reference.parent().unwrap()).unwrap();
    fs::write(&reference, "abc").unwrap();
    let hub = offline(dir.path());
    let want = Want::new(ModelKind::ClipSeg);
    let said = placement(hub.resolve(&at("clipseg-rd64"), &want));
    // A cache that has a commit is to be completed there.
    assert_eq!(said.cache, Some(snapshot));
}

#[test]
fn a_branch_that_stands_for_a_missing_commit_is_completed_under_that_commit() {
    let dir = tempfile::tempdir().unwrap();
    let repository = dir.path().join("hub/models--jerryray--negationclip");
    fs::create_dir_all(repository.join("refs")).unwrap();
    fs::write(repository.join("refs/main"), "abc\n").unwrap();
    let hub = offline(dir.path());
    let want = Want::new(ModelKind::TextEncoder).size(ClipSize::VitB32);
    let said = placement(hub.resolve(&at("negationclip"), &want));
    assert_eq!(said.cache, Some(repository.join("snapshots/abc")));
    put(&repository.join("snapshots/abc/negationclip_ViT-B32.pth"));
    assert!(hub.resolve(&at("negationclip"), &want).is_ok());
    // What leads out of the cache is no commit.
    fs::write(repository.join("refs/main"), "../../../x").unwrap();
    put(&dir.path().join("x/negationclip_ViT-B32.pth"));
    assert!(hub.resolve(&at("negationclip"), &want).is_err());
}

#[test]
fn a_hub_that_cannot_be_reached_gives_the_same_help() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let dir = tempfile::tempdir().unwrap();
    let mut config = HubConfig::new(dir.path().join("hub"), dir.path().join("weights"));
    config.endpoint = format!("http://{address}");
    config.retry = RetryPolicy {
        repeats: 1,
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(5),
    };
    let hub = Hub::new(config).unwrap();
    let said = placement(hub.resolve(&at("clipseg-rd64-refined"), &Want::new(ModelKind::ClipSeg)));
    assert!(matches!(said.why, Why::Unreachable(_)));
    let text = said.to_string();
    assert!(
        text.contains("cannot be reached") && text.contains("2 times"),
        "{text}"
    );
    assert!(
        text.contains("model.safetensors") && text.contains("Apache-2.0"),
        "{text}"
    );
}

#[test]
fn an_https_endpoint_without_a_certificate_is_refused() {
    // The server speaks plain HTTP, so this shows that TLS is compiled in and insisted on.
    let fake = FakeHub::of("owner/clip").large("w.pth", noise(10)).start();
    let dir = tempfile::tempdir().unwrap();
    let mut config = fake.config(dir.path());
    config.endpoint = fake.url.replace("http://", "https://");
    config.retry.repeats = 0;
    let hub = Hub::new(config).unwrap();
    let said = placement(hub.resolve(&at("owner/clip"), &Want::new(ModelKind::TextEncoder)));
    let Why::Unreachable(error) = said.why else {
        panic!("{:?}", said.why);
    };
    assert!(error.to_string().contains("https://127.0.0.1"), "{error}");
}

#[test]
fn the_endpoint_must_be_an_address() {
    for endpoint in ["", "huggingface.co", "ftp://x", "http://"] {
        let mut config = HubConfig::new("c", "w");
        config.endpoint = endpoint.to_owned();
        let err = Hub::new(config).err().unwrap();
        assert!(
            matches!(
                err,
                Error::Setting {
                    setting: "HF_ENDPOINT",
                    ..
                }
            ),
            "{endpoint}: {err}"
        );
    }
}

#[test]
fn hf_endpoint_is_asked_with_its_path() {
    let fake = FakeHub::of("owner/clip").start();
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().to_str().unwrap().to_owned();
    let endpoint = format!("{}/mirror/", fake.url);
    let mut config = HubConfig::from_variables(|name| match name {
        "HF_ENDPOINT" => Some(endpoint.clone()),
        "HF_HOME" => Some(home.clone()),
        "HF_TOKEN" => Some("hf_x".to_owned()),
        _ => None,
    });
    config.proxy_from_env = false;
    config.retry.repeats = 0;
    let want = Want::new(ModelKind::TextEncoder);
    let err = Hub::new(config)
        .unwrap()
        .resolve(&at("owner/clip@refs/pr/1"), &want)
        .unwrap_err();
    assert!(matches!(err, Error::NotFound { .. }), "{err}");
    let log = fake.log();
    assert_eq!(
        log[0].path,
        "/mirror/api/models/owner/clip/revision/refs%2Fpr%2F1"
    );
    assert_eq!(log[0].header("authorization"), Some("Bearer hf_x"));
}

#[test]
fn named_folders_and_files_are_taken_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("w.pth");
    put(&file);
    let hub = offline(dir.path());
    let want = Want::new(ModelKind::ClipSeg);
    let found = hub.resolve(&at(file.to_str().unwrap()), &want).unwrap();
    assert_eq!(found.path, file);
    let folder = at(dir.path().to_str().unwrap());
    let found = hub.resolve(&folder, &want).unwrap();
    assert_eq!(
        (found.path.as_path(), found.source),
        (dir.path(), Source::Local)
    );
    drop(dir);
    assert!(matches!(
        hub.resolve(&folder, &want),
        Err(Error::PathMissing { .. })
    ));
}
