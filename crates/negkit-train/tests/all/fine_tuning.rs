//! The paper's fine-tuning beside PyTorch's: loss and gradients of one step, and the weights after
//! twenty, from `eval/parity/training.py`, which computes them in float64.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use negkit_checkpoint::Checkpoint;
use negkit_clip::{ClipVisionConfig, vision_config};
use negkit_nn::{Products, TensorSource};
use negkit_text::ClipFiles;
use negkit_text::tower::ClipTextConfig;
use negkit_train::tasks::contrastive::{
    Anchors, ContrastiveBatch, ContrastiveData, ContrastiveTask, Pictures, frozen_in_fine_tuning,
};
use negkit_train::{Decay, ParamStore, Task, TrainError, TrainSettings, train};

const STEPS: usize = 20;
/// Softmax does not see what is added to all keys: the gradient of their bias is zero but for
/// rounding, and AdamW makes steps of the full length of rounding. What it does there says nothing.
const WITHOUT_GRADIENT: &str = "self_attn.k_proj.bias";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../eval/parity/fixtures/training/fine-tuning")
}

struct Steps {
    tensors: Checkpoint,
    /// Whether the frozen tower's embeddings stand in for pictures.
    embedded: bool,
}

impl Steps {
    fn open(embedded: bool) -> Self {
        let tensors = Checkpoint::open(folder().join("steps.safetensors")).unwrap();
        Self { tensors, embedded }
    }

    fn read(&self, name: &str) -> Tensor {
        self.tensors.load(name, DType::F32, &Device::Cpu).unwrap()
    }
}

impl ContrastiveData for Steps {
    fn batch(&self, step: u64) -> Result<ContrastiveBatch, TrainError> {
        let of_step = |name| self.read(name).get(step as usize);
        let pictures = match self.embedded {
            true => Pictures::Embeddings(of_step("image_embeds")?),
            false => Pictures::Pixels(of_step("pixels")?),
        };
        let ids = self.tensors.load("ids", DType::U32, &Device::Cpu)?;
        let texts = ids.get(step as usize)?.to_vec2()?;
        Ok(ContrastiveBatch::new(pictures, texts))
    }

    fn validation(&self) -> Result<Vec<ContrastiveBatch>, TrainError> {
        Ok(vec![self.batch(0)?])
    }
}

/// The same steps with anchors: the texts of step 0, whose targets are `scale` times what the tower makes
/// of them before the training.
struct Anchored {
    steps: Steps,
    anchors: Anchors,
}

impl Anchored {
    fn new(scale: f64) -> Self {
        let steps = Steps::open(true);
        let model = model();
        let task = ContrastiveTask::new(&model.store, &model.text, None, Steps::open(true));
        let texts = steps.batch(0).unwrap().texts;
        let targets = task.unwrap().model().project_texts(&texts).unwrap();
        let targets = (targets * scale).unwrap();
        Self {
            steps,
            anchors: Anchors { texts, targets },
        }
    }
}

impl ContrastiveData for Anchored {
    fn batch(&self, step: u64) -> Result<ContrastiveBatch, TrainError> {
        Ok(ContrastiveBatch {
            anchors: Some(self.anchors.clone()),
            ..self.steps.batch(step)?
        })
    }

    fn validation(&self) -> Result<Vec<ContrastiveBatch>, TrainError> {
        self.steps.validation()
    }
}

struct Model {
    store: ParamStore,
    text: ClipTextConfig,
    vision: ClipVisionConfig,
}

fn model() -> Model {
    let files = ClipFiles::open(folder().join("model")).unwrap();
    let store = ParamStore::from_tensors(files.tensors().clone() as Arc<_>, &Device::Cpu).unwrap();
    let store = store.with_products(Products::Exact);
    store.freeze(frozen_in_fine_tuning);
    Model {
        store,
        text: files.text_config().unwrap(),
        vision: vision_config(&files).unwrap(),
    }
}

/// Norm of the difference over norm of the reference.
fn relative(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.dims(), expected.dims());
    let norm = |tensor: &Tensor| {
        let sum = tensor.sqr().unwrap().sum_all().unwrap();
        f64::from(sum.to_scalar::<f32>().unwrap()).sqrt()
    };
    norm(&(found - expected).unwrap()) / norm(expected)
}

#[test]
fn loss_and_gradients_of_a_step_are_those_of_pytorch() {
    for embedded in [false, true] {
        let steps = Steps::open(embedded);
        let expected = Steps::open(embedded);
        let model = model();
        let vision = (!embedded).then_some(&model.vision);
        let task = ContrastiveTask::new(&model.store, &model.text, vision, steps).unwrap();
        let computed = task.loss(task.batch(0).unwrap()).unwrap();
        let off = relative(&computed.loss, &expected.read("loss").get(0).unwrap());
        assert!(off < 1e-5, "loss: {off}");
        let gradients = computed.loss.backward().unwrap();
        let trained = model.store.trainable();
        assert_eq!(trained.len(), 36);
        for (name, var) in trained {
            let found = gradients.get(&var).unwrap();
            let expected = expected.read(&format!("gradient.{name}"));
            if name.ends_with(WITHOUT_GRADIENT) {
                let largest = found.abs().unwrap().max(0).unwrap();
                assert!(largest.to_scalar::<f32>().unwrap() < 1e-7, "{name}");
                continue;
            }
            let off = relative(found, &expected);
            assert!(off < 1e-5, "gradient of {name}: {off}");
        }
    }
}

