//! The stages that turn stock mini-clip into encoders that know "no".
//!
//! The fine-tuning is the paper's ("Know 'No' Better", arXiv 2501.10913, section 4.1): only the
//! text tower is trained, its final layer norm excepted, on pictures with captions that say what is
//! absent. Three things differ, and were found on validation scenes of this world: the learning rate
//! is higher, for the model is small and the batches few; part of every batch has ordinary
//! captions, without which a model of this size forgets them; and the vectors of short ordinary
//! phrases are held where they were, for mini-clipseg reads more of them than a contrastive loss sees.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use negkit_captions::{
    HardNegative, ImageRef, NegationCaption, QualityGate, RandomObjects, SourceCaption, VqaPair,
    p1_caption, p2_caption, rand_p1_caption, read_json_lines, write_json_lines,
};
use negkit_checkpoint::Checkpoint;
use negkit_nn::Params;
use negkit_text::tokenizer::ClipTokenizer;
use negkit_train::tasks::contrastive::{
    Anchors, ContrastiveBatch, ContrastiveData, ContrastiveModel, ContrastiveTask, Objective,
    Pictures, frozen_in_fine_tuning,
};
use negkit_train::{ParamStore, TrainError, export_clip, train};
use negkit_world::writers::{WorldVerifier, WorldWriter, hard_negative};
use negkit_world::{Kind, Place, Scene, language};
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::MiniError;
use crate::export::copy_tree;
use crate::gallery::{Gallery, draw};
use crate::recipe::{self, SEED};
use crate::stage::Workshop;
use crate::texts::{contrastive_scores, embed_gallery, tokens};
use crate::train::World;

/// What an encoder is fine-tuned on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// P1 and P2: mini-negationclip.
    NegationClip,
    /// P1 alone.
    P1,
    /// P2 alone.
    P2,
    /// Absent objects drawn at random instead of likely ones.
    RandP1,
    /// CoN-CLIP's way: captions first, then a picture that the negated caption fits.
    ConClip,
    /// CLIP-bnl's way: CoN-CLIP's captions, their denials as soft negatives, no other pictures.
    ClipBnl,
}

impl Variant {
    /// Those of `weights/mini`.
    pub const SHIPPED: [Self; 5] = [
        Self::NegationClip,
        Self::P1,
        Self::P2,
        Self::RandP1,
        Self::ConClip,
    ];

    /// The rows of Table 3, and those of Table 2 that the paper compares with.
    pub const ALL: [Self; 6] = [
        Self::RandP1,
        Self::P1,
        Self::P2,
        Self::NegationClip,
        Self::ConClip,
        Self::ClipBnl,
    ];

    /// Its name, as a folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::NegationClip => "negationclip",
            Self::P1 => "p1",
            Self::P2 => "p2",
            Self::RandP1 => "rand-p1",
            Self::ConClip => "conclip",
            Self::ClipBnl => "clip-bnl",
        }
    }

    /// Whether ordinary captions are among its pairs. In CoN-CLIP's and CLIP-bnl's losses every caption
    /// has its hard negative.
    fn has_ordinary_captions(self) -> bool {
        !matches!(self, Self::ConClip | Self::ClipBnl)
    }

    fn objective(self) -> Objective {
        match self {
            Self::ClipBnl => Objective::Bidirectional(recipe::bidirectional()),
            _ => Objective::InfoNce,
        }
    }
}

/// An ordinary caption of scene `i`, as a pipeline gets it.
fn source(gallery: &Gallery, i: usize) -> SourceCaption {
    let scene = gallery.scene(i);
    let style = language::CaptionStyle {
        negation_share: 0.,
        ..language::CaptionStyle::default()
    };
    SourceCaption {
        id: i as u64,
        image: ImageRef::new(scene.seed),
        text: language::caption_with(scene, &style, &mut draw("sources", scene.seed)).text,
    }
}

