//! A dataset that this crate writes is what the readers of the published formats read.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use negkit_data::Look;
use negkit_data::check::{State, check};
use negkit_data::coco::{Captions, Instances, Segmentation};
use negkit_data::foils::read_neg_refcocog;
use negkit_data::phrasecut::{PhraseCut, Split};
use negkit_data::prompts::{read_neg_prompts, read_tifa};
use negkit_data::refcoco::{RefCoco, Splitter, read_references};
use negkit_image::Mask;
use negkit_world::datasets::{Counts, PictureFormat, Plan, write_plan};
use serde_json::Value;

const PLAN: Plan = Plan {
    seed: 4,
    counts: Counts {
        train: 90,
        val: 24,
        tifa: 12,
    },
    side: 64,
    format: PictureFormat::Png,
};

fn json(folder: &Path, path: &str) -> Value {
    serde_json::from_slice(&fs::read(folder.join(path)).unwrap()).unwrap()
}

fn length(value: &Value) -> usize {
    value.as_array().unwrap().len()
}

fn union(masks: impl Iterator<Item = Mask>) -> Mask {
    let joined = masks.reduce(|a, b| {
        let either = a.pixels().iter().zip(b.pixels()).map(|(a, b)| a | b);
        Mask::new(a.width(), a.height(), either.collect()).unwrap()
    });
    joined.unwrap()
}

#[test]
fn what_is_written_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_plan(folder, &PLAN, &mut |_| {}).unwrap();

    // Instances: polygons and run lengths read to the same masks, as many pixels as the area says.
    let mut masks: HashMap<u64, Mask> = HashMap::new();
    for split in ["train2014", "val2014"] {
        let path = |name: &str| folder.join(format!("annotations/{name}_{split}.json"));
        let polygons = Instances::open(&path("instances")).unwrap();
        let runs = Instances::open(&path("instances_rle")).unwrap();
        let raw = json(folder, &format!("annotations/instances_{split}.json"));
        assert_eq!(polygons.instances.len(), length(&raw["annotations"]));
        assert_eq!(polygons.pictures.len(), length(&raw["images"]));
        assert_eq!(polygons.categories.len(), length(&raw["categories"]));
        assert_eq!(polygons.pictures, runs.pictures);
        for (place, (drawn, run)) in polygons.instances.iter().zip(&runs.instances).enumerate() {
            assert!(matches!(run.segmentation, Segmentation::Rle(_)));
            let mask = polygons.mask(drawn).unwrap();
            assert_eq!(mask, runs.mask(run).unwrap(), "annotation {}", drawn.id);
            let area = raw["annotations"][place]["area"].as_f64().unwrap();
            assert_eq!(mask.area() as f64, area);
            masks.insert(drawn.id, mask);
        }
        let captions = Captions::open(&path("captions")).unwrap();
        assert_eq!(captions.captions.len(), 5 * captions.pictures.len());
        assert_eq!(captions.pictures.len(), polygons.pictures.len());
    }
    let negation = folder.join("negation/captions_p1_train2014.json");
    let negation = Captions::open(&negation).unwrap();
    assert!(!negation.captions.is_empty());
    assert!(
        negation
            .captions
            .iter()
            .all(|caption| caption.updated_caption.is_some())
    );

    // References, from the pickle as from the JSON.
    let data = RefCoco::open(&folder.join("refcocog"), Splitter::Umd, None).unwrap();
    let raw = json(folder, "refcocog/refs(umd).json");
    assert_eq!(serde_json::to_value(&data.references).unwrap(), raw);
    let mut from_json = Vec::new();
    read_references(&folder.join("refcocog/refs(umd).json"), |_, reference| {
        from_json.push(reference);
        Ok(())
    })
    .unwrap();
    assert_eq!(data.references, from_json);
    for reference in &data.references {
        assert_eq!(data.mask(reference).unwrap(), masks[&reference.ann_id]);
    }

    // Phrases: a region is the union of its instances.
    for split in [Split::Train, Split::Val, Split::Test] {
        let data = PhraseCut::open(&folder.join("phrasecut"), split).unwrap();
        let raw = json(folder, &format!("phrasecut/refer_{split}.json"));
        assert!(data.phrases() > 0);
        assert_eq!(data.phrases(), length(&raw));
        for picture in &data.pictures {
            for task in &picture.tasks {
                let mask = task.mask(picture.info.width, picture.info.height).unwrap();
                let instances = task.ann_ids.iter().map(|&id| masks[&(id as u64)].clone());
                assert_eq!(mask, union(instances), "{}", task.task_id);
            }
        }
    }

    let file = |path: &str| folder.join(path);
    let prompts = read_neg_prompts(&file("negscore/prompts_with_questions.json")).unwrap();
    let raw = json(folder, "negscore/prompts_with_questions.json");
    assert_eq!(serde_json::to_value(&prompts).unwrap(), raw);
    let items = read_neg_refcocog(&file("negrefcocog/NegRefCOCOg.json")).unwrap();
    let raw = json(folder, "negrefcocog/NegRefCOCOg.json");
    assert_eq!(serde_json::to_value(&items).unwrap(), raw);
    let tifa = read_tifa(
        &file("tifa/tifa_v1.0_text_inputs.json"),
        &file("tifa/tifa_v1.0_question_answers.json"),
    )
    .unwrap();
    assert_eq!(tifa.len(), PLAN.counts.tifa);
    let raw = json(folder, "tifa/tifa_v1.0_question_answers.json");
    let questions: Vec<_> = tifa.into_iter().flat_map(|item| item.questions).collect();
    assert_eq!(serde_json::to_value(&questions).unwrap(), raw);
}

#[test]
fn a_written_dataset_is_whole_until_a_picture_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_plan(folder, &PLAN, &mut |_| {}).unwrap();
    let states = |report: &negkit_data::check::CheckReport| -> Vec<(String, State)> {
        let named = report.datasets.iter();
        named
            .map(|found| (found.name.clone(), found.state))
            .collect()
    };
    let report = check(folder, Look::Decode).unwrap();
    assert!(report.is_right(), "{report:?}");
    let expected = [
        ("PhraseCut", State::Whole),
        ("refcocog (umd)", State::Whole),
        ("COCO", State::Whole),
        ("TIFA v1.0", State::Whole),
        ("Neg Score prompts", State::Whole),
        ("GenEval", State::Absent),
        ("NegRefCOCOg", State::Whole),
        ("VALSE existence", State::Absent),
    ];
    assert_eq!(
        states(&report),
        expected.map(|(name, state)| (name.to_owned(), state))
    );
    assert!(
        report
            .datasets
            .iter()
            .flat_map(|found| &found.counts)
            .all(|c| c.published.is_none())
    );
    // An empty place has no phrases.
    assert!((100..=114).contains(&report.datasets[0].pictures.needed));
    assert_eq!(report.datasets[2].pictures.needed, 114);

    let lost = folder.join("val2014/COCO_val2014_000000000091.png");
    fs::remove_file(&lost).unwrap();
    let report = check(folder, Look::Exists).unwrap();
    assert_eq!(report.datasets[2].state, State::Incomplete);
    assert_eq!(report.datasets[2].pictures.faults[0].0, lost);
    assert_eq!(report.datasets[2].pictures.good(), 113);
    assert!(report.is_right());
}
