//! Every number that decides what the small models become.

use std::ops::Range;

use negkit_clip::ClipVisionConfig;
use negkit_clipseg::decoder::ClipSegConfig;
use negkit_diffusion::scheduler::SchedulerConfig;
use negkit_diffusion::unet::{DownBlockType, PerBlock, UNetConfig, UpBlockType};
use negkit_diffusion::vae::VaeConfig;
use negkit_nn::{Activation, Compute, Products};
use negkit_text::tower::ClipTextConfig;
use negkit_train::tasks::contrastive::Bidirectional;
use negkit_train::tasks::diffusion::{DiffusionSettings, LogitNormal, zero_snr_schedule};
use negkit_train::tasks::grounding::GroundingSettings;
use negkit_train::tasks::segmentation::SegmentationSettings;
use negkit_train::tasks::vae::{VaeSettings, VaeWeights};
use negkit_train::{Keep, Schedule, TrainError, TrainSettings};
use negkit_vqa::detector::DetectorConfig;
use negkit_vqa::mini::{MiniVqaConfig, QuestionConfig};
use negkit_world::language::{self, CaptionStyle};
use negkit_world::{Colour, Kind};
use serde::Serialize;

use crate::MiniError;
use crate::detect::looks;

/// How the trained models are run when they paint and are measured: with products in bf16 where the
/// processor has instructions for them, which is how they were trained, and several times as fast.
pub fn compute() -> Compute {
    Compute::cpu().with_products(Products::Bf16)
}

/// Side of the pictures, in pixels.
pub const SIDE: u32 = 64;
/// Side of the cells that labels of what stands where are for, in pixels.
pub const CELL: usize = 4;
/// Channels of the latents.
pub const LATENT_CHANNELS: usize = 12;
/// Seed of everything that is drawn and not said otherwise.
pub const SEED: u64 = 42;
/// Tokens of a text.
pub const CONTEXT: usize = 32;
/// Width of the text tower and of CLIP's common space.
const WIDTH: usize = 128;
/// Width of the vision tower.
const VISION_WIDTH: usize = 128;

/// Scenes that models are trained on, by seed.
pub const TRAINING: Range<u64> = 0..40_000;
/// Scenes that settings and checkpoints are chosen by.
pub const VALIDATION: Range<u64> = 1_000_000..1_001_000;
/// Scenes that results are printed for; nothing is chosen by them.
pub const TEST: Range<u64> = 2_000_000..2_001_000;

/// Posed scenes that the UNet is trained on, mini-vqa and mini-detector last, by seed.
///
/// Of five things in a picture, of which a caption names two, it is hard to tell which is the bathtub,
/// and a bus is in one picture of a hundred: with sampled scenes alone the UNet learned places and
/// colours long before nouns.
pub const POSED: Range<u64> = 4_000_000..4_060_000;
/// How many of the ordinary training scenes are among them.
pub const ORDINARY_BESIDE_POSED: usize = 20_000;
/// How many times more often the UNet sees posed scenes with things that have a state or wear something:
/// a cat looks one way sitting and another way standing, a bathtub always the same.
pub const VARIED_REPEATS: usize = 2;
/// How many times more often still those with something worn or held, once it learns states.
pub const WORN_REPEATS: usize = 4;

/// Sizes of the text tower.
pub fn text_config(vocab_size: usize) -> ClipTextConfig {
    ClipTextConfig {
        vocab_size,
        hidden_size: WIDTH,
        intermediate_size: 4 * WIDTH,
        projection_dim: WIDTH,
        num_hidden_layers: 4,
        num_attention_heads: 2,
        max_position_embeddings: CONTEXT,
        hidden_act: Activation::QuickGelu,
        layer_norm_eps: 1e-5,
        // The tokenizer's last entry, as in CLIP's vocabulary.
        eos_token_id: vocab_size.saturating_sub(1) as u32,
    }
}

/// Sizes of the vision tower.
pub fn vision_config() -> ClipVisionConfig {
    ClipVisionConfig {
        hidden_size: VISION_WIDTH,
        intermediate_size: 4 * VISION_WIDTH,
        projection_dim: WIDTH,
        num_hidden_layers: 5,
        num_attention_heads: 2,
        num_channels: 3,
        image_size: SIDE as usize,
        patch_size: 8,
        hidden_act: Activation::QuickGelu,
        layer_norm_eps: 1e-5,
    }
}

