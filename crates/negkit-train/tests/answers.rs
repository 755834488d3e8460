//! A few dozen steps of the models that look at pictures for the scores, on pictures that can be
//! told apart by colour alone: the loss falls far below chance, and the folder that is written
//! answers what the model in training answers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use image::{Rgb, RgbImage};
use negkit_clip::{ClipVisionConfig, ClipVisionTower};
use negkit_image::PicturePreprocessor;
use negkit_nn::Compute;
use negkit_text::ClipFiles;
use negkit_text::tokenizer::ClipTokenizer;
use negkit_train::tasks::vqa::{VqaBatch, VqaData, VqaTask, export_vqa, store_from_clip};
use negkit_train::{ParamStore, Task, TrainError, TrainSettings, train};
use negkit_vqa::QuestionAnswerer;
use negkit_vqa::mini::{MiniVqa, MiniVqaConfig, QuestionConfig};

const SIDE: u32 = 16;
/// Learned in the tests; the names are those of the fixture's tokenizer.
const COLOURS: [(&str, [u8; 3]); 3] = [
    ("red", [210, 40, 40]),
    ("white", [240, 240, 235]),
    ("black", [20, 20, 25]),
];

fn settings(steps: u64, learning_rate: f64) -> TrainSettings {
    TrainSettings {
        steps,
        learning_rate,
        weight_decay: 0.,
        checkpoint_every: 0,
        validate_every: 0,
        ..TrainSettings::default()
    }
}

fn score(scores: &[(&'static str, f64)], name: &str) -> f64 {
    scores.iter().find(|(n, _)| *n == name).unwrap().1
}

/// A picture of one colour, with a shade that depends on `variant`.
fn plain(colour: usize, variant: u32) -> RgbImage {
    let base = COLOURS[colour].1;
    RgbImage::from_fn(SIDE, SIDE, |x, y| {
        let shade = ((x * 3 + y * 5 + variant * 7) % 16) as u8;
        Rgb(base.map(|v| v.saturating_sub(8).saturating_add(shade)))
    })
}

fn tokenizer_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../eval/parity/fixtures/tokenizer/small")
}

fn pixel_values(preprocess: &PicturePreprocessor, pictures: &[RgbImage]) -> Tensor {
    let values = preprocess.apply_batch(pictures).unwrap();
    let shape = values.dim();
    Tensor::from_vec(values.into_raw_vec_and_offset().0, shape, &Device::Cpu).unwrap()
}

fn vqa_config() -> MiniVqaConfig {
    let vision = ClipVisionConfig {
        hidden_size: 32,
        intermediate_size: 64,
        projection_dim: 32,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        image_size: SIDE as usize,
        patch_size: 8,
        ..ClipVisionConfig::default()
    };
    let question = QuestionConfig {
        vocab_size: 400,
        hidden_size: 32,
        intermediate_size: 64,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        max_position_embeddings: 16,
        ..QuestionConfig::default()
    };
    let answers = ["yes", "no", "red", "white", "black"].map(str::to_owned);
    MiniVqaConfig::new(vision, question, answers.to_vec()).unwrap()
}

/// Two questions about every picture, one open and one with yes or no.
struct Colours {
    config: MiniVqaConfig,
    tokenizer: ClipTokenizer,
    preprocess: PicturePreprocessor,
}

impl Colours {
    fn new() -> Self {
        Self {
            config: vqa_config(),
            tokenizer: ClipTokenizer::from_folder(tokenizer_folder()).unwrap(),
            preprocess: PicturePreprocessor::clip(SIDE),
        }
    }

    fn batch_from(&self, first: u64) -> Result<VqaBatch, TrainError> {
        let picks: Vec<(usize, usize, u32)> = (0..9)
            .map(|i| (i % 3, (i / 3 + first as usize) % 3, first as u32 + i as u32))
            .collect();
        let pictures: Vec<RgbImage> = picks.iter().map(|p| plain(p.0, p.2)).collect();
        let asked: Vec<String> = picks
            .iter()
            .map(|p| format!("is it {}?", COLOURS[p.1].0))
            .collect();
        let mut examples = Vec::new();
        for ((colour, other, _), asked) in picks.iter().zip(&asked) {
            examples.push(("what is the color?", COLOURS[*colour].0));
            let answer = if colour == other { "yes" } else { "no" };
            examples.push((asked.as_str(), answer));
        }
        let pixels = pixel_values(&self.preprocess, &pictures);
        VqaBatch::from_words(pixels, &examples, &self.config, &self.tokenizer)
    }
}

impl VqaData for Colours {
    fn batch(&self, step: u64) -> Result<VqaBatch, TrainError> {
        self.batch_from(step)
    }

    fn validation(&self) -> Result<Vec<VqaBatch>, TrainError> {
        (10_000..10_003)
            .map(|first| self.batch_from(first))
            .collect()
    }
}

#[test]
fn a_mini_vqa_learns_and_answers_the_same_from_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("clip");
    std::fs::create_dir(&clip).unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(tokenizer_folder().join(file), clip.join(file)).unwrap();
    }
    let config = vqa_config();
    let store = ParamStore::random(3, &Device::Cpu);
    let task = VqaTask::new(&store, &config, Colours::new()).unwrap();
    let before = task.validate().unwrap();
    train(
        &store,
        &task,
        &settings(120, 2e-3),
        &folder.path().join("run"),
    )
    .unwrap();
    let after = task.validate().unwrap();
    // Guessing among what each question allows: (ln 3 + ln 2) / 2 = 0.9.
    let (first, last) = (score(&before, "loss"), score(&after, "loss"));
    assert!(first > 0.9 && last < 0.1, "loss {first} -> {last}");
    assert!(score(&after, "accuracy") > 0.98);

    let published = folder.path().join("mini-vqa");
    export_vqa(&store, &config, &clip, &published).unwrap();
    let vqa = MiniVqa::load(&published, &Compute::cpu()).unwrap();
    assert_eq!(vqa.config(), &config);
    let questions = ["what is the color?", "is it white?"];
    let tokenizer = ClipTokenizer::from_folder(&clip).unwrap();
    let ids = tokenizer.encode(&questions, 16).unwrap().ids;
    for colour in 0..3 {
        let picture = plain(colour, 999);
        let answers = vqa.answer(&picture, &questions).unwrap();
        let is_white = if colour == 1 { "yes" } else { "no" };
        assert_eq!(answers[0].text, COLOURS[colour].0);
        assert_eq!(answers[1].text, is_white);

        let pixels = pixel_values(&PicturePreprocessor::clip(SIDE), &[picture]);
        let logits = task.model().forward(&pixels, &ids).unwrap();
        let expected = candle_nn::ops::softmax(&logits, 1).unwrap();
        let expected: Vec<Vec<f32>> = expected.to_vec2().unwrap();
        for (answer, row) in answers.iter().zip(&expected) {
            let largest = row.iter().copied().fold(0., f32::max);
            // The folder's weights are rounded to f16, 11 bits.
            assert!((answer.confidence.unwrap() - largest).abs() < 5e-3);
        }
    }
}

