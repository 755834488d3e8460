//! What encoders are measured on, of scenes: the counterparts of VALSE, NegRefCOCOg, NegBench, CC-Neg,
//! COCO retrieval, ImageNet and CelebA, each in the form of the published files, so that drawn scenes go
//! through the very readers that photos go through.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use negkit_captions::{QualityGate, p1};
use negkit_data::negbench::CaptionType;
use negkit_data::negrefcocog::BoxFilter;
use negkit_data::refcoco::Reference;
use negkit_image::write_atomic;
use rand::Rng;
use rand::seq::IndexedRandom;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::refcocog::{neg_refcocog, references};
use super::truth::PictureTruth;
use super::writer::{
    CHUNK, DatasetError, FileRecord, PictureFormat, Progress, Split, Streams, compact,
    dataset_scene, encoded, json_bytes, make_folder, scene_seed, settle,
};
use super::{coco, text};
use crate::catalog::{Kind, Place, State, Zone};
use crate::language::{CaptionStyle, multiple_choice, negation_foil, referring_scene};
use crate::scene::{Scene, Wish};
use crate::writers::{WorldVerifier, WorldWriter, hard_negative};

const INDEX: &str = "benchmarks.json";

/// All that the benchmarks follow from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BenchmarkPlan {
    /// Decides the scenes and the words.
    pub seed: u64,
    /// Scenes with captions, for retrieval and for captions against foils.
    pub scenes: u64,
    /// Scenes to refer in; ten of them give about fourteen items of NegRefCOCOg.
    pub references: u64,
    /// Pictures of each class.
    pub per_class: u64,
    /// Pictures of people.
    pub people: u64,
    /// Width and height of the pictures.
    pub side: u32,
    /// How they are stored.
    pub format: PictureFormat,
}

/// What `benchmarks.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Benchmarks {
    /// What the files follow from.
    pub plan: BenchmarkPlan,
    /// Every other file, by its path in the folder.
    pub files: BTreeMap<String, FileRecord>,
}

/// Kinds that are classes: all that stand for themselves, by their names.
fn class_kinds() -> Vec<Kind> {
    let mut kinds: Vec<Kind> = Kind::ALL
        .iter()
        .copied()
        .filter(|kind| kind.traits().zone != Zone::Person)
        .collect();
    kinds.sort_by_key(|kind| kind.name());
    kinds
}

/// Templates for the classes. CLIP's own speak of photos, which the world's captions do not.
const TEMPLATES: [&str; 8] = [
    "a {c}",
    "one {c}",
    "the {c}",
    "there is a {c}",
    "there is one {c}",
    "a small {c}",
    "a large {c}",
    "a {c} alone",
];