/// Sizes of the UNet.
pub fn unet_config() -> UNetConfig {
    UNetConfig {
        sample_size: Some(SIDE as usize / vae_config().scale()),
        in_channels: LATENT_CHANNELS,
        out_channels: LATENT_CHANNELS,
        down_block_types: vec![DownBlockType::CrossAttn; 2],
        up_block_types: vec![UpBlockType::CrossAttn; 2],
        block_out_channels: vec![96, 192],
        layers_per_block: 2,
        norm_num_groups: 16,
        cross_attention_dim: WIDTH,
        attention_head_dim: PerBlock::Each(vec![2, 4]),
        ..UNetConfig::default()
    }
}

/// How long and how fast a model is trained; the rest is as below.
fn training(steps: u64, learning_rate: f64, warmup: u64) -> TrainSettings {
    TrainSettings {
        steps,
        learning_rate,
        warmup,
        schedule: Schedule::Cosine { floor: 0.02 },
        weight_decay: 0.05,
        betas: (0.9, 0.98),
        clip_norm: Some(1.),
        checkpoint_every: 200,
        validate_every: 250,
        keep: Keep::Last,
        ..TrainSettings::default()
    }
}

/// Entries of the vocabulary.
pub const VOCABULARY: usize = 1024;
/// Pairs of a contrastive step from scratch.
pub const CLIP_BATCH: usize = 256;
/// Share of mini-clip's captions that tell everything in the picture.
pub const FULL_CAPTIONS: f64 = 0.15;

/// Share of the UNet's captions that tell everything in the picture: what a caption leaves out teaches
/// nothing of the words for it.
pub const FULL_CAPTIONS_UNET: f64 = 0.5;

/// How often the captions that stock mini-clip learns from hold negations.
pub fn caption_style() -> CaptionStyle {
    CaptionStyle::default()
}

/// The same where every second caption has a near miss beside it and holds none: of all captions it is
/// the same share. All of them are misaligned, for the sharper a text tower is, the more "no chair" is
/// less of a chair to it: with [`caption_style`]'s it told 0.67 of the negation foils.
pub fn sharper_caption_style() -> CaptionStyle {
    CaptionStyle {
        negation_share: 2. * caption_style().negation_share,
        misaligned_share: 1.,
    }
}

/// mini-clip from scratch.
///
/// Near misses (see [`sharper_clip_training`]) from the first step on kept the towers from
/// learning anything but the place: 250 steps came to a recall@5 of 0.05, without them to 0.85.
pub fn clip_training() -> TrainSettings {
    TrainSettings {
        weight_decay: 0.1,
        ..training(700, 1e-3, 60)
    }
}

/// mini-clip after that, on captions with near misses, while the vision tower's patches learn what
/// stands below them.
pub fn sharper_clip_training() -> (TrainSettings, GroundingSettings) {
    let settings = TrainSettings {
        weight_decay: 0.1,
        parts: 16,
        validate_every: 100,
        ..training(1100, 1e-3, 40)
    };
    (settings, grounding(1., 0.))
}

/// Sizes of the autoencoder.
pub fn vae_config() -> VaeConfig {
    VaeConfig {
        block_out_channels: vec![16, 32, 64, 96],
        layers_per_block: 1,
        latent_channels: LATENT_CHANNELS,
        norm_num_groups: 8,
        sample_size: SIDE as usize,
        ..VaeConfig::default()
    }
}

/// The second task of the autoencoder, the UNet and the vision tower, with its weight and the noise it
/// has to get through.
fn grounding(weight: f64, noise: f64) -> GroundingSettings {
    GroundingSettings {
        weight,
        noise,
        grid: SIDE as usize / CELL,
        kinds: Kind::ALL.len(),
        colours: Colour::ALL.len(),
    }
}

/// The autoencoder.
pub fn vae_training() -> (TrainSettings, VaeSettings) {
    let settings = TrainSettings {
        weight_decay: 0.,
        betas: (0.9, 0.99),
        ema: Some(0.998),
        parts: 8,
        ..training(2500, 1e-3, 100)
    };
    let task = VaeSettings {
        batch_size: 16,
        weights: VaeWeights {
            divergence: 1e-3,
            ..VaeWeights::default()
        },
        grounding: Some(grounding(0.03, 0.5)),
        seed: SEED,
        ..VaeSettings::default()
    };
    (settings, task)
}

/// The UNet's training, mostly on posed scenes.
///
/// Things that fill more of the picture are more of the loss, and of what is painted; and pictures
/// of one caption that look much alike are learned sooner. With 64 and 128 channels it painted 0.814 of
/// the objects of validation prompts after 7,000 such steps, and 0.854 where 9,000 steps on ordinary
/// scenes came first; with 96 and 192 channels it is 0.902 after 10,000. Another 3,000 steps, with the
/// rate rising to 4e-4 once more, changed nothing (0.899; all with DPM-Solver++ and guidance 3).
pub fn unet_training() -> (TrainSettings, DiffusionSettings) {
    let settings = TrainSettings {
        weight_decay: 0.01,
        betas: (0.9, 0.99),
        ema: Some(0.999),
        parts: 2,
        ..training(10_000, 1e-3, 150)
    };
    // Where most is noise, the caption decides what is painted.
    let noisy = LogitNormal {
        mean: 0.4,
        deviation: 1.,
    };
    let task = DiffusionSettings {
        batch_size: 64,
        noise_levels: Some(noisy),
        grounding: Some(grounding(0.2, 0.)),
        seed: SEED,
        ..DiffusionSettings::default()
    };
    (settings, task)
}

