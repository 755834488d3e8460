//! A small CLIP of random weights, published as OpenAI and transformers do, fine-tuned on drawn
//! pictures: what goes in, what comes out, and what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use image::{Rgb, RgbImage};
use negkit_checkpoint::Checkpoint;
use negkit_checkpoint::naming::{Naming, clip};
use negkit_clip::{Clip, ClipVisionConfig};
use negkit_finetune::{FineTuneError, FineTuneSettings, Job, Method, Outcome, Split, fine_tune};
use negkit_nn::{Compute, TensorSource};
use negkit_text::tower::ClipTextConfig;
use negkit_text::{ClipTextEncoder, TextEncoder};
use negkit_train::tasks::contrastive::{ContrastiveModel, frozen_in_fine_tuning};
use negkit_train::{ParamStore, TrainError, export_openai};
use serde_json::{Value, json};

const COLOURS: [(&str, [u8; 3]); 6] = [
    ("red", [200, 40, 40]),
    ("green", [40, 180, 60]),
    ("blue", [40, 70, 210]),
    ("yellow", [230, 210, 50]),
    ("black", [20, 20, 20]),
    ("white", [245, 245, 245]),
];
const PICTURES: usize = 24;

/// A folder with a CLIP, pictures and captions.
struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        world.write_clip();
        std::fs::create_dir(world.path("images")).unwrap();
        for i in 0..PICTURES {
            let [r, g, b] = colour(i).1;
            // No two are the same.
            let pixel = Rgb([r, g, b.wrapping_add(i as u8)]);
            let picture = RgbImage::from_pixel(20, 16, pixel);
            picture.save(world.path("images").join(name(i))).unwrap();
        }
        world.write_captions("captions.json", |_, _| {});
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A bare state dict, as NegationCLIP is published, with CLIP's own vocabulary.
    fn write_clip(&self) {
        let text = ClipTextConfig {
            hidden_size: 8,
            intermediate_size: 16,
            projection_dim: 6,
            num_hidden_layers: 2,
            num_attention_heads: 1,
            max_position_embeddings: 14,
            ..ClipTextConfig::default()
        };
        let vision = ClipVisionConfig {
            hidden_size: 8,
            intermediate_size: 16,
            projection_dim: 6,
            num_hidden_layers: 1,
            num_attention_heads: 1,
            image_size: 16,
            patch_size: 8,
            ..ClipVisionConfig::default()
        };
        let store = ParamStore::random(1, &Device::Cpu);
        ContrastiveModel::load(&store.params(), &text, Some(&vision)).unwrap();
        export_openai(
            &store,
            &self.path("stock.safetensors"),
            &self.path("stock.pth"),
        )
        .unwrap();
    }

    fn write_captions(&self, file: &str, edit: impl Fn(usize, &mut Value)) {
        let images: Vec<Value> = (0..PICTURES)
            .map(|i| json!({"id": i, "file_name": name(i), "width": 20, "height": 16}))
            .collect();
        let annotations: Vec<Value> = (0..PICTURES)
            .map(|i| {
                let (own, other) = (colour(i).0, colour(i + 1).0);
                let mut annotation = json!({
                    "id": 100 + i,
                    "image_id": i,
                    "caption": format!("a {own} wall"),
                    "updated_caption": format!("a {own} wall that is not {other}"),
                    "negated_caption": format!("a wall that is not {own}"),
                    "distractor": (i + 1) % PICTURES,
                });
                edit(i, &mut annotation);
                annotation
            })
            .collect();
        let document = json!({"images": images, "annotations": annotations});
        std::fs::write(self.path(file), document.to_string()).unwrap();
    }

    fn job(&self, out: &str) -> Job {
        Job {
            clip: self.path("stock.pth"),
            captions: vec![self.path("captions.json")],
            images: self.path("images"),
            out: self.path(out),
            features: self.path("features"),
            verify_features: false,
            name: "tuned".to_owned(),
            device: Device::Cpu,
            settings: FineTuneSettings {
                epochs: 3,
                batch_size: 8,
                chunk: 3,
                learning_rate: 3e-3,
                checkpoint_every: 2,
                ..FineTuneSettings::default()
            },
        }
    }
}

fn colour(i: usize) -> (&'static str, [u8; 3]) {
    COLOURS[i % COLOURS.len()]
}

fn name(i: usize) -> String {
    format!("picture-{i:02}.png")
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let difference = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
    difference.max(0).unwrap().to_scalar().unwrap()
}

