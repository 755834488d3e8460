//! Models that learned nothing, exported as those that did: what is in the tree, and what is found
//! when somebody has been at it.

use std::fs;
use std::path::Path;

use candle_core::Device;
use negkit_checkpoint::Checkpoint;
use negkit_clip::Clip;
use negkit_mini::export::{ExportOptions, MODELS, export, verify};
use negkit_mini::restore::restore;
use negkit_mini::{MiniError, Workshop, recipe};
use negkit_nn::Compute;
use negkit_text::{ClipTextEncoder, TextEncoder};
use negkit_train::ParamStore;
use negkit_train::tasks::detector::export_detector;
use serde_json::json;

use crate::untrained::{stage, trained};

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
    // Made anew, after what was built on it.
    let vae = shop.path("vae").join("done.json");
    let changed = fs::read_to_string(&vae).unwrap().replace("0.007", "0.008");
    fs::write(&vae, changed).unwrap();
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
    let sd = card("sd");
    for part in [
        "Stage `sd-looks`, 1,500 steps in 1 h 2 min and 1,500 steps in 1 h 2 min, built on `latents`, `clip`:",
        "at the end of the training `sd-looks-noisy`",
        "Stage `latents`, built on `vae` (an earlier `vae`, which was made anew since):",
    ] {
        assert!(sd.contains(part), "{part:?} is not in\n{sd}");
    }
    let vqa = "built on `tokenizer`, `vae` (an earlier `vae`, which was made anew since):";
    assert!(card("vqa").contains(vqa));
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
    // A run that is restored from the tree exports the same bytes again.
    let again = Workshop::open(work.path().join("again")).unwrap();
    let restored = restore(&again, &weights).unwrap();
    assert_eq!(restored.recorded, ["pictures", "captions", "latents"]);
    assert_eq!(
        again.finished("vae").unwrap().inputs,
        shop.finished("vae").unwrap().inputs
    );
    assert!(again.path("vae/export/config.json").is_file());
    assert_eq!(restore(&again, &weights).unwrap(), restored);
    export(&again, &weights, &options(work.path())).unwrap();
    assert_eq!(fs::read(weights.join("SHA256SUMS")).unwrap(), list);
    // What is on record is made when it is needed.
    let mut made = false;
    stage(&again, "captions", &["pictures"], |_| made = true);
    assert!(made);

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
    stage(&shop, "detector-posed", &["pictures"], |folder| {
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