/// The schedule that the UNet is trained with, and the sampler that is published with it.
///
/// The noise that Euler ancestral adds at every step mends what the steps before got wrong (Karras et
/// al., "Elucidating the Design Space of Diffusion-Based Generative Models", 2022, section 4). Of what
/// 500 validation prompts name it painted 0.906 of the objects and 0.862 of the colours in 20 steps with
/// guidance 3, DPM-Solver++ 0.902 and 0.837, UniPC 0.901 and 0.837, DDIM 0.902 and 0.845. 25 and 40 steps
/// of it are no better than 20.
///
/// # Errors
/// None in practice.
pub fn schedule() -> Result<SchedulerConfig, TrainError> {
    Ok(zero_snr_schedule()?.with("_class_name", "EulerAncestralDiscreteScheduler"))
}

/// The UNet after that, while it has to name the state of what stands in a cell as well.
///
/// Sitting differs from standing by a few pixels, and cells that are named by their kind alone do not
/// ask for it. Of what 500 validation prompts name it painted 0.923 of the objects and 0.894 of the
/// colours, 0.915 and 0.880 before; 0.630 of what is worn or held, 0.609 before. States it was trained
/// for: 0.569 by mini-vqa, 0.578 before. On sheets of pictures most states can be told both before and
/// after, so that what mini-vqa makes of blurred ones may be the limit.
pub fn unet_looks_training() -> (TrainSettings, DiffusionSettings) {
    let (first, task) = unet_training();
    let settings = TrainSettings {
        steps: 4000,
        learning_rate: 4e-4,
        warmup: 50,
        ..first
    };
    let grounding = GroundingSettings {
        kinds: looks(),
        ..grounding(0.2, 0.)
    };
    let task = DiffusionSettings {
        grounding: Some(grounding),
        seed: SEED + 1,
        ..task
    };
    (settings, task)
}

/// Scenes with several of a kind that mini-clipseg is trained on besides, by seed of
/// [`language::referring_scene`]. The others seldom have two people of whom only one wears a hat.
pub const REFERRING: Range<u64> = 5_000_000..5_040_000;
/// Share of its phrases that mean some of several things that are called alike, where there are any.
pub const TELLING_PHRASES: f64 = 0.5;

/// Side of the pictures that mini-clipseg marks, in pixels: as for CLIPSeg, larger than its CLIP's.
pub const SEGMENTATION_SIDE: u32 = 96;

/// Sizes of mini-clipseg's decoder.
///
/// Of 600 steps each, by the mean IoU of validation scenes: 0.402 with 64 channels and CLIPSeg's plain
/// last layer, 0.430 with 128 channels, 0.475 with the refined one as well, as in
/// `CIDAS/clipseg-rd64-refined`; 0.462 with pictures of 128 pixels.
pub fn clipseg_config() -> ClipSegConfig {
    ClipSegConfig {
        projection_dim: WIDTH,
        extract_layers: vec![0, 2, 4],
        reduce_dim: 128,
        use_complex_transposed_convolution: true,
        decoder_num_attention_heads: 4,
        decoder_intermediate_size: 512,
        ..ClipSegConfig::default()
    }
}

/// mini-clipseg.
pub fn clipseg_training() -> (TrainSettings, SegmentationSettings) {
    let settings = TrainSettings {
        weight_decay: 0.01,
        parts: 4,
        ..training(3000, 1.5e-3, 60)
    };
    let task = SegmentationSettings {
        pictures: 16,
        phrases: 4,
        absent: 0.2,
        seed: SEED,
        ..SegmentationSettings::default()
    };
    (settings, task)
}

/// Pictures a step of mini-vqa, and questions a picture.
pub const VQA_BATCH: (usize, usize) = (64, 6);

/// Channels of mini-vqa's vision part at strides 1, 2, 4 and 8.
pub const VQA_WIDTHS: [usize; 4] = [24, 48, 96, 128];