/// A file under the names of transformers.
fn tensors(path: &Path) -> Checkpoint {
    clip::to_transformers(&Checkpoint::open(path).unwrap()).unwrap()
}

fn load(checkpoint: &Checkpoint, name: &str) -> Tensor {
    checkpoint.load(name, DType::F32, &Device::Cpu).unwrap()
}

/// Whether two files hold the same weights, bit for bit.
fn same(a: &Path, b: &Path) -> bool {
    let (a, b) = (tensors(a), tensors(b));
    assert_eq!(a.names(), b.names());
    let mut names = a.names().into_iter();
    names.all(|name| largest_difference(&load(&a, &name), &load(&b, &name)) == 0.)
}

#[test]
fn a_published_clip_goes_in_and_two_published_layouts_come_out() {
    let world = World::new();
    let outcome = fine_tune(&world.job("first")).unwrap();
    // A fifth, rounded down, is validated by; the last batch of an epoch is smaller.
    assert_eq!((outcome.train, outcome.held_out), (20, 4));
    assert_eq!(
        (outcome.batches, outcome.steps, outcome.left_out),
        (3, 9, 0)
    );
    assert_eq!(outcome.pictures_encoded.0, PICTURES);
    assert!(outcome.speedup().unwrap() > 1.);

    // The same weights everywhere; what the paper freezes is as it was, all else has changed.
    let archive = Checkpoint::open(&outcome.openai_archive).unwrap();
    assert_eq!(Naming::detect(&archive), Naming::OpenAiClip);
    assert!(same(&outcome.openai_archive, &outcome.openai_safetensors));
    assert!(same(&outcome.openai_archive, &outcome.transformers));
    let (before, after) = (
        tensors(&world.path("stock.pth")),
        tensors(&outcome.transformers),
    );
    for name in before.names() {
        let kept = largest_difference(&load(&before, &name), &load(&after, &name)) == 0.;
        assert_eq!(kept, frozen_in_fine_tuning(&name), "{name}");
    }

    // Both layouts load, with CLIP's vocabulary, and say the same.
    let compute = Compute::cpu();
    let encode = |path: &Path| {
        let encoder = ClipTextEncoder::load(path, &compute).unwrap();
        encoder
            .encode(&["a wall that is not red"])
            .unwrap()
            .projected
            .unwrap()
    };
    let off = largest_difference(
        &encode(&outcome.transformers),
        &encode(&outcome.openai_archive),
    );
    assert_eq!(off, 0.);
    Clip::load(&outcome.transformers, &compute).unwrap();

    // A finished run is loaded, not repeated. What comes out goes in again, in the other naming, and
    // shares the pictures' features: the picture tower is the same.
    let again = fine_tune(&world.job("first")).unwrap();
    assert_eq!((again.steps, again.pictures_encoded.0), (9, 0));
    let mut second = world.job("second");
    second.clip.clone_from(&outcome.transformers);
    second.settings.split = Split::Pictures;
    let second = fine_tune(&second).unwrap();
    assert_eq!(second.pictures_encoded.0, 0);
    assert!(!same(&second.transformers, &outcome.transformers));
}

#[test]
fn chunks_and_interruptions_change_nothing() {
    let world = World::new();
    let run = |out: &str, edit: &dyn Fn(&mut FineTuneSettings)| -> Result<Outcome, FineTuneError> {
        let mut job = world.job(out);
        edit(&mut job.settings);
        fine_tune(&job)
    };
    let whole = run("whole", &|settings| settings.chunk = 0).unwrap();
    let chunks = run("chunks", &|_| {}).unwrap();
    let (a, b) = (tensors(&whole.transformers), tensors(&chunks.transformers));
    for name in a.names() {
        // Sums in another order; a step is 3e-3 for every value, whatever its gradient.
        let off = largest_difference(&load(&a, &name), &load(&b, &name));
        assert!(off < 1e-3 || name.ends_with("k_proj.bias"), "{name}: {off}");
    }
    // As a process that was killed after its last checkpoint leaves the folder.
    let broken = world.path("broken/training");
    std::fs::create_dir_all(&broken).unwrap();
    let mut stopped = world.job("chunks");
    stopped.out = world.path("broken");
    for file in ["train.json", "log.csv", "validation.csv"] {
        std::fs::copy(world.path("chunks/training").join(file), broken.join(file)).unwrap();
    }
    let resumed = fine_tune(&stopped).unwrap();
    assert!(same(&resumed.transformers, &chunks.transformers));
}