/// An attribute of a person, with the prompts that affirm and deny it.
struct PersonAttribute {
    name: &'static str,
    prompts: [&'static str; 2],
    has: fn(&crate::scene::Thing) -> bool,
}

const ATTRIBUTES: [PersonAttribute; 6] = [
    PersonAttribute {
        name: "Eyeglasses",
        prompts: ["a person with glasses", "a person without glasses"],
        has: |person| person.wears(Kind::Glasses),
    },
    PersonAttribute {
        name: "Holding_Bag",
        prompts: ["a person with a bag", "a person without a bag"],
        has: |person| person.wears(Kind::Bag),
    },
    PersonAttribute {
        name: "Holding_Umbrella",
        prompts: ["a person with an umbrella", "a person without an umbrella"],
        has: |person| person.wears(Kind::Umbrella),
    },
    PersonAttribute {
        name: "Male",
        prompts: ["there is a man", "there is no man"],
        has: |person| person.kind == Kind::Man,
    },
    PersonAttribute {
        name: "Sitting",
        prompts: ["a person who is sitting", "a person who is not sitting"],
        has: |person| person.state == Some(State::Sitting),
    },
    PersonAttribute {
        name: "Wearing_Hat",
        prompts: ["a person with a hat", "a person without a hat"],
        has: |person| person.wears(Kind::Hat),
    },
];

/// Writes the benchmarks into `folder`, or what is missing or damaged of them. `progress` is told after
/// each few pictures and each file.
///
/// They lie in one folder:
///
/// | file | format |
/// |---|---|
/// | `val2014/`, `annotations/captions_val2014.json` | COCO: scenes with five captions each |
/// | `karpathy/dataset_coco.json` | Karpathy's split of these, "val" and "test" by turns |
/// | `valse/existence.json` | VALSE: a caption that says what is or is not there, and its opposite |
/// | `negbench/COCO_val_mcq.csv` | NegBench: four captions, the first one true |
/// | `negbench/COCO_val_retrieval.csv`, `COCO_val_negated_retrieval.csv` | NegBench: captions as they are, and with an absence worked in |
/// | `ccneg/cc_neg.csv` | CC-Neg: a true caption, and the same with a thing of the picture denied |
/// | `train2014/`, `refcocog/refs(umd).json`, `refcocog/instances.json` | RefCOCOg: scenes with several of a kind |
/// | `negrefcocog/NegRefCOCOg.json` | NegRefCOCOg, made from the references |
/// | `imagenet/val/KIND/`, `classnames.json`, `templates.json` | a folder a class: scenes with one thing |
/// | `celeba/img_align_celeba/`, `list_attr_celeba.txt`, `list_eval_partition.txt`, `prompts.json` | CelebA: scenes with one person |
/// | `benchmarks.json` | the plan, and size and SHA-256 of every other file |
///
/// # Errors
/// When the folder holds benchmarks of another plan, or a file cannot be read or written.
pub fn write_benchmarks(
    folder: &Path,
    plan: &BenchmarkPlan,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Benchmarks, DatasetError> {
    let index = folder.join(INDEX);
    if let Ok(bytes) = std::fs::read(&index)
        && let Ok(found) = serde_json::from_slice::<Benchmarks>(&bytes)
    {
        if found.plan != *plan {
            return Err(DatasetError::OtherPlan {
                folder: folder.to_owned(),
                expected: format!("{plan:?}"),
                found: format!("{:?}", found.plan),
            });
        }
        if found.is_whole(folder) {
            return Ok(found);
        }
    }
    let classes = class_kinds();
    let mut writer = Writer {
        folder,
        plan,
        files: BTreeMap::new(),
        done: 0,
        total: plan.scenes
            + plan.references
            + plan.per_class * classes.len() as u64
            + plan.people
            + FILES,
        progress,
    };
    let scenes = writer.scenes()?;
    writer.captions(&scenes)?;
    writer.foils(&scenes)?;
    drop(scenes);
    writer.references()?;
    writer.classes(&classes)?;
    writer.people()?;
    let benchmarks = Benchmarks {
        plan: *plan,
        files: writer.files,
    };
    write_atomic(&index, &json_bytes(INDEX, &benchmarks)?)?;
    Ok(benchmarks)
}

impl Benchmarks {
    fn is_whole(&self, folder: &Path) -> bool {
        self.files.par_iter().all(|(path, record)| {
            std::fs::read(folder.join(path)).is_ok_and(|bytes| FileRecord::of(&bytes) == *record)
        })
    }
}

/// Files beside the pictures.
const FILES: u64 = 2 + 5 + 3 + 2 + 3;

struct Writer<'a> {
    folder: &'a Path,
    plan: &'a BenchmarkPlan,
    files: BTreeMap<String, FileRecord>,
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(Progress<'_>),
}

impl Writer<'_> {
    fn report(&mut self, what: &str, steps: u64) {
        self.done += steps;
        (self.progress)(Progress {
            what,
            done: self.done,
            total: self.total,
        });
    }

    fn streams(&self) -> Streams {
        Streams::new(self.plan.seed)
    }

    fn extension(&self) -> &'static str {
        match self.plan.format {
            PictureFormat::Jpg => "jpg",
            PictureFormat::Png => "png",
        }
    }

