//! A training on a small regression: what its folder holds, how it fails, and that being killed
//! changes nothing.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use negkit_nn::{Activation, Linear};
use negkit_train::{Keep, ParamStore, Schedule, StepLoss, Task, TrainError, TrainSettings, train};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Two layers that learn `sin(3 x)`.
struct Sine {
    inner: Linear,
    outer: Linear,
    /// From this step on, which counts from 0, inputs are not numbers.
    broken_from: u64,
    /// Added to every batch's making, so that a kill finds the training at work.
    pause: Duration,
}

impl Sine {
    fn new(store: &ParamStore) -> Self {
        let params = store.params();
        Self {
            inner: Linear::load(&params.pp("inner"), 1, 24).unwrap(),
            outer: Linear::load(&params.pp("outer"), 24, 1).unwrap(),
            broken_from: u64::MAX,
            pause: Duration::ZERO,
        }
    }

    fn error(&self, x: Vec<f32>) -> Result<Tensor, TrainError> {
        let x = Tensor::from_vec(x.clone(), (x.len(), 1), &Device::Cpu)?;
        let hidden = Activation::Gelu.forward(&self.inner.forward(&x)?)?;
        let wanted = (x * 3.)?.sin()?;
        Ok((self.outer.forward(&hidden)? - wanted)?.sqr()?.mean_all()?)
    }
}

impl Task for Sine {
    type Batch = Vec<f32>;

    fn batch(&self, step: u64) -> Result<Vec<f32>, TrainError> {
        std::thread::sleep(self.pause);
        if step >= self.broken_from {
            return Ok(vec![f32::NAN]);
        }
        let mut rng = ChaCha8Rng::seed_from_u64(step);
        let mut number = || rng.next_u32() as f32 / u32::MAX as f32 * 2. - 1.;
        Ok((0..16).map(|_| number()).collect())
    }

    fn loss(&self, batch: Vec<f32>) -> Result<StepLoss, TrainError> {
        let metrics = vec![("first", f64::from(batch[0]))];
        let loss = self.error(batch)?;
        Ok(StepLoss { loss, metrics })
    }

    fn validate(&self) -> Result<Vec<(&'static str, f64)>, TrainError> {
        let x = (-20..=20).map(|i| i as f32 / 20.).collect();
        Ok(vec![(
            "error",
            f64::from(self.error(x)?.to_scalar::<f32>()?),
        )])
    }
}

fn settings(steps: u64) -> TrainSettings {
    TrainSettings {
        steps,
        learning_rate: 0.04,
        warmup: 5,
        schedule: Schedule::Cosine { floor: 0.05 },
        ema: Some(0.95),
        checkpoint_every: 7,
        validate_every: 20,
        ..TrainSettings::default()
    }
}

fn store() -> ParamStore {
    ParamStore::random(3, &Device::Cpu)
}

fn run(folder: &Path, settings: &TrainSettings) -> Result<(ParamStore, f64), TrainError> {
    let store = store();
    let summary = train(&store, &Sine::new(&store), settings, folder)?;
    assert_eq!(summary.steps, settings.steps);
    Ok((store, summary.metrics[0].1))
}

/// All parameters, bit by bit.
fn bits(store: &ParamStore) -> Vec<(String, Vec<u32>)> {
    let tensors = store.tensors().unwrap().into_iter();
    let values = |t: Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    tensors
        .map(|(name, t)| (name, values(t).into_iter().map(f32::to_bits).collect()))
        .collect()
}

/// The lines of a log without their last column, the time.
fn rows(path: PathBuf) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let without_time = |line: &str| line.rsplit_once(',').unwrap().0.to_owned();
    text.lines().map(without_time).collect()
}

#[test]
fn it_learns_and_leaves_a_whole_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (_, error) = run(folder.path(), &settings(300)).unwrap();
    assert!(error < 0.03, "{error}");
    let log = rows(folder.path().join("log.csv"));
    assert_eq!(log[0], "step,loss,first,learning_rate,gradient_norm");
    assert_eq!(log.len(), 301);
    assert!(log[300].starts_with("300,"));
    let validation = std::fs::read_to_string(folder.path().join("validation.csv")).unwrap();
    assert_eq!(validation.lines().count(), 1 + 300 / 20);
    let picture = image::open(folder.path().join("curves.png")).unwrap();
    assert!(picture.width() >= 640, "{}", picture.width());
}

#[test]
fn a_finished_training_is_loaded_and_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let (first, error) = run(folder.path(), &settings(40)).unwrap();
    let store = store();
    let mut task = Sine::new(&store);
    task.broken_from = 0;
    let summary = train(&store, &task, &settings(40), folder.path()).unwrap();
    assert_eq!(summary.metrics, [("error".to_owned(), error)]);
    assert_eq!(bits(&store), bits(&first));
}

#[test]
fn the_best_weights_are_kept_when_asked_for() {
    // Too high a rate, constant: the last weights are hardly the best.
    let settings = TrainSettings {
        keep: Keep::Best,
        learning_rate: 0.2,
        schedule: Schedule::Constant,
        ema: None,
        clip_norm: None,
        validate_every: 3,
        ..settings(90)
    };
    let folder = tempfile::tempdir().unwrap();
    let store = store();
    let task = Sine::new(&store);
    let summary = train(&store, &task, &settings, folder.path()).unwrap();
    let best = summary.best.unwrap();
    assert!(summary.best_step.unwrap() < 90 && best < summary.metrics[0].1);
    assert_eq!(task.validate().unwrap()[0].1, best);
}