#[test]
fn other_settings_captions_or_weights_in_an_old_folder_are_refused() {
    let world = World::new();
    fine_tune(&world.job("run")).unwrap();
    let refused = |edit: &dyn Fn(&mut Job)| {
        let mut job = world.job("run");
        edit(&mut job);
        let error = fine_tune(&job).unwrap_err();
        let is_changed = matches!(&error, FineTuneError::Train(TrainError::Changed { .. }));
        assert!(is_changed, "{error}");
        error.to_string()
    };
    let message = refused(&|job| job.settings.learning_rate = 1e-4);
    assert!(
        message.contains("learning_rate: the folder has 0.003"),
        "{message}"
    );
    let message = refused(&|job| job.settings.seed = 7);
    assert!(message.contains("recipe.seed"), "{message}");
    world.write_captions("other.json", |i, annotation| {
        if i == 3 {
            annotation["updated_caption"] = json!("a wall of no colour");
        }
    });
    let message = refused(&|job| job.captions = vec![world.path("other.json")]);
    assert!(message.contains("recipe.captions"), "{message}");
    let message = refused(&|job| job.clip = world.path("run/transformers"));
    assert!(message.contains("first_weights"), "{message}");
}

#[test]
fn missing_and_broken_pictures_are_counted_named_and_refused_above_a_share() {
    let world = World::new();
    std::fs::remove_file(world.path("images").join(name(5))).unwrap();
    std::fs::write(world.path("images").join(name(9)), "no picture").unwrap();
    let error = fine_tune(&world.job("run")).unwrap_err().to_string();
    for part in [
        "2 of 24 captions",
        "share of 0.01",
        "picture-05.png: missing",
        "picture-09.png",
    ] {
        assert!(error.contains(part), "{error}");
    }
    assert!(!world.path("run/training").exists());
    let list = std::fs::read_to_string(world.path("run/left-out.txt")).unwrap();
    assert_eq!(list.lines().count(), 2);
    assert!(list.contains("annotation 105 of captions.json"), "{list}");

    let mut allowed = world.job("run");
    allowed.settings.largest_missing_share = 0.1;
    let outcome = fine_tune(&allowed).unwrap();
    assert_eq!(
        (outcome.left_out, outcome.train + outcome.held_out),
        (2, 22)
    );

    let elsewhere = Job {
        images: world.path("nowhere"),
        ..allowed
    };
    let error = fine_tune(&elsewhere).unwrap_err().to_string();
    assert!(error.contains("24 of 24 captions"), "{error}");
    assert!(error.contains("and 19 more"), "{error}");
}

