//! Models that learned nothing, exported as those that did: what is in the tree, and what is found
//! when somebody has been at it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Device;
use negkit_checkpoint::Checkpoint;
use negkit_clip::Clip;
use negkit_mini::export::{ExportOptions, MODELS, export, verify};
use negkit_mini::{MiniError, Workshop, recipe};
use negkit_nn::Compute;
use negkit_text::{ClipFiles, ClipTextEncoder, TextEncoder};
use negkit_train::tasks::contrastive::ContrastiveModel;
use negkit_train::tasks::detector::export_detector;
use negkit_train::tasks::diffusion::{PipelineParts, export_pipeline, zero_snr_schedule};
use negkit_train::tasks::segmentation::{FrozenClip, export_clipseg};
use negkit_train::tasks::vae::{export_vae, vae_parameters};
use negkit_train::tasks::vqa::{export_vqa, store_from_clip};
use negkit_train::{ParamStore, TrainedTokenizer, export_clip};
use negkit_vqa::mini::{MiniVqaConfig, QuestionConfig};
use serde_json::json;

const WORDS: &str = "a room with no chairs and a man without a hat in the park";

/// A stage that is through, with an `export` that `write` fills.
fn stage(shop: &Workshop, name: &str, inputs: &[&str], write: impl FnOnce(&Path)) -> PathBuf {
    let settings = json!({ "negation_share": 0.007, "misaligned_share": 0.9, "side": 64,
        "training": { "start": 0, "end": 40 }, "validation": { "start": 100, "end": 140 } });
    let work = |folder: &Path| {
        write(&folder.join("export"));
        Ok(())
    };
    shop.stage(name, &settings, inputs, work)
        .unwrap()
        .join("export")
}

fn log(shop: &Workshop, stage: &str) {
    let folder = shop.path(stage).join("training");
    fs::create_dir_all(&folder).unwrap();
    fs::write(
        folder.join("log.csv"),
        "step,loss,seconds\n1,2,3\n1500,1,3725\n",
    )
    .unwrap();
    let scores = "step,loss,negation_foil\n750,1,0.7\n1500,0.5,0.625\n";
    fs::write(folder.join("validation.csv"), scores).unwrap();
}

fn clip(shop: &Workshop, name: &str, inputs: &[&str], seed: u64) -> PathBuf {
    let tokenizer = shop.path("tokenizer");
    let text = recipe::text_config(540);
    let vision = recipe::vision_config();
    stage(shop, name, inputs, |folder| {
        let store = ParamStore::random(seed, &Device::Cpu);
        ContrastiveModel::load(&store.params(), &text, Some(&vision)).unwrap();
        export_clip(&store, &text, &vision, &tokenizer, folder).unwrap();
    })
}

