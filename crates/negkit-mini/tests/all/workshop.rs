//! Stages: done once, refused when something has changed, and whole after kills at any moment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use negkit_mini::export::{ExportOptions, export, verify};
use negkit_mini::gallery::{Gallery, draw};
use negkit_mini::{MiniError, Workshop};
use negkit_train::tasks::detector::{DetectorBatch, DetectorData, DetectorTask, export_detector};
use negkit_train::{ParamStore, TrainError, TrainSettings, train};
use negkit_vqa::detector::DetectorConfig;
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

const FOLDER: &str = "NEGKIT_MINI_TEST_FOLDER";
const SIDE: usize = 16;

/// Pictures of noise, whose cells say whether they are brighter than the middle.
struct Noise;

impl DetectorData for Noise {
    fn batch(&self, step: u64) -> Result<DetectorBatch, TrainError> {
        // So that a kill finds the stage at work.
        std::thread::sleep(Duration::from_millis(5));
        let mut rng = draw("noise", step);
        let cells = (SIDE / 4).pow(2);
        let kinds: Vec<u32> = (0..2 * cells).map(|_| rng.random_range(0..2)).collect();
        let pixel = |i: usize| {
            let (picture, x, y) = (i / (3 * SIDE * SIDE), i % SIDE, i / SIDE % SIDE);
            let cell = picture * cells + y / 4 * (SIDE / 4) + x / 4;
            kinds[cell] as f32 - 0.5
        };
        let pixels: Vec<f32> = (0..2 * 3 * SIDE * SIDE).map(pixel).collect();
        let pixels = Tensor::from_vec(pixels, (2, 3, SIDE, SIDE), &Device::Cpu)?;
        let colours = kinds.clone();
        Ok(DetectorBatch {
            pixels,
            kinds,
            colours,
        })
    }

    fn validation(&self) -> Result<Vec<DetectorBatch>, TrainError> {
        Ok(vec![self.batch(u64::MAX)?])
    }
}

/// Two stages and an export, each as the recipe has them, at a very small size.
fn work(folder: &Path) {
    let shop = Workshop::open(folder.join("run")).unwrap();
    let range = json!({ "start": 0, "end": 100 });
    let settings = json!({ "side": 64, "training": range, "validation": range });
    let pictures = |folder: &Path| {
        Gallery::open(0..600, &folder.join("pictures.rgb"))?;
        Ok(())
    };
    shop.stage("pictures", &settings, &[], pictures).unwrap();
    let mut config =
        DetectorConfig::new(vec!["bright".to_owned()], vec!["white".to_owned()]).unwrap();
    (config.image_size, config.widths) = (SIDE, [8; 4]);
    let training = TrainSettings {
        steps: 60,
        checkpoint_every: 7,
        validate_every: 20,
        ..TrainSettings::default()
    };
    let detector = |folder: &Path| {
        let store = ParamStore::random(1, &Device::Cpu);
        let task = DetectorTask::new(&store, &config, Noise)?;
        train(&store, &task, &training, &folder.join("training"))?;
        Ok(export_detector(&store, &config, &folder.join("export"))?)
    };
    shop.stage("detector-posed", &training, &["pictures"], detector)
        .unwrap();
    let options = ExportOptions {
        quality: folder.join("quality.json"),
        pictures: false,
    };
    for _ in 0..3 {
        export(&shop, &folder.join("weights"), &options).unwrap();
    }
}

/// Not a test of its own: what the test below starts and kills.
#[test]
fn child_that_works() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        work(&PathBuf::from(folder));
    }
}

fn child(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "workshop::child_that_works"])
        .env(FOLDER, folder)
        .env("RAYON_NUM_THREADS", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn ten_kills_leave_the_same_models() {
    let unbroken = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    assert!(child(unbroken.path()).wait().unwrap().success());
    let whole = begun.elapsed();
    let broken = tempfile::tempdir().unwrap();
    let weights = |folder: &Path| folder.join("weights");
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut killed = 0;
    for _ in 0..10 {
        let mut child = child(broken.path());
        let share = f64::from(rng.next_u32()) / f64::from(u32::MAX) * 0.4;
        std::thread::sleep(whole.mul_f64(share));
        killed += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        if weights(broken.path()).exists() {
            verify(&weights(broken.path())).unwrap();
        }
    }
    assert!(killed >= 5, "only {killed} of 10 were still at work");
    assert!(child(broken.path()).wait().unwrap().success());
    for file in [
        "run/pictures/pictures.rgb",
        "run/detector-posed/export/model.safetensors",
        "weights/detector/model.safetensors",
        "weights/detector/config.json",
    ] {
        let read = |folder: &Path| fs::read(folder.join(file)).unwrap();
        assert!(read(broken.path()) == read(unbroken.path()), "{file}");
    }
    verify(&weights(broken.path())).unwrap();
    let done = |folder: &Path| {
        let shop = Workshop::open(folder.join("run")).unwrap();
        shop.finished("detector-posed").unwrap().digest()
    };
    assert_eq!(done(broken.path()), done(unbroken.path()));
}

#[test]
fn a_stage_is_done_once_and_not_again_in_silence() {
    let work = tempfile::tempdir().unwrap();
    let shop = Workshop::open(work.path()).unwrap();
    let mut runs = 0;
    let mut first = |settings: u32| {
        shop.stage("first", &settings, &[], |folder| {
            runs += 1;
            fs::write(folder.join("result"), "1").unwrap();
            Ok(())
        })
    };
    first(1).unwrap();
    first(1).unwrap();
    let changed = first(2).unwrap_err();
    assert!(matches!(changed, MiniError::Changed { .. }), "{changed}");
    assert!(changed.to_string().contains("1 became 2"), "{changed}");
    assert_eq!(runs, 1);

    // What builds on a stage that was done anew is another thing too.
    let second = || shop.stage("second", &(), &["first"], |_| Ok(()));
    second().unwrap();
    fs::remove_dir_all(shop.path("first")).unwrap();
    assert!(matches!(second(), Err(MiniError::Missing { .. })));
    shop.stage("first", &3, &[], |_| Ok(())).unwrap();
    let changed = second().unwrap_err().to_string();
    assert!(changed.contains("built on another first"), "{changed}");

    // A stage that fails is not done.
    let failing = |_: &Path| Err(MiniError::other("no space"));
    assert!(shop.stage("third", &(), &[], failing).is_err());
    assert!(matches!(
        shop.finished("third"),
        Err(MiniError::Missing { .. })
    ));
}