/// Negation captions of the first `count` scenes from one of the pipelines, those that it kept.
fn write_captions(gallery: &Gallery, count: usize, pipeline: Variant) -> Vec<NegationCaption> {
    let writer = WorldWriter::new(SEED);
    let verifier = WorldVerifier::by_seed();
    let gate = QualityGate::default();
    let objects = RandomObjects {
        vocabulary: Kind::ALL
            .iter()
            .map(|kind| kind.name().to_owned())
            .collect(),
        seed: SEED,
    };
    let one = |i: usize| -> Option<NegationCaption> {
        let caption = source(gallery, i);
        match pipeline {
            Variant::P1 => p1_caption(&caption, &writer, &verifier, &gate).ok(),
            Variant::RandP1 => rand_p1_caption(&caption, &objects, &writer, &verifier, &gate).ok(),
            _ => {
                let scene = gallery.scene(i);
                let questions = language::questions(scene, &mut draw("p2-questions", scene.seed));
                // The first question with the answer "no" that lends itself to a caption.
                questions
                    .into_iter()
                    .zip(0..)
                    .filter(|(question, _)| question.answer == "no" && question.grounded)
                    .find_map(|(question, number)| {
                        let pair = VqaPair {
                            question_id: caption.id * 100 + number,
                            image: caption.image.clone(),
                            question: question.text,
                            answer: question.answer,
                        };
                        p2_caption(&caption, &pair, &writer, &gate).ok()
                    })
            }
        }
    };
    let all = 0..count.min(gallery.len());
    all.into_par_iter()
        .filter_map(one)
        .filter(|record| !language::is_test_prompt(&record.updated_caption))
        .collect()
}

/// CoN-CLIP's pairs for the first `count` scenes; distractors come from the same scenes.
fn write_hard_negatives(gallery: &Gallery, count: usize) -> Vec<HardNegative> {
    let pool: Vec<(u64, Scene)> = gallery.scenes()[..count.min(gallery.len())]
        .iter()
        .map(|scene| (scene.seed, scene.clone()))
        .collect();
    // A search through all scenes for each would take hours; a few hundred hold a likeness.
    const SEARCHED: usize = 400;
    pool.par_iter()
        .enumerate()
        .filter_map(|(i, (seed, scene))| {
            let start = i / SEARCHED * SEARCHED;
            let near = &pool[start..(start + SEARCHED).min(pool.len())];
            let found = hard_negative(*seed, scene, near, &mut draw("conclip", *seed))?;
            found.distractor.is_some().then_some(found)
        })
        .collect()
}

fn save<T: Serialize>(path: &Path, records: &[T]) -> Result<(), MiniError> {
    let partial = path.with_extension("partial");
    let file = File::create(&partial).map_err(MiniError::io(&partial, "create"))?;
    let mut out = BufWriter::new(file);
    write_json_lines(&mut out, records)
        .and_then(|()| out.flush())
        .and_then(|()| out.get_ref().sync_all())
        .and_then(|()| std::fs::rename(&partial, path))
        .map_err(MiniError::io(path, "write"))
}

fn load<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, MiniError> {
    let file = File::open(path).map_err(MiniError::io(path, "open"))?;
    read_json_lines(BufReader::new(file))
        .collect::<std::io::Result<_>>()
        .map_err(MiniError::io(path, "read"))
}

/// The captions of all pipelines and the picture embeddings of stock mini-clip: folder `captions`.
///
/// # Errors
/// When files cannot be written.
pub fn captions(shop: &Workshop, world: &World) -> Result<(), MiniError> {
    let settings = json!({ "scenes": recipe::CAPTIONED_SCENES });
    shop.stage("captions", &settings, &["pictures"], |folder| {
        for pipeline in [Variant::P1, Variant::P2, Variant::RandP1] {
            let records = write_captions(&world.train, recipe::CAPTIONED_SCENES, pipeline);
            save(&folder.join(format!("{}.jsonl", pipeline.name())), &records)?;
        }
        let records = write_hard_negatives(&world.train, recipe::CAPTIONED_SCENES);
        save(&folder.join("conclip.jsonl"), &records)
    })?;
    Ok(())
}