/// All stages, as if they were through.
fn trained(folder: &Path) -> Workshop {
    let shop = Workshop::open(folder).unwrap();
    stage(&shop, "pictures", &[], |_| ());
    let trained = TrainedTokenizer::train([WORDS, WORDS], 540).unwrap();
    trained
        .write(&shop.path("tokenizer"), recipe::CONTEXT)
        .unwrap();
    stage(&shop, "tokenizer", &["pictures"], |_| ());
    stage(&shop, "captions", &["pictures"], |_| ());
    let stock = clip(&shop, "clip", &["tokenizer"], 1);
    log(&shop, "clip");
    for (variant, seed) in ["negationclip", "p1", "p2", "rand-p1", "conclip"]
        .iter()
        .zip(2..)
    {
        clip(
            &shop,
            &format!("negation-{variant}"),
            &["clip", "captions"],
            seed,
        );
    }
    let vae = stage(&shop, "vae", &["pictures"], |folder| {
        let config = recipe::vae_config();
        let store = vae_parameters(1, &config, &Device::Cpu).unwrap();
        negkit_diffusion::vae::Vae::load(&store.params(), &config).unwrap();
        export_vae(&store, &config, folder).unwrap();
    });
    stage(&shop, "latents", &["vae"], |_| ());
    stage(&shop, "sd", &["latents", "clip"], |folder| {
        let store = ParamStore::random(1, &Device::Cpu);
        let config = recipe::unet_config();
        negkit_diffusion::unet::UNet::load(&store.params(), &config).unwrap();
        let parts = PipelineParts {
            unet: &store,
            unet_config: &config,
            scheduler: &zero_snr_schedule().unwrap(),
            vae: &vae,
            clip: &stock,
        };
        export_pipeline(parts, folder).unwrap();
    });
    stage(&shop, "clipseg", &["clip"], |folder| {
        let clip = FrozenClip::open(&stock, recipe::SEGMENTATION_SIDE, &Device::Cpu).unwrap();
        let config = clip.describe(&recipe::clipseg_config()).unwrap();
        let store = ParamStore::random(1, &Device::Cpu);
        negkit_clipseg::decoder::ClipSegDecoder::load(&store.params().pp("decoder"), &config)
            .unwrap();
        export_clipseg(&store, &config, &clip, folder).unwrap();
    });
    stage(&shop, "vqa", &["clip", "vae"], |folder| {
        let question = QuestionConfig {
            vocab_size: 540,
            hidden_size: recipe::vision_config().hidden_size,
            intermediate_size: recipe::vision_config().intermediate_size,
            num_attention_heads: recipe::vision_config().num_attention_heads,
            ..QuestionConfig::default()
        };
        let answers = vec!["yes".to_owned(), "no".to_owned()];
        let config = MiniVqaConfig::new(recipe::vision_config(), question, answers).unwrap();
        let files = ClipFiles::open(&stock).unwrap();
        let store = store_from_clip(&config, &files, 1, &Device::Cpu).unwrap();
        negkit_vqa::mini::MiniVqaModel::load(&store.params(), &config).unwrap();
        export_vqa(&store, &config, &stock, folder).unwrap();
    });
    stage(&shop, "detector", &["pictures", "vae"], |folder| {
        let config = recipe::detector_config().unwrap();
        let store = ParamStore::random(1, &Device::Cpu);
        negkit_vqa::detector::DetectorModel::load(&store.params(), &config).unwrap();
        export_detector(&store, &config, folder).unwrap();
    });
    shop
}

fn options(work: &Path) -> ExportOptions {
    ExportOptions {
        quality: work.join("quality.json"),
        pictures: false,
    }
}