#[test]
fn weights_after_twenty_steps_are_those_of_pytorch() {
    // In one piece, in parts that are kept, and in parts that are run twice.
    for (parts, recompute) in [(1, false), (3, false), (3, true)] {
        let work = tempfile::tempdir().unwrap();
        let expected = Steps::open(true);
        let model = model();
        let data = Steps::open(true);
        let task = ContrastiveTask::new(&model.store, &model.text, None, data).unwrap();
        let task = task.with_largest_scale(None);
        let settings = TrainSettings {
            steps: STEPS as u64,
            learning_rate: 1e-3,
            decay: Decay::All,
            clip_norm: None,
            parts,
            recompute,
            ..TrainSettings::default()
        };
        train(&model.store, &task, &settings, work.path()).unwrap();
        let log = std::fs::read_to_string(work.path().join("log.csv")).unwrap();
        let losses = expected.read("loss").to_vec1::<f32>().unwrap();
        assert_eq!(log.lines().count(), STEPS + 1);
        for (row, expected) in log.lines().skip(1).zip(losses) {
            let found: f64 = row.split(',').nth(1).unwrap().parse().unwrap();
            let off = (found / f64::from(expected) - 1.).abs();
            assert!(off < 1e-5, "loss at {row}: {off}");
        }
        for (name, var) in model.store.trainable() {
            if name.ends_with(WITHOUT_GRADIENT) {
                continue;
            }
            let off = relative(&var, &expected.read(&format!("after.{name}")));
            assert!(off < 1e-4, "{name} with {parts} parts: {off}");
        }
    }
}

#[test]
fn anchors_count_by_how_far_they_are_from_their_targets() {
    let model = model();
    let loss_with = |scale: f64| {
        let task =
            ContrastiveTask::new(&model.store, &model.text, None, Anchored::new(scale)).unwrap();
        let task = task.anchored(4.);
        let computed = task.loss(task.batch(0).unwrap()).unwrap();
        let drift = computed.metrics.iter().find(|(name, _)| *name == "drift");
        let loss = f64::from(computed.loss.to_scalar::<f32>().unwrap());
        (loss, drift.unwrap().1)
    };
    let plain = Steps::open(true).read("loss").get(0).unwrap();
    let plain = f64::from(plain.to_scalar::<f32>().unwrap());
    // From v to 2 v it is |v|, the half of the target's length.
    for (scale, expected) in [(1., 0.), (2., 0.25)] {
        let (loss, drift) = loss_with(scale);
        assert!(
            (drift - expected).abs() < 1e-6,
            "{drift} from {scale} times"
        );
        assert!(
            (loss - plain - 4. * expected).abs() < 1e-5,
            "{loss}, plain {plain}"
        );
    }
}

#[test]
fn anchored_texts_stay_where_they_were() {
    // Their drift after the training, and the losses of its first steps.
    let train_with = |weight: f64, parts: usize| {
        let work = tempfile::tempdir().unwrap();
        let model = model();
        let task = ContrastiveTask::new(&model.store, &model.text, None, Anchored::new(1.));
        let task = task.unwrap().anchored(weight);
        let settings = TrainSettings {
            steps: STEPS as u64,
            learning_rate: 1e-3,
            parts,
            ..TrainSettings::default()
        };
        train(&model.store, &task, &settings, work.path()).unwrap();
        let Anchors { texts, targets } = &task.data().anchors;
        let drift = relative(&task.model().project_texts(texts).unwrap(), targets);
        let log = std::fs::read_to_string(work.path().join("log.csv")).unwrap();
        let rows = log.lines().skip(1).take(3);
        let losses = rows.map(|row| row.split(',').nth(1).unwrap().parse::<f64>().unwrap());
        (drift, losses.collect::<Vec<_>>())
    };
    let ((free, _), (held, losses)) = (train_with(0., 1), train_with(100., 1));
    assert!(held < 0.3 * free, "{held} held, {free} free");
    // Later steps differ by what AdamW makes of rounding: see `WITHOUT_GRADIENT`.
    let (_, in_parts) = train_with(100., 3);
    for (in_parts, whole) in in_parts.iter().zip(&losses) {
        assert!(
            (in_parts / whole - 1.).abs() < 1e-5,
            "{in_parts} in parts, {whole} in one"
        );
    }
}

#[test]
fn a_batch_without_anchors_is_refused_where_they_count() {
    let model = model();
    let task = ContrastiveTask::new(&model.store, &model.text, None, Steps::open(true)).unwrap();
    let task = task.anchored(1.);
    let error = task.loss(task.batch(0).unwrap()).err().unwrap().to_string();
    assert!(error.contains("a batch without anchors"), "{error}");
}