/// Embeddings of a gallery by stock mini-clip, kept in the folder `embeddings`.
fn embeddings(shop: &Workshop, world: &World) -> Result<(Tensor, Tensor), MiniError> {
    let folder = shop.stage("embeddings", &json!({}), &["pictures", "clip"], |folder| {
        let model = stock(shop)?;
        for (name, gallery) in [
            ("training", &world.train),
            ("validation", &world.validation),
        ] {
            let tensor = embed_gallery(&model, gallery)?;
            let tensors = std::collections::HashMap::from([(name.to_owned(), tensor)]);
            candle_core::safetensors::save(&tensors, folder.join(format!("{name}.safetensors")))?;
        }
        Ok(())
    })?;
    let read = |name: &str| -> Result<Tensor, MiniError> {
        let path = folder.join(format!("{name}.safetensors"));
        let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu)?;
        tensors
            .remove(name)
            .ok_or_else(|| MiniError::other(format!("{}: no tensor {name}", path.display())))
    };
    Ok((read("training")?, read("validation")?))
}

fn stock_checkpoint(shop: &Workshop) -> Result<Arc<Checkpoint>, MiniError> {
    let path = shop.path("clip").join("export");
    Ok(Arc::new(Checkpoint::open(&path).map_err(MiniError::other)?))
}

/// Both towers of stock mini-clip, as published.
fn stock(shop: &Workshop) -> Result<ContrastiveModel, MiniError> {
    let params = Params::new(
        stock_checkpoint(shop)?,
        candle_core::DType::F32,
        &Device::Cpu,
    );
    let tokenizer = ClipTokenizer::from_folder(shop.path("tokenizer")).map_err(MiniError::other)?;
    let text = recipe::text_config(tokenizer.info().vocab_size);
    Ok(ContrastiveModel::load(
        &params,
        &text,
        Some(&recipe::vision_config()),
    )?)
}

/// A caption with its meaning denied, and for CoN-CLIP the scene that the denial is true of.
#[derive(Clone)]
struct Denied {
    text: String,
    distractor: Option<usize>,
}

/// Captions with their scenes.
struct Item {
    scene: usize,
    text: String,
    denied: Option<Denied>,
}

/// A scene, its caption, and the caption denied.
type Drawn = (usize, String, Option<Denied>);

/// What one variant is trained on.
struct NegationData<'a> {
    world: &'a World,
    tokenizer: &'a ClipTokenizer,
    /// `[scenes, projection]`
    train_pictures: Tensor,
    held_out_pictures: Tensor,
    /// As it is before the fine-tuning.
    stock: ContrastiveModel,
    items: Vec<Item>,
    held_out: Vec<Item>,
    settings: recipe::FineTuning,
    variant: Variant,
    seed: u32,
}

impl NegationData<'_> {
    fn batch_of(&self, pictures: &Tensor, items: &[Drawn]) -> Result<ContrastiveBatch, TrainError> {
        let rows = |numbers: Vec<u32>| -> Result<Pictures, TrainError> {
            let numbers = Tensor::new(numbers, pictures.device())?;
            Ok(Pictures::Embeddings(pictures.index_select(&numbers, 0)?))
        };
        let denied: Vec<&Denied> = items.iter().filter_map(|item| item.2.as_ref()).collect();
        let texts = items.iter().map(|item| item.1.clone());
        let all: Vec<String> = texts.chain(denied.iter().map(|d| d.text.clone())).collect();
        let mut ids = tokens(self.tokenizer, &all)?;
        cut_behind_texts(&mut ids, self.tokenizer.info().eos.id);
        let hard_texts = ids.split_off(items.len());
        let mut batch =
            ContrastiveBatch::new(rows(items.iter().map(|item| item.0 as u32).collect())?, ids);
        batch.hard_texts = hard_texts;
        let distractors = denied.iter().filter_map(|denied| denied.distractor);
        let distractors: Vec<u32> = distractors.map(|i| i as u32).collect();
        if !distractors.is_empty() {
            batch.distractors = Some(rows(distractors)?);
        }
        Ok(batch)
    }

    /// Short phrases and expressions without a negation about training scenes, with the vectors that
    /// stock mini-clip has for them.
    fn anchors(&self, rng: &mut ChaCha8Rng) -> Result<Anchors, TrainError> {
        let mut texts = Vec::with_capacity(self.settings.anchors);
        while texts.len() < self.settings.anchors {
            let scene = self
                .world
                .train
                .scene(rng.random_range(0..self.world.train.len()));
            let phrases = match rng.random_bool(0.5) {
                true => language::phrases(scene, rng),
                false => language::referring_expressions(scene, rng),
            };
            let ordinary: Vec<_> = phrases.into_iter().filter(|p| !p.negated).collect();
            texts.extend(ordinary.choose(rng).map(|phrase| phrase.text.clone()));
        }
        let mut ids = tokens(self.tokenizer, &texts)?;
        cut_behind_texts(&mut ids, self.tokenizer.info().eos.id);
        let targets = self.stock.project_texts(&ids)?.detach();
        Ok(Anchors {
            texts: ids,
            targets,
        })
    }
}