    /// Draws pictures and writes those that do not lie there as they should.
    fn draw(
        &mut self,
        what: &str,
        pictures: Vec<(u64, String, Scene)>,
    ) -> Result<Vec<PictureTruth>, DatasetError> {
        let mut all = Vec::with_capacity(pictures.len());
        let (side, format) = (self.plan.side, self.plan.format);
        for chunk in pictures.chunks(CHUNK) {
            for (_, path, _) in chunk {
                if let Some(folder) = self.folder.join(path).parent() {
                    make_folder(folder)?;
                }
            }
            let folder = self.folder;
            let drawn = chunk.par_iter().map(|(id, path, scene)| {
                let name = path.rsplit('/').next().unwrap_or(path).to_owned();
                let (picture, truth) = PictureTruth::of(*id, name, scene.clone(), side);
                let bytes = encoded(path, &picture, format)?;
                settle(&folder.join(path), &bytes)?;
                Ok((truth, path.clone(), FileRecord::of(&bytes)))
            });
            let drawn: Result<Vec<_>, DatasetError> = drawn.collect();
            for (truth, path, record) in drawn? {
                self.files.insert(path, record);
                all.push(truth);
            }
            self.report(what, chunk.len() as u64);
        }
        Ok(all)
    }

    fn file(&mut self, path: &str, bytes: &[u8]) -> Result<(), DatasetError> {
        let target = self.folder.join(path);
        if let Some(folder) = target.parent() {
            make_folder(folder)?;
        }
        settle(&target, bytes)?;
        self.files.insert(path.to_owned(), FileRecord::of(bytes));
        self.report(path, 1);
        Ok(())
    }

    /// `val2014`.
    fn scenes(&mut self) -> Result<Vec<PictureTruth>, DatasetError> {
        let (seed, ending) = (self.plan.seed, self.extension());
        let pictures = (0..self.plan.scenes).map(|index| {
            let id = index + 1;
            let path = format!("val2014/COCO_val2014_{id:012}.{ending}");
            (id, path, dataset_scene(seed, Split::Val, index))
        });
        self.draw("scenes", pictures.collect())
    }

    /// COCO's captions, and Karpathy's split of them.
    fn captions(&mut self, scenes: &[PictureTruth]) -> Result<(), DatasetError> {
        let (streams, style) = (self.streams(), CaptionStyle::default());
        let lists: Vec<Vec<text::CaptionAnnotation>> = scenes
            .par_iter()
            .map(|truth| text::captions_of(truth, &style, &streams))
            .collect();
        let all: Vec<&PictureTruth> = scenes.iter().collect();
        let annotations: Vec<&text::CaptionAnnotation> = lists.iter().flatten().collect();
        let path = "annotations/captions_val2014.json";
        self.file(path, &compact(path, &coco::captions(&all, annotations))?)?;

        let images: Vec<Value> = scenes
            .iter()
            .zip(&lists)
            .enumerate()
            .map(|(index, (truth, list))| {
                let sentences: Vec<Value> = list
                    .iter()
                    .map(|caption| {
                        let words = caption.caption.split(|c: char| !c.is_alphanumeric());
                        let tokens: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
                        json!({
                            "tokens": tokens,
                            "raw": caption.caption,
                            "imgid": index,
                            "sentid": caption.id,
                        })
                    })
                    .collect();
                json!({
                    "filepath": "val2014",
                    "sentids": list.iter().map(|caption| caption.id).collect::<Vec<_>>(),
                    "filename": truth.file_name,
                    "imgid": index,
                    "split": if index % 2 == 0 { "val" } else { "test" },
                    "sentences": sentences,
                    "cocoid": truth.id,
                })
            })
            .collect();
        let path = "karpathy/dataset_coco.json";
        let value = json!({"images": images, "dataset": "coco"});
        self.file(path, &compact(path, &value)?)
    }

