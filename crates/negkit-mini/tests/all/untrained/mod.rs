//! Models of the recipe's sizes that learned nothing, in the folders of their stages.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Device;
use negkit_mini::gallery::draw;
use negkit_mini::{Workshop, recipe};
use negkit_train::tasks::contrastive::ContrastiveModel;
use negkit_train::tasks::detector::export_detector;
use negkit_train::tasks::diffusion::{PipelineParts, export_pipeline};
use negkit_train::tasks::segmentation::{FrozenClip, export_clipseg};
use negkit_train::tasks::vae::{export_vae, vae_parameters};
use negkit_train::tasks::vqa::export_vqa;
use negkit_train::{ParamStore, TrainedTokenizer, export_clip};
use negkit_world::{Scene, language};
use serde_json::json;

/// Entries of the vocabulary: enough for every question to fit.
const VOCABULARY: usize = 700;

/// What the vocabulary is made from.
fn texts() -> Vec<String> {
    let scenes = (0..100).map(Scene::sample);
    let own = |scene: Scene| {
        let mut rng = draw("untrained", scene.seed);
        let questions = language::questions(&scene, &mut rng);
        questions.into_iter().map(|question| question.text)
    };
    scenes.flat_map(own).collect()
}

/// A stage that is through, with an `export` that `write` fills.
pub fn stage(shop: &Workshop, name: &str, inputs: &[&str], write: impl FnOnce(&Path)) -> PathBuf {
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

fn log(shop: &Workshop, stage: &str, training: &str) {
    let folder = shop.path(stage).join(training);
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
    let text = recipe::text_config(VOCABULARY);
    let vision = recipe::vision_config();
    stage(shop, name, inputs, |folder| {
        let store = ParamStore::random(seed, &Device::Cpu);
        ContrastiveModel::load(&store.params(), &text, Some(&vision)).unwrap();
        export_clip(&store, &text, &vision, &tokenizer, folder).unwrap();
    })
}

/// All stages, as if they were through.
pub fn trained(folder: &Path) -> Workshop {
    let shop = Workshop::open(folder).unwrap();
    stage(&shop, "pictures", &[], |_| ());
    let trained = TrainedTokenizer::train(texts().iter().map(String::as_str), VOCABULARY).unwrap();
    trained
        .write(&shop.path("tokenizer"), recipe::CONTEXT)
        .unwrap();
    stage(&shop, "tokenizer", &["pictures"], |_| ());
    stage(&shop, "captions", &["pictures"], |_| ());
    let stock = clip(&shop, "clip", &["tokenizer"], 1);
    log(&shop, "clip", "training");
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
    stage(&shop, "sd-looks", &["latents", "clip"], |folder| {
        let store = ParamStore::random(1, &Device::Cpu);
        let config = recipe::unet_config();
        negkit_diffusion::unet::UNet::load(&store.params(), &config).unwrap();
        let parts = PipelineParts {
            unet: &store,
            unet_config: &config,
            scheduler: &recipe::schedule().unwrap(),
            vae: &vae,
            clip: &stock,
        };
        export_pipeline(parts, folder).unwrap();
    });
    for training in ["training", "training-noisy"] {
        log(&shop, "sd-looks", training);
    }
    // Of such a name are pictures and latents of galleries, too.
    fs::write(shop.path("sd-looks").join("training.rgb"), []).unwrap();
    stage(&shop, "clipseg", &["clip"], |folder| {
        let clip = FrozenClip::open(&stock, recipe::SEGMENTATION_SIDE, &Device::Cpu).unwrap();
        let config = clip.describe(&recipe::clipseg_config()).unwrap();
        let store = ParamStore::random(1, &Device::Cpu);
        negkit_clipseg::decoder::ClipSegDecoder::load(&store.params().pp("decoder"), &config)
            .unwrap();
        export_clipseg(&store, &config, &clip, folder).unwrap();
    });
    stage(&shop, "vqa-posed", &["tokenizer", "vae"], |folder| {
        let config = recipe::vqa_config(VOCABULARY).unwrap();
        let store = ParamStore::random(2, &Device::Cpu);
        negkit_vqa::mini::MiniVqaModel::load(&store.params(), &config).unwrap();
        export_vqa(&store, &config, &shop.path("tokenizer"), folder).unwrap();
    });
    stage(&shop, "detector-posed", &["pictures", "vae"], |folder| {
        let config = recipe::detector_config().unwrap();
        let store = ParamStore::random(1, &Device::Cpu);
        negkit_vqa::detector::DetectorModel::load(&store.params(), &config).unwrap();
        export_detector(&store, &config, folder).unwrap();
    });
    shop
}