#[test]
fn all_models_are_exported_and_every_change_to_them_is_found() {
    let work = tempfile::tempdir().unwrap();
    let shop = trained(&work.path().join("run"));
    let weights = work.path().join("weights/mini");
    fs::create_dir_all(weights.parent().unwrap()).unwrap();
    let quality = json!({ "clip": { "recall_at_5": { "mean": 0.75, "interval": [0.7, 0.8] } },
        "sd": { "objects": { "mean": 0.9, "interval": [0.8, 1] } },
        "weights": { "sd": { "model_index.json": "0".repeat(64) } } });
    fs::write(work.path().join("quality.json"), quality.to_string()).unwrap();
    let done = export(&shop, &weights, &options(work.path())).unwrap();

    assert!(done.missing.is_empty(), "{:?}", done.missing);
    assert_eq!(done.models.len(), MODELS.len());
    let sizes: u64 = done.models.iter().map(|model| model.bytes).sum();
    assert!(
        sizes < done.bytes && done.bytes < sizes + 100_000,
        "{done:?}"
    );
    // f16: two bytes a parameter, and a header.
    for model in &done.models {
        let least = 2 * model.parameters as u64;
        assert!(
            (least..least + 100_000).contains(&model.weight_bytes),
            "{model:?}"
        );
    }

    // Others than who exported them may read them.
    #[cfg(unix)]
    for name in ["clip/model.safetensors", "conclip/model.safetensors"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        let usual = mode(&weights.join("README.md"));
        assert_eq!(mode(&weights.join(name)), usual, "{name}");
    }

    // The text side is the fine-tuned one, and all that is left of the model.
    let tuned = ClipTextEncoder::load(weights.join("negationclip-p1"), &Compute::cpu()).unwrap();
    let whole = shop.path("negation-p1").join("export");
    let whole = Clip::load(&whole, &Compute::cpu()).unwrap();
    let projected = |encoder: &dyn TextEncoder| -> Vec<Vec<f32>> {
        let encoding = encoder.encode(&["a room with no chairs"]).unwrap();
        encoding.projected.unwrap().to_vec2().unwrap()
    };
    assert_eq!(projected(&tuned), projected(whole.text().as_ref()));
    let tensors = Checkpoint::open(weights.join("conclip")).unwrap();
    let mut names = tensors.iter().map(|(name, _)| name);
    assert!(names.all(|name| name.starts_with("text_")));

    let card = |name: &str| fs::read_to_string(weights.join(name).join("README.md")).unwrap();
    let clip = card("clip");
    for part in [
        "0.7 % of the captions hold a negation, and 90 % of these",
        "| recall at 5 | **0.750** (0.700 to 0.800) |",
        "0.625 is what this model has",
        "1 h 2 min",
        "Stage `clip`, 1,500 steps in 1 h 2 min, built on `tokenizer`:",
        "seeds 0 to 39 for training",
        "MIT OR Apache-2.0",
    ] {
        assert!(clip.contains(part), "{part:?} is not in\n{clip}");
    }
    // Those were other weights.
    assert!(card("sd").contains("Not measured yet"));
    assert!(card("vqa").contains("Not measured yet"));

    assert!(verify(&weights).unwrap() > 4 * MODELS.len());
    let wrong = |name: &str| {
        let Err(MiniError::NotVerified { wrong, .. }) = verify(&weights) else {
            panic!("{name} is not missed");
        };
        assert!(wrong.len() == 1 && wrong[0].contains(name), "{wrong:?}");
    };
    // Cut short.
    let unet = weights.join("sd/unet/diffusion_pytorch_model.safetensors");
    let whole = fs::read(&unet).unwrap();
    fs::write(&unet, &whole[..whole.len() / 2]).unwrap();
    wrong("sd/unet/diffusion_pytorch_model.safetensors");
    let error = Checkpoint::open(&unet).unwrap_err().to_string();
    assert!(error.contains("git checkout"), "{error}");
    fs::write(&unet, whole).unwrap();
    // One bit of one byte.
    let detector = weights.join("detector/model.safetensors");
    let mut bytes = fs::read(&detector).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&detector, &bytes).unwrap();
    wrong("detector/model.safetensors");
    Checkpoint::open(&detector).unwrap_err();
    bytes[middle] ^= 1;
    fs::write(&detector, &bytes).unwrap();
    assert!(verify(&weights).is_ok());
    // One more file: not the export's, so that an export would not dare to remove it.
    fs::write(weights.join("notes.txt"), "mine").unwrap();
    wrong("notes.txt");
    let error = export(&shop, &weights, &options(work.path())).unwrap_err();
    assert!(matches!(error, MiniError::ForeignFiles { .. }), "{error}");
    fs::remove_file(weights.join("notes.txt")).unwrap();

    // Damage is mended by another export, which gives the same bytes.
    let list = fs::read(weights.join("SHA256SUMS")).unwrap();
    fs::remove_file(&unet).unwrap();
    export(&shop, &weights, &options(work.path())).unwrap();
    assert_eq!(fs::read(weights.join("SHA256SUMS")).unwrap(), list);
    verify(&weights).unwrap();
    let beside: Vec<_> = fs::read_dir(weights.parent().unwrap()).unwrap().collect();
    assert_eq!(
        beside.len(),
        1,
        "nothing is left beside the tree: {beside:?}"
    );
}

#[test]
fn what_is_not_trained_yet_is_left_out() {
    let work = tempfile::tempdir().unwrap();
    let shop = Workshop::open(work.path().join("run")).unwrap();
    let weights = work.path().join("mini");
    let error = export(&shop, &weights, &options(work.path())).unwrap_err();
    assert!(matches!(error, MiniError::Missing { .. }), "{error}");
    assert!(!weights.exists());

    stage(&shop, "pictures", &[], |_| ());
    stage(&shop, "detector", &["pictures"], |folder| {
        let config = recipe::detector_config().unwrap();
        let store = ParamStore::random(1, &Device::Cpu);
        negkit_vqa::detector::DetectorModel::load(&store.params(), &config).unwrap();
        export_detector(&store, &config, folder).unwrap();
    });
    let done = export(&shop, &weights, &options(work.path())).unwrap();
    assert_eq!(done.models.len(), 1);
    assert_eq!(done.missing.len(), MODELS.len() - 1);
    verify(&weights).unwrap();

    // A folder of the user's own is not touched.
    let own = work.path().join("own");
    fs::create_dir(&own).unwrap();
    fs::write(own.join("thesis.tex"), "").unwrap();
    let error = export(&shop, &own, &options(work.path()))
        .unwrap_err()
        .to_string();
    assert!(error.contains("thesis.tex"), "{error}");
}