/// Cuts rows behind the last end of text of all: the tower is causal and takes its vector from there,
/// so that what follows only costs time.
fn cut_behind_texts(ids: &mut [Vec<u32>], eos: u32) {
    let end = |row: &Vec<u32>| {
        row.iter()
            .position(|&id| id == eos)
            .map_or(row.len(), |i| i + 1)
    };
    let longest = ids.iter().map(end).max().unwrap_or_default();
    ids.iter_mut().for_each(|row| row.truncate(longest));
}

impl ContrastiveData for NegationData<'_> {
    fn batch(&self, step: u64) -> Result<ContrastiveBatch, TrainError> {
        let mut rng = draw(self.variant.name(), (u64::from(self.seed) << 32) | step);
        let places: Vec<Place> = Place::ALL
            .choose_multiple(&mut rng, self.settings.places)
            .copied()
            .collect();
        let mut drawn = Vec::with_capacity(self.settings.batch_size);
        while drawn.len() < self.settings.batch_size {
            let ordinary = self.variant.has_ordinary_captions()
                && rng.random_bool(self.settings.ordinary_share);
            let item = &self.items[rng.random_range(0..self.items.len())];
            let i = match ordinary {
                true => rng.random_range(0..self.world.train.len()),
                false => item.scene,
            };
            let scene = self.world.train.scene(i);
            if !places.contains(&scene.place) {
                continue;
            }
            drawn.push(match ordinary {
                true => (i, language::caption(scene, &mut rng).text, None),
                false => (i, item.text.clone(), item.denied.clone()),
            });
        }
        let mut batch = self.batch_of(&self.train_pictures, &drawn)?;
        batch.anchors = Some(self.anchors(&mut rng)?);
        Ok(batch)
    }

    fn validation(&self) -> Result<Vec<ContrastiveBatch>, TrainError> {
        let items: Vec<_> = self
            .held_out
            .iter()
            .take(400)
            .map(|item| (item.scene, item.text.clone(), None))
            .collect();
        items
            .chunks(200)
            .map(|part| self.batch_of(&self.held_out_pictures, part))
            .collect()
    }

    fn scores(&self, model: &ContrastiveModel) -> Result<Vec<(&'static str, f64)>, TrainError> {
        contrastive_scores(
            model,
            self.tokenizer,
            &self.world.validation,
            &self.held_out_pictures,
        )
    }

    fn recipe(&self) -> Value {
        json!({ "items": self.items.len(), "settings": self.settings })
    }
}

fn items(world: &World, shop: &Workshop, variant: Variant) -> Result<Vec<Item>, MiniError> {
    let folder = shop.path("captions");
    let number = |seed: u64| (seed - recipe::TRAINING.start) as usize;
    let read = |pipeline: Variant| -> Result<Vec<Item>, MiniError> {
        let records: Vec<NegationCaption> =
            load(&folder.join(format!("{}.jsonl", pipeline.name())))?;
        let item = |record: NegationCaption| Item {
            scene: number(record.image_id),
            text: record.updated_caption,
            denied: None,
        };
        Ok(records.into_iter().map(item).collect())
    };
    let all = match variant {
        Variant::NegationClip => {
            let mut both = read(Variant::P1)?;
            both.extend(read(Variant::P2)?);
            both
        }
        Variant::ConClip | Variant::ClipBnl => {
            let records: Vec<HardNegative> = load(&folder.join("conclip.jsonl"))?;
            records
                .into_iter()
                .filter_map(|record| {
                    let distractor = number(record.distractor?);
                    Some(Item {
                        scene: number(record.image_id),
                        text: record.caption,
                        denied: Some(Denied {
                            text: record.negated_caption,
                            distractor: (variant == Variant::ConClip).then_some(distractor),
                        }),
                    })
                })
                .collect()
        }
        one => read(one)?,
    };
    if all.iter().any(|item| item.scene >= world.train.len()) {
        return Err(MiniError::other(format!(
            "{}: a caption of a scene that is none of the {} training scenes",
            folder.display(),
            world.train.len()
        )));
    }
    Ok(all)
}