    /// VALSE, NegBench and CC-Neg.
    fn foils(&mut self, scenes: &[PictureTruth]) -> Result<(), DatasetError> {
        let streams = self.streams();
        let mut valse = serde_json::Map::new();
        let mut choice = String::from(
            "image_path,correct_answer,caption_0,caption_1,caption_2,caption_3,\
             correct_answer_template\n",
        );
        let mut pairs = String::from("image_path,caption,negated_caption\n");
        let mut plain = String::from("filepath,image_id,captions\n");
        let mut negated = plain.clone();
        let (writer, gate) = (WorldWriter::new(self.plan.seed), QualityGate::default());
        let scene_of = |id: u64| {
            let index = usize::try_from(id).ok()?.checked_sub(1)?;
            scenes.get(index).map(|truth| truth.scene.clone())
        };
        let verifier = WorldVerifier::new(scene_of);
        for (index, truth) in scenes.iter().enumerate() {
            let (id, scene) = (truth.id, &truth.scene);
            let image = format!("val2014/{}", truth.file_name);
            if let Some((caption, foil)) =
                negation_foil(scene, &mut streams.of(id, "existence foils"))
            {
                valse.insert(
                    format!("existence_world_{id}"),
                    valse_item(truth, &caption, &foil),
                );
            }
            let right = CaptionType::ALL[index % CaptionType::ALL.len()];
            let mut rng = streams.of(id, "multiple choice");
            if let Some(captions) = multiple_choice(scene, right, &mut rng) {
                let captions: Vec<String> = captions.iter().map(|text| quoted(text)).collect();
                // Writing into a string cannot fail, here and below.
                let _ = writeln!(choice, "{image},0,{},{right}", captions.join(","));
            }
            if let Some(pair) = hard_negative(id, scene, &[], &mut streams.of(id, "denials")) {
                let (caption, denied) = (quoted(&pair.caption), quoted(&pair.negated_caption));
                let _ = writeln!(pairs, "{image},{caption},{denied}");
            }
            let sources = text::source_captions(truth, &streams);
            let said: Vec<String> = sources.iter().map(|source| source.text.clone()).collect();
            let updated: Vec<String> = p1(sources, &writer, &verifier, &gate)
                .filter_map(Result::ok)
                .map(|record| record.updated_caption)
                .collect();
            for (file, captions) in [(&mut plain, &said), (&mut negated, &updated)] {
                if !captions.is_empty() {
                    // JSON's list of texts is one of Python, too.
                    let list = quoted(&json!(captions).to_string());
                    let _ = writeln!(file, "{image},{id},{list}");
                }
            }
        }
        let path = "valse/existence.json";
        self.file(path, &json_bytes(path, &valse)?)?;
        self.file("negbench/COCO_val_mcq.csv", choice.as_bytes())?;
        self.file("negbench/COCO_val_retrieval.csv", plain.as_bytes())?;
        self.file(
            "negbench/COCO_val_negated_retrieval.csv",
            negated.as_bytes(),
        )?;
        self.file("ccneg/cc_neg.csv", pairs.as_bytes())
    }

    /// RefCOCOg and NegRefCOCOg.
    fn references(&mut self) -> Result<(), DatasetError> {
        let (seed, ending) = (self.plan.seed, self.extension());
        let pictures = (0..self.plan.references).map(|index| {
            let id = index + 1;
            let path = format!("train2014/COCO_train2014_{id:012}.{ending}");
            (
                id,
                path,
                referring_scene(scene_seed(seed, Split::Train, index)),
            )
        });
        let truths = self.draw("references", pictures.collect())?;
        let streams = self.streams();
        let all: Vec<&PictureTruth> = truths.iter().collect();
        let refs: Vec<Reference> = all
            .par_iter()
            .flat_map_iter(|truth| {
                references(truth, "test", &mut streams.of(truth.id, "references"))
            })
            .collect();
        let path = "refcocog/refs(umd).json";
        self.file(path, &compact(path, &refs)?)?;
        let path = "refcocog/instances.json";
        self.file(path, &compact(path, &coco::instances(&all, false))?)?;
        let items = neg_refcocog(&refs, &all, &BoxFilter::drawn());
        let path = "negrefcocog/NegRefCOCOg.json";
        self.file(path, &json_bytes(path, &items)?)
    }