/// Sizes and answers of mini-vqa.
///
/// # Errors
/// When the language had an answer twice.
pub fn vqa_config(vocab_size: usize) -> Result<MiniVqaConfig, MiniError> {
    let vision = DetectorConfig {
        widths: VQA_WIDTHS,
        ..detector_config()?
    };
    let question = QuestionConfig {
        vocab_size,
        hidden_size: 128,
        intermediate_size: 512,
        num_attention_heads: 4,
        ..QuestionConfig::default()
    };
    let answers = language::answer_vocabulary();
    let answers = answers.into_iter().map(str::to_owned).collect();
    MiniVqaConfig::new(vision, question, answers).map_err(MiniError::other)
}

/// mini-vqa.
pub fn vqa_training() -> TrainSettings {
    TrainSettings {
        weight_decay: 0.05,
        parts: 8,
        ..training(3000, 1e-3, 80)
    }
}

/// Sizes of mini-detector, and what it finds: everything that the world has.
///
/// # Errors
/// When a kind had two entries in the catalogue.
pub fn detector_config() -> Result<DetectorConfig, MiniError> {
    let kinds = Kind::ALL.iter().map(|kind| kind.name().to_owned());
    let colours = Colour::ALL.iter().map(|colour| colour.name().to_owned());
    let config =
        DetectorConfig::new(kinds.collect(), colours.collect()).map_err(MiniError::other)?;
    Ok(DetectorConfig {
        image_size: SIDE as usize,
        widths: [16, 32, 64, 96],
        ..config
    })
}

/// mini-vqa after that, every second batch from posed scenes: without it did not see a cat that
/// filled half of the picture.
pub fn vqa_posed_training() -> TrainSettings {
    TrainSettings {
        weight_decay: 0.05,
        parts: 8,
        ..training(700, 6e-4, 50)
    }
}

/// mini-detector, and its pictures a step.
pub fn detector_training() -> (TrainSettings, usize) {
    let settings = TrainSettings {
        weight_decay: 0.01,
        ema: Some(0.995),
        parts: 8,
        ..training(1000, 2e-3, 60)
    };
    (settings, 64)
}

/// mini-detector after that, every second batch from posed scenes.
pub fn detector_posed_training() -> TrainSettings {
    TrainSettings {
        weight_decay: 0.01,
        ema: Some(0.995),
        parts: 8,
        ..training(400, 1.2e-3, 40)
    }
}

/// Training scenes that the caption pipelines work on.
pub const CAPTIONED_SCENES: usize = 30_000;

/// What fine-tuning has besides [`TrainSettings`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FineTuning {
    /// Pairs a step.
    pub batch_size: usize,
    /// Share of the pairs that have ordinary captions.
    pub ordinary_share: f64,
    /// Places that the scenes of one step are drawn from: only among pictures of one place does it
    /// matter what a caption says is missing.
    pub places: usize,
    /// Short ordinary phrases a step whose vectors are held where they were.
    pub anchors: usize,
    /// Weight of their drift in the loss.
    pub anchor_weight: f64,
}

/// The fine-tuning of the text tower.
///
/// A contrastive loss sees only how near a text is to pictures; mini-clipseg reads the whole vector.
/// With a learning rate of 3e-4 and without anchors its mean IoU of ordinary phrases went down by 0.1,
/// that of negated expressions too, and TIFA by 0.02. With anchors a text tower learns "no" and nothing
/// else, so that it may learn faster. On validation scenes, where stock has a Neg Score of 0.279, a TIFA
/// score of 0.921, and mean IoUs of 0.701 for ordinary and 0.344 for negated phrases:
///
/// | learning rate | Neg Score | TIFA | ordinary | negated |
/// |---|---|---|---|---|
/// | 3e-4 | 0.626 | 0.918 | 0.702 | 0.313 |
/// | 5e-4 | 0.700 | 0.923 | 0.702 | 0.322 |
/// | 1e-3 | 0.727 | 0.922 | 0.702 | 0.338 |
pub fn fine_tuning() -> (TrainSettings, FineTuning) {
    let settings = TrainSettings {
        weight_decay: 0.01,
        betas: (0.9, 0.999),
        parts: 16,
        ..training(300, 1e-3, 30)
    };
    let tuning = FineTuning {
        batch_size: 256,
        ordinary_share: 0.5,
        places: 4,
        anchors: 128,
        anchor_weight: 30.,
    };
    (settings, tuning)
}

/// CLIP-bnl's loss.
pub fn bidirectional() -> Bidirectional {
    Bidirectional::default()
}

/// Inference steps of mini-sd where nothing else is said.
pub const SAMPLING_STEPS: usize = negkit::mini::STEPS;
/// Guidance scale of mini-sd where nothing else is said.
pub const GUIDANCE: f64 = negkit::mini::GUIDANCE_SCALE;
/// Pictures that are painted at a time; they do not depend on it.
pub const PAINTED_AT_A_TIME: usize = 32;