#[test]
fn a_training_that_gets_no_better_ends_early_and_stays_ended() {
    let settings = TrainSettings {
        keep: Keep::Best,
        learning_rate: 0.2,
        schedule: Schedule::Constant,
        ema: None,
        clip_norm: None,
        validate_every: 3,
        patience: Some(4),
        ..settings(900)
    };
    let folder = tempfile::tempdir().unwrap();
    let run = || {
        let store = store();
        let task = Sine::new(&store);
        let summary = train(&store, &task, &settings, folder.path()).unwrap();
        assert_eq!(task.validate().unwrap()[0].1, summary.best.unwrap());
        summary
    };
    let summary = run();
    assert!(summary.steps < 900, "{summary:?}");
    assert_eq!(summary.steps, summary.best_step.unwrap() + 4 * 3);
    assert_eq!(run(), summary);
}

#[test]
fn what_is_not_a_number_stops_the_training_and_keeps_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let first = store();
    let mut task = Sine::new(&first);
    task.broken_from = 45;
    let error = train(&first, &task, &settings(60), folder.path()).unwrap_err();
    assert!(
        matches!(error, TrainError::NonFinite { step: 46, .. }),
        "{error}"
    );
    let message = error.to_string();
    assert!(message.contains("the loss is NaN"), "{message}");
    assert!(message.contains("checkpoint.safetensors"), "{message}");
    // With the batches mended it goes on from step 42 to what an unbroken training comes to.
    let (resumed, _) = run(folder.path(), &settings(60)).unwrap();
    let other = tempfile::tempdir().unwrap();
    let (unbroken, _) = run(other.path(), &settings(60)).unwrap();
    assert_eq!(bits(&resumed), bits(&unbroken));
    let log = |folder: &Path| rows(folder.join("log.csv"));
    assert_eq!(log(folder.path()), log(other.path()));
}

#[test]
fn other_settings_are_refused_with_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &settings(10)).unwrap();
    let other = TrainSettings {
        learning_rate: 0.02,
        ema: None,
        ..settings(10)
    };
    let message = run(folder.path(), &other).unwrap_err().to_string();
    for part in [
        "settings.learning_rate: the folder has 0.04, asked for is 0.02",
        "settings.ema: the folder has 0.95, asked for is null",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!message.contains("warmup"), "{message}");
    let store = ParamStore::random(4, &Device::Cpu);
    let error = train(&store, &Sine::new(&store), &settings(10), folder.path()).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("first_weights"), "{message}");
}

#[test]
fn a_damaged_checkpoint_is_found() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &settings(10)).unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let whole = std::fs::read(&path).unwrap();
    let mut edited = whole.clone();
    *edited.last_mut().unwrap() ^= 1;
    for damaged in [&edited[..], &whole[..whole.len() - 9], &whole[..5], b""] {
        std::fs::write(&path, damaged).unwrap();
        let error = run(folder.path(), &settings(10)).unwrap_err();
        let is_damaged = matches!(&error, TrainError::Damaged { path: p, .. } if *p == path);
        assert!(is_damaged, "{error}");
    }
    std::fs::write(&path, whole).unwrap();
    run(folder.path(), &settings(10)).unwrap();
}

#[test]
fn frozen_parameters_stay() {
    let folder = tempfile::tempdir().unwrap();
    let store = store();
    store.freeze(|name| name.starts_with("inner."));
    let before = {
        let task = Sine::new(&store);
        let before = bits(&store);
        train(&store, &task, &settings(10), folder.path()).unwrap();
        before
    };
    for ((name, before), (_, after)) in before.iter().zip(bits(&store)) {
        assert_eq!(name.starts_with("inner."), *before == after, "{name}");
    }
}

#[test]
fn weights_are_saved_in_half_precision() {
    let folder = tempfile::tempdir().unwrap();
    let store = store();
    Sine::new(&store);
    let path = folder.path().join("a/model.safetensors");
    store.save(&path, DType::F16).unwrap();
    let saved = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    for (name, tensor) in store.tensors().unwrap() {
        assert_eq!(saved[&name].dtype(), DType::F16);
        let rounded = tensor.to_dtype(DType::F16).unwrap();
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<half::f16>().unwrap();
        assert_eq!(values(&saved[&name]), values(&rounded), "{name}");
    }
}

const CHILD_FOLDER: &str = "NEGKIT_TRAIN_TEST_FOLDER";
const CHILD_STEPS: u64 = 500;

/// Not a test of its own: what the test below starts and kills.
#[test]
fn child_that_trains() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER) else {
        return;
    };
    let folder = PathBuf::from(folder);
    let store = store();
    let mut task = Sine::new(&store);
    task.pause = Duration::from_millis(2);
    train(&store, &task, &settings(CHILD_STEPS), &folder).unwrap();
    store
        .save(&folder.join("final.safetensors"), DType::F32)
        .unwrap();
}

fn child(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "training::child_that_trains"])
        .env(CHILD_FOLDER, folder)
        .env("RAYON_NUM_THREADS", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn ten_kills_change_no_bit() {
    let unbroken = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    assert!(child(unbroken.path()).wait().unwrap().success());
    let whole = begun.elapsed();
    let broken = tempfile::tempdir().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut killed = 0;
    for _ in 0..10 {
        let mut child = child(broken.path());
        // Together the runs last about as long as one whole training.
        let share = f64::from(rng.next_u32()) / f64::from(u32::MAX) * 0.2;
        std::thread::sleep(whole.mul_f64(share));
        killed += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(killed >= 8, "only {killed} of 10 were still at work");
    assert!(child(broken.path()).wait().unwrap().success());
    let read = |folder: &Path| std::fs::read(folder.join("final.safetensors")).unwrap();
    assert_eq!(read(broken.path()), read(unbroken.path()));
    for name in ["log.csv", "validation.csv"] {
        let rows = |folder: &Path| rows(folder.join(name));
        assert_eq!(rows(broken.path()), rows(unbroken.path()), "{name}");
    }
}
