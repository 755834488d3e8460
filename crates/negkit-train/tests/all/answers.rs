//! A few dozen steps of the models that look at pictures for the scores, on pictures that can be
//! told apart by colour alone: the loss falls far below chance, and the folder that is written
//! answers what the model in training answers.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use image::{Rgb, RgbImage};
use negkit_image::PicturePreprocessor;
use negkit_nn::Compute;
use negkit_text::tokenizer::ClipTokenizer;
use negkit_train::tasks::detector::{
    DetectorBatch, DetectorData, DetectorTask, PixelLabels, export_detector,
};
use negkit_train::tasks::vqa::{VqaBatch, VqaData, VqaTask, export_vqa};
use negkit_train::{ParamStore, Task, TrainError, TrainSettings, train};
use negkit_vqa::QuestionAnswerer;
use negkit_vqa::detector::{DetectorConfig, MiniDetector};
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
    let vision = DetectorConfig {
        image_size: SIDE as usize,
        widths: [8, 16, 24, 32],
        ..DetectorConfig::new(vec!["ground".to_owned()], Vec::new()).unwrap()
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
            preprocess: vqa_config().vision_config.preprocess(),
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
        let cells = picks.len() * self.config.vision_config.grid().pow(2);
        let labels = (vec![1; cells], vec![0; cells]);
        VqaBatch::from_words(pixels, labels, &examples, &self.config, &self.tokenizer)
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
    for (colour, (name, _)) in COLOURS.iter().enumerate() {
        let picture = plain(colour, 999);
        let answers = vqa.answer(&picture, &questions).unwrap();
        let is_white = if colour == 1 { "yes" } else { "no" };
        assert_eq!(answers[0].text, *name);
        assert_eq!(answers[1].text, is_white);

        let pixels = pixel_values(&config.vision_config.preprocess(), &[picture]);
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

const DETECTOR_SIDE: usize = 32;

fn detector_config() -> DetectorConfig {
    let kinds = ["box", "ring"].map(str::to_owned).to_vec();
    let colours = COLOURS.map(|(name, _)| name.to_owned()).to_vec();
    DetectorConfig {
        image_size: DETECTOR_SIDE,
        widths: [8, 16, 16, 24],
        norm_num_groups: 4,
        ..DetectorConfig::new(kinds, colours).unwrap()
    }
}

/// A picture of grey ground with a box and a ring, or one of them, each of a colour.
struct Scene {
    picture: RgbImage,
    /// Of every pixel.
    kinds: Vec<u32>,
    /// Of every pixel.
    colours: Vec<u32>,
    /// What is there: kind and colour.
    truth: Vec<(usize, usize)>,
}

fn scene(variant: u64) -> Scene {
    let digits = variant as usize;
    let present = digits % 3;
    let colours = [digits / 3 % 3, digits / 9 % 3];
    let (left, top) = ([2, 4][digits / 27 % 2], [3, 16][digits / 54 % 2]);
    let mut picture = RgbImage::from_pixel(32, 32, Rgb([128, 140, 150]));
    let (mut kinds, mut colour_map) = (vec![0; 1024], vec![0; 1024]);
    let mut truth = Vec::new();
    for kind in [0, 1] {
        if present != 2 && present != kind {
            continue;
        }
        truth.push((kind, colours[kind]));
        // Side by side, so that neither hides the other.
        let corner = (left + 14 * kind, top);
        for (y, x) in (0..12).flat_map(|y| (0..12).map(move |x| (y, x))) {
            let hole = (4..8).contains(&y) && (4..8).contains(&x);
            if kind == 1 && hole {
                continue;
            }
            let (x, y) = (corner.0 + x, corner.1 + y);
            picture.put_pixel(x as u32, y as u32, Rgb(COLOURS[colours[kind]].1));
            kinds[y * 32 + x] = kind as u32 + 1;
            colour_map[y * 32 + x] = colours[kind] as u32 + 1;
        }
    }
    Scene {
        picture,
        kinds,
        colours: colour_map,
        truth,
    }
}

struct Scenes(DetectorConfig);

impl Scenes {
    fn batch_from(&self, first: u64) -> Result<DetectorBatch, TrainError> {
        // 7 is prime to the 108 scenes: all of them come up.
        let scenes: Vec<_> = (0..12).map(|i| scene((first * 12 + i) * 7)).collect();
        let pictures: Vec<RgbImage> = scenes.iter().map(|s| s.picture.clone()).collect();
        let labels: Vec<PixelLabels<'_>> = scenes
            .iter()
            .map(|s| PixelLabels {
                kinds: &s.kinds,
                colours: &s.colours,
            })
            .collect();
        let pixels = pixel_values(&self.0.preprocess(), &pictures);
        DetectorBatch::from_pixels(pixels, &labels, &self.0, 0.5)
    }
}

impl DetectorData for Scenes {
    fn batch(&self, step: u64) -> Result<DetectorBatch, TrainError> {
        self.batch_from(step)
    }

    fn validation(&self) -> Result<Vec<DetectorBatch>, TrainError> {
        Ok(vec![self.batch_from(1000)?])
    }
}

#[test]
fn a_detector_learns_and_finds_the_same_from_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let config = detector_config();
    let store = ParamStore::random(4, &Device::Cpu);
    let task = DetectorTask::new(&store, &config, Scenes(config.clone())).unwrap();
    let before = task.validate().unwrap();
    train(
        &store,
        &task,
        &settings(80, 5e-3),
        &folder.path().join("run"),
    )
    .unwrap();
    let after = task.validate().unwrap();
    // Guessing: ln 3 for the kind of a cell and ln 3 for its colour, 2.2 together.
    let (first, last) = (score(&before, "loss"), score(&after, "loss"));
    assert!(first > 1.5 && last < 0.2, "loss {first} -> {last}");

    let published = folder.path().join("mini-detector");
    export_detector(&store, &config, &published).unwrap();
    let detector = MiniDetector::load(&published, &Compute::cpu()).unwrap();
    assert_eq!(detector.config(), &config);
    for variant in [0, 1, 2, 5, 40, 71, 107] {
        let Scene {
            picture,
            kinds,
            truth,
            ..
        } = scene(variant);
        let found = detector.detect(&picture).unwrap();
        let named: Vec<(&str, &str)> = found
            .iter()
            .map(|d| (d.kind.as_str(), d.colour.as_deref().unwrap()))
            .collect();
        let expected: Vec<(&str, &str)> = truth
            .iter()
            .map(|(kind, colour)| (config.kinds[*kind].as_str(), COLOURS[*colour].0))
            .collect();
        assert_eq!(named, expected, "scene {variant}");
        let area = kinds.iter().filter(|kind| **kind != 0).count();
        let cells: usize = found.iter().map(|d| d.cells).sum();
        // Cells on the edge may go either way.
        assert!(
            cells.abs_diff(area / 16) <= area / 32,
            "{cells} for {area} pixels"
        );
    }
    let picture = scene(2).picture;
    assert!(
        detector
            .with_limits(1000, 0.5)
            .detect(&picture)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_cell_has_the_kind_that_covers_enough_of_it() {
    let config = DetectorConfig {
        image_size: 8,
        ..detector_config()
    };
    // Cell 0: 6 pixels of kind 2 in colours 3, 3, 3, 3, 1, 1, and 2 of kind 1; cell 1: 3 pixels.
    let (mut kinds, mut colours) = (vec![0; 64], vec![0; 64]);
    for (pixel, kind, colour) in [
        (0, 2, 3),
        (1, 2, 3),
        (2, 2, 3),
        (3, 2, 3),
        (8, 2, 1),
        (9, 2, 1),
        (16, 1, 2),
        (17, 1, 2),
        (4, 1, 1),
        (5, 1, 1),
        (6, 1, 1),
    ] {
        kinds[pixel] = kind;
        colours[pixel] = colour;
    }
    let labels = [PixelLabels {
        kinds: &kinds,
        colours: &colours,
    }];
    let pixels = Tensor::zeros((1, 3, 8, 8), DType::F32, &Device::Cpu).unwrap();
    let batch =
        |share| DetectorBatch::from_pixels(pixels.clone(), &labels, &config, share).unwrap();
    assert_eq!(batch(0.25).kinds, [2, 0, 0, 0]);
    assert_eq!(batch(0.25).colours, [3, 0, 0, 0]);
    assert_eq!(batch(0.1).kinds, [2, 1, 0, 0]);
    assert_eq!(batch(0.1).colours, [3, 1, 0, 0]);
    assert_eq!(batch(0.5).kinds, [0; 4]);
}