#[test]
fn a_picture_that_changed_is_encoded_anew() {
    let world = World::new();
    fine_tune(&world.job("first")).unwrap();
    RgbImage::from_pixel(20, 16, Rgb([1, 2, 3]))
        .save(world.path("images").join(name(0)))
        .unwrap();
    // Another picture is only moved about: its bytes are known.
    let (one, other) = (world.path("images").join(name(1)), world.path("one.png"));
    std::fs::copy(&one, &other).unwrap();
    std::fs::remove_file(&one).unwrap();
    std::fs::copy(&other, &one).unwrap();
    let outcome = fine_tune(&world.job("second")).unwrap();
    assert_eq!(outcome.pictures_encoded.0, 1);
    let mut verified = world.job("third");
    verified.verify_features = true;
    assert_eq!(fine_tune(&verified).unwrap().pictures_encoded.0, 0);

    // A damaged file is found, whatever it holds instead.
    let folder = std::fs::read_dir(world.path("features"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let file = folder.path().join("features-00000.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let error = fine_tune(&world.job("fourth")).unwrap_err();
    assert!(matches!(&error, FineTuneError::Features { .. }), "{error}");
}

#[test]
fn a_loss_that_is_no_number_stops_and_says_where() {
    let world = World::new();
    let mut job = world.job("run");
    job.settings.learning_rate = 1e30;
    let error = fine_tune(&job).unwrap_err();
    let FineTuneError::NonFinite {
        epoch,
        batch,
        batches,
        captions,
        ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!((*epoch, *batch, *batches), (1, 2, 3));
    assert!(captions[0].contains("wall"), "{captions:?}");
    let message = error.to_string();
    assert!(message.contains("epoch 1, batch 2 of 3"), "{message}");
    // The checkpoint is whole: that before the first step.
    assert!(message.contains("checkpoint.safetensors"), "{message}");
    Checkpoint::open(world.path("run/training/checkpoint.safetensors")).unwrap();
    assert!(!world.path("run/tuned.pth").exists());
}

#[test]
fn a_checkpoint_of_another_size_is_named() {
    let world = World::new();
    let outcome = fine_tune(&world.job("run")).unwrap();
    let config = outcome.transformers.join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    let mut value: Value = serde_json::from_str(&text).unwrap();
    value["text_config"]["hidden_size"] = json!(12);
    std::fs::write(&config, value.to_string()).unwrap();
    let mut job = world.job("other");
    job.clip = outcome.transformers;
    let error = fine_tune(&job).unwrap_err().to_string();
    assert!(
        error.contains("token_embedding") && error.contains("12"),
        "{error}"
    );

    job.clip = world.path("images");
    assert!(matches!(
        fine_tune(&job).unwrap_err(),
        FineTuneError::Text(_)
    ));
}

#[test]
fn the_other_methods_need_denied_captions() {
    let world = World::new();
    for (method, metric) in [(Method::Conclip, "conclip"), (Method::Bnl, "bnl")] {
        let mut job = world.job(metric);
        job.settings.method = method;
        job.settings.caption_field = "caption".to_owned();
        job.settings.bidirectional.to_picture.weight = 1.;
        let outcome = fine_tune(&job).unwrap();
        let log = std::fs::read_to_string(job.out.join("training/log.csv")).unwrap();
        let losses: Vec<f64> = log
            .lines()
            .skip(1)
            .map(|row| row.split(',').nth(1).unwrap().parse().unwrap())
            .collect();
        assert_eq!(losses.len() as u64, outcome.steps);
        assert!(losses[losses.len() - 1] < losses[0], "{metric}: {losses:?}");
        let (before, after) = (
            tensors(&world.path("stock.pth")),
            tensors(&outcome.transformers),
        );
        let scale = |of: &Checkpoint| load(of, "logit_scale").to_scalar::<f32>().unwrap();
        assert_eq!(scale(&before) == scale(&after), method == Method::Bnl);
    }
    world.write_captions("plain.json", |_, annotation| {
        annotation
            .as_object_mut()
            .unwrap()
            .shift_remove("negated_caption");
    });
    let mut job = world.job("plain");
    job.settings.method = Method::Bnl;
    job.captions = vec![world.path("plain.json")];
    let error = fine_tune(&job).unwrap_err().to_string();
    assert!(error.contains("no negated_caption"), "{error}");
}

#[test]
fn anchors_hold_ordinary_texts_where_they_were() {
    let world = World::new();
    let phrases = ["a red wall", "a blue wall", "wall"];
    std::fs::write(world.path("phrases.txt"), phrases.join("\n\n")).unwrap();
    let run = |out: &str, edit: &dyn Fn(&mut FineTuneSettings)| {
        let mut job = world.job(out);
        job.settings.epochs = 8;
        edit(&mut job.settings);
        fine_tune(&job)
    };
    let encode = |path: &Path| {
        let encoder = ClipTextEncoder::load(path, &Compute::cpu()).unwrap();
        encoder.encode(&phrases).unwrap().projected.unwrap()
    };
    let stock = encode(&world.path("stock.pth"));
    let drift = |outcome: &Outcome| {
        let off = (encode(&outcome.transformers) - &stock).unwrap();
        off.sqr()
            .unwrap()
            .sum_all()
            .unwrap()
            .to_scalar::<f32>()
            .unwrap()
    };
    let free = run("free", &|_| {}).unwrap();
    let held = run("held", &|settings| {
        settings.anchors = 6;
        settings.anchor_texts = Some(world.path("phrases.txt"));
    })
    .unwrap();
    assert!(
        drift(&held) < drift(&free) / 4.,
        "{} of {}",
        drift(&held),
        drift(&free)
    );

    // Other texts are another training, with the captions' own ones as well.
    let error = run("held", &|settings| settings.anchors = 6).unwrap_err();
    assert!(error.to_string().contains("recipe.anchors"), "{error}");
    std::fs::write(world.path("phrases.txt"), "\n").unwrap();
    let error = run("none", &|settings| {
        settings.anchors = 6;
        settings.anchor_texts = Some(world.path("phrases.txt"));
    });
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("anchor_texts") && error.contains("which has none"),
        "{error}"
    );

    // Nor is there one in the captions.
    world.write_captions("captions.json", |_, annotation| {
        annotation["caption"] = json!(" ");
    });
    let error = run("blank", &|settings| settings.anchors = 6).unwrap_err();
    assert!(error.to_string().contains("which has none"), "{error}");
}