#[test]
fn a_vqa_starts_from_the_vision_tower_of_a_clip() {
    let folder = tempfile::tempdir().unwrap();
    let config = vqa_config();
    let source = ParamStore::random(77, &Device::Cpu);
    ClipVisionTower::load(&source.params(), &config.vision_config).unwrap();
    let weights = folder.path().join("model.safetensors");
    source.save(&weights, DType::F32).unwrap();
    let clip = ClipFiles::open(&weights).unwrap();

    let store = store_from_clip(&config, &clip, 5, &Device::Cpu).unwrap();
    let tensors = store.tensors().unwrap();
    let of_clip = source.tensors().unwrap();
    for (name, expected) in &of_clip {
        let (_, found) = tensors.iter().find(|(n, _)| n == name).unwrap();
        let difference = (found - expected)
            .unwrap()
            .abs()
            .unwrap()
            .sum_all()
            .unwrap();
        assert_eq!(difference.to_scalar::<f32>().unwrap(), 0., "{name}");
    }
    assert!(tensors.len() > of_clip.len());
    // All of it fits, and all of it is trained.
    VqaTask::new(&store, &config, Colours::new()).unwrap();
    assert_eq!(store.trainable().len(), tensors.len());

    let mut wider = config;
    wider.vision_config.intermediate_size = 128;
    let refused = store_from_clip(&wider, &clip, 5, &Device::Cpu)
        .err()
        .unwrap();
    assert!(refused.to_string().contains("mlp.fc1.weight"), "{refused}");
}