/// One fine-tuned encoder of `weights/mini`: folder `negation-NAME`, in transformers' layout under
/// `export`.
///
/// # Errors
/// When the training fails.
pub fn encoder(shop: &Workshop, world: &World, variant: Variant) -> Result<(), MiniError> {
    let name = format!("negation-{}", variant.name());
    fine_tune(shop, world, variant, 0, &name)
}

/// One fine-tuned encoder of Table 3: folder `NAME/SEED`, in transformers' layout under `export`. The
/// seed decides which captions meet in a batch; those of `weights/mini` have the seed 0.
///
/// # Errors
/// When the training fails.
pub fn seeded_encoder(
    shop: &Workshop,
    world: &World,
    variant: Variant,
    seed: u32,
) -> Result<(), MiniError> {
    let name = format!("{}/{seed}", variant.name());
    fine_tune(shop, world, variant, seed, &name)
}

fn fine_tune(
    shop: &Workshop,
    world: &World,
    variant: Variant,
    seed: u32,
    name: &str,
) -> Result<(), MiniError> {
    let (settings, tuning) = recipe::fine_tuning();
    let objective = variant.objective();
    let mut described = json!({ "training": settings, "tuning": tuning, "variant": variant });
    if seed > 0 {
        described["seed"] = seed.into();
    }
    if objective != Objective::InfoNce {
        described["objective"] = json!(objective);
    }
    let (train_pictures, held_out_pictures) = embeddings(shop, world)?;
    shop.stage(
        name,
        &described,
        &["clip", "captions", "embeddings"],
        |folder| {
            let tokenizer =
                ClipTokenizer::from_folder(shop.path("tokenizer")).map_err(MiniError::other)?;
            let text = recipe::text_config(tokenizer.info().vocab_size);
            let store = ParamStore::from_tensors(stock_checkpoint(shop)?, &Device::Cpu)?;
            store.freeze(frozen_in_fine_tuning);
            if objective != Objective::InfoNce {
                store.freeze(|name| name == "logit_scale");
            }
            let held_out = write_captions(&world.validation, 1000, Variant::P1);
            let start = recipe::VALIDATION.start;
            let data = NegationData {
                world,
                tokenizer: &tokenizer,
                train_pictures,
                held_out_pictures,
                items: items(world, shop, variant)?,
                held_out: held_out
                    .into_iter()
                    .map(|record| Item {
                        scene: (record.image_id - start) as usize,
                        text: record.updated_caption,
                        denied: None,
                    })
                    .collect(),
                settings: tuning.clone(),
                stock: stock(shop)?,
                variant,
                seed,
            };
            let task = ContrastiveTask::new(&store, &text, None, data)?
                .with_objective(objective)
                .anchored(tuning.anchor_weight);
            train(&store, &task, &settings, &folder.join("training"))?;
            export_clip(
                &store,
                &text,
                &recipe::vision_config(),
                &shop.path("tokenizer"),
                &folder.join("export"),
            )?;
            Ok(())
        },
    )?;
    Ok(())
}

/// Puts a published mini-clip in the place of the stages `clip` and `tokenizer`, for fine-tuning
/// without training it first.
///
/// # Errors
/// When the folder `published` has no whole CLIP with its tokenizer, or files cannot be copied.
pub fn take_clip(shop: &Workshop, published: &Path) -> Result<(), MiniError> {
    let checkpoint = Checkpoint::open(published).map_err(MiniError::other)?;
    let sha256 = checkpoint.sha256().map_err(MiniError::other)?;
    let settings = json!({ "published": sha256 });
    for (stage, below) in [("tokenizer", ""), ("clip", "export")] {
        shop.stage(stage, &settings, &[], |folder| {
            copy_tree(published, &folder.join(below), &is_of_a_clip)
        })?;
    }
    Ok(())
}

/// Whether a file has weights, configuration or vocabulary.
fn is_of_a_clip(name: &str) -> bool {
    [".json", ".txt", ".safetensors"]
        .iter()
        .any(|ending| name.ends_with(ending))
}
