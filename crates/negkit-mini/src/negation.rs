//! The stages that turn stock mini-clip into encoders that know "no".
//!
//! The fine-tuning is the paper's ("Know 'No' Better", arXiv 2501.10913, section 4.1): only the
//! text tower is trained, its final layer norm excepted, on pictures with captions that say what is
//! absent. Two things differ, and were found on validation scenes of this world: the learning rate
//! is higher, for the model is small and the batches few, and part of every batch has ordinary
//! captions, without which a model of this size forgets them.

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
    ContrastiveBatch, ContrastiveData, ContrastiveModel, ContrastiveTask, Pictures,
    frozen_in_fine_tuning,
};
use negkit_train::{ParamStore, TrainError, export_clip, train};
use negkit_world::writers::{WorldVerifier, WorldWriter, hard_negative};
use negkit_world::{Kind, Place, Scene, language};
use rand::Rng;
use rand::seq::IndexedRandom;
use rayon::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::MiniError;
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
}

impl Variant {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::NegationClip,
        Self::P1,
        Self::P2,
        Self::RandP1,
        Self::ConClip,
    ];

    /// Its name, as a folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::NegationClip => "negationclip",
            Self::P1 => "p1",
            Self::P2 => "p2",
            Self::RandP1 => "rand-p1",
            Self::ConClip => "conclip",
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

/// Captions with their scenes; for CoN-CLIP with the negated caption and its distractor.
struct Item {
    scene: usize,
    text: String,
    hard: Option<(String, usize)>,
}

/// A scene, its caption, and for CoN-CLIP the negated caption with its distractor.
type Drawn = (usize, String, Option<(String, usize)>);

/// What one variant is trained on.
struct NegationData<'a> {
    world: &'a World,
    tokenizer: &'a ClipTokenizer,
    /// `[scenes, projection]`
    train_pictures: Tensor,
    held_out_pictures: Tensor,
    items: Vec<Item>,
    held_out: Vec<Item>,
    settings: recipe::FineTuning,
    purpose: &'static str,
}

impl NegationData<'_> {
    fn batch_of(&self, pictures: &Tensor, items: &[Drawn]) -> Result<ContrastiveBatch, TrainError> {
        let rows = |numbers: Vec<u32>| -> Result<Pictures, TrainError> {
            let numbers = Tensor::new(numbers, pictures.device())?;
            Ok(Pictures::Embeddings(pictures.index_select(&numbers, 0)?))
        };
        let texts: Vec<String> = items.iter().map(|item| item.1.clone()).collect();
        let hard: Vec<&(String, usize)> = items.iter().filter_map(|item| item.2.as_ref()).collect();
        let mut batch = ContrastiveBatch::new(
            rows(items.iter().map(|item| item.0 as u32).collect())?,
            tokens(self.tokenizer, &texts)?,
        );
        if !hard.is_empty() {
            let texts: Vec<String> = hard.iter().map(|(text, _)| text.clone()).collect();
            batch.hard_texts = tokens(self.tokenizer, &texts)?;
            batch.distractors = Some(rows(hard.iter().map(|(_, i)| *i as u32).collect())?);
        }
        Ok(batch)
    }
}

impl ContrastiveData for NegationData<'_> {
    fn batch(&self, step: u64) -> Result<ContrastiveBatch, TrainError> {
        let mut rng = draw(self.purpose, step);
        let conclip = self.items.first().is_some_and(|item| item.hard.is_some());
        let places: Vec<Place> = Place::ALL
            .choose_multiple(&mut rng, self.settings.places)
            .copied()
            .collect();
        let mut drawn = Vec::with_capacity(self.settings.batch_size);
        while drawn.len() < self.settings.batch_size {
            // Every caption of CoN-CLIP's loss has its hard negative.
            let ordinary = !conclip && rng.random_bool(self.settings.ordinary_share);
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
                false => (i, item.text.clone(), item.hard.clone()),
            });
        }
        self.batch_of(&self.train_pictures, &drawn)
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
            hard: None,
        };
        Ok(records.into_iter().map(item).collect())
    };
    let all = match variant {
        Variant::NegationClip => {
            let mut both = read(Variant::P1)?;
            both.extend(read(Variant::P2)?);
            both
        }
        Variant::ConClip => {
            let records: Vec<HardNegative> = load(&folder.join("conclip.jsonl"))?;
            records
                .into_iter()
                .filter_map(|record| {
                    Some(Item {
                        scene: number(record.image_id),
                        text: record.caption,
                        hard: Some((record.negated_caption, number(record.distractor?))),
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

/// One fine-tuned encoder: folder `negation/NAME`, in transformers' layout under `export`.
///
/// # Errors
/// When the training fails.
pub fn encoder(shop: &Workshop, world: &World, variant: Variant) -> Result<(), MiniError> {
    let (settings, tuning) = recipe::fine_tuning();
    let name = format!("negation-{}", variant.name());
    let described = json!({ "training": settings, "tuning": tuning, "variant": variant });
    let (train_pictures, held_out_pictures) = embeddings(shop, world)?;
    shop.stage(
        &name,
        &described,
        &["clip", "captions", "embeddings"],
        |folder| {
            let tokenizer =
                ClipTokenizer::from_folder(shop.path("tokenizer")).map_err(MiniError::other)?;
            let text = recipe::text_config(tokenizer.info().vocab_size);
            let store = ParamStore::from_tensors(stock_checkpoint(shop)?, &Device::Cpu)?;
            store.freeze(frozen_in_fine_tuning);
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
                        hard: None,
                    })
                    .collect(),
                settings: tuning.clone(),
                purpose: variant.name(),
            };
            let task = ContrastiveTask::new(&store, &text, None, data)?;
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