    /// A folder a class: one thing at a place where it is likely.
    fn classes(&mut self, classes: &[Kind]) -> Result<(), DatasetError> {
        let (streams, ending) = (self.streams(), self.extension());
        let mut pictures = Vec::new();
        for kind in classes {
            let likely = |place: &&Place| place.likely().iter().any(|(there, _)| there == kind);
            let places: Vec<&Place> = Place::ALL.iter().filter(likely).collect();
            for number in 1..=self.plan.per_class {
                let id = kind.index() as u64 * self.plan.per_class + number;
                let mut rng = streams.of(id, "classes");
                let place = places.choose(&mut rng).map_or(Place::Room, |place| **place);
                let scene = Scene::compose(rng.random(), place, &[Wish::new(*kind)]);
                let name = kind.name();
                let path = format!("imagenet/val/{name}/{name}_{number:04}.{ending}");
                pictures.push((id, path, scene));
            }
        }
        self.draw("classes", pictures)?;
        let names: Vec<&str> = classes.iter().map(|kind| kind.name()).collect();
        let path = "imagenet/classnames.json";
        self.file(path, &json_bytes(path, &json!({"imagenet1k": names}))?)?;
        let path = "imagenet/templates.json";
        self.file(path, &json_bytes(path, &json!({"imagenet1k": TEMPLATES}))?)
    }

    /// Pictures of one person, with attributes.
    fn people(&mut self) -> Result<(), DatasetError> {
        let (streams, ending) = (self.streams(), self.extension());
        let mut pictures = Vec::new();
        for id in 1..=self.plan.people {
            let mut rng = streams.of(id, "people");
            let kind = match rng.random_bool(0.5) {
                true => Kind::Man,
                false => Kind::Woman,
            };
            let place = *Place::ALL.choose(&mut rng).unwrap_or(&Place::Room);
            let scene = Scene::compose(rng.random(), place, &[Wish::new(kind)]);
            let path = format!("celeba/img_align_celeba/{id:06}.{ending}");
            pictures.push((id, path, scene));
        }
        let truths = self.draw("people", pictures)?;
        let names = ATTRIBUTES.map(|attribute| attribute.name).join(" ");
        let mut list = format!("{}\n{names}\n", truths.len());
        let mut parts = String::new();
        for truth in &truths {
            let person = truth.scene.things.first();
            list.push_str(&truth.file_name);
            for attribute in &ATTRIBUTES {
                let value = match person.is_some_and(attribute.has) {
                    true => 1,
                    false => -1,
                };
                let _ = write!(list, " {value:>2}");
            }
            list.push('\n');
            let _ = writeln!(parts, "{} 2", truth.file_name);
        }
        self.file("celeba/list_attr_celeba.txt", list.as_bytes())?;
        self.file("celeba/list_eval_partition.txt", parts.as_bytes())?;
        let prompts: BTreeMap<&str, [&str; 2]> =
            ATTRIBUTES.iter().map(|a| (a.name, a.prompts)).collect();
        let path = "celeba/prompts.json";
        self.file(path, &json_bytes(path, &prompts)?)
    }
}

/// An item as VALSE has it; nobody voted, for it is known to be true.
fn valse_item(truth: &PictureTruth, caption: &str, foil: &str) -> Value {
    let negated = |text: &str| negkit_data::WordList::default().found_in(text).is_some();
    let (there, provenance) = match negated(caption) {
        true => (0, "zero_to_something"),
        false => (1, "something_to_zero"),
    };
    json!({
        "dataset": "negkit world",
        "dataset_idx": truth.id.to_string(),
        "image_file": truth.file_name,
        "linguistic_phenomena": "existence",
        "caption": caption,
        "classes": there,
        "split": "test",
        "original_split": "test",
        "provenance_of_foils": provenance,
        "foil": foil,
    })
}

/// A field of CSV.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn every_class_is_likely_somewhere_and_stands_alone() {
        for kind in class_kinds() {
            let place = Place::ALL
                .iter()
                .find(|place| place.likely().iter().any(|(there, _)| *there == kind));
            let place = *place.unwrap_or_else(|| panic!("{kind} is likely nowhere"));
            let scene = Scene::compose(7, place, &[Wish::new(kind)]);
            assert_eq!(scene.things.len(), 1, "{kind}");
        }
    }
}
