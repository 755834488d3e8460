//! Datasets: their records agree with the scenes, and a kill at any moment harms nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use negkit_data::WordList;
use negkit_image::Rle;
use negkit_world::datasets::{
    Counts, DatasetError, PictureFormat, Plan, Split, dataset_scene, scene_seed, to_pickle, verify,
    write_all, write_plan,
};
use negkit_world::language::negation_prompts;
use negkit_world::{Kind, Scene, render};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

const PLAN: Plan = Plan {
    seed: 11,
    counts: Counts {
        train: 150,
        val: 40,
        tifa: 30,
    },
    side: 64,
    format: PictureFormat::Png,
};

fn json_file(folder: &Path, path: &str) -> Value {
    serde_json::from_slice(&fs::read(folder.join(path)).unwrap()).unwrap()
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

fn holds_expression_negation(text: &str) -> bool {
    WordList::default().found_in(text).is_some()
}

#[test]
fn the_files_agree_with_the_scenes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (mut last, mut total) = (0, 0);
    let dataset = write_plan(folder, &PLAN, &mut |progress| {
        assert!(progress.done > last);
        (last, total) = (progress.done, progress.total);
    })
    .unwrap();
    assert_eq!((last, total), (150 + 40 + 26, 150 + 40 + 26));
    assert_eq!(verify(folder).unwrap(), dataset);
    assert!(!folder.join(".markers").exists());

    let scenes: HashMap<u64, Scene> = list(&json_file(folder, "scenes.json"))
        .iter()
        .map(|record| {
            let scene = serde_json::from_value(record["scene"].clone()).unwrap();
            (record["image_id"].as_u64().unwrap(), scene)
        })
        .collect();
    assert_eq!(scenes.len(), 190);
    assert_eq!(scenes[&1], Scene::sample(scene_seed(11, Split::Train, 0)));
    assert_eq!(scenes[&3], dataset_scene(11, Split::Train, 2));
    assert_eq!(scenes[&151], Scene::sample(scene_seed(11, Split::Val, 0)));

    // Instances: polygons and RLE tell of the same pixels as the renderer.
    let mut names: HashMap<u64, String> = HashMap::new();
    let mut boxes: HashMap<u64, (u64, Value)> = HashMap::new();
    for split in ["train2014", "val2014"] {
        let polygons = json_file(folder, &format!("annotations/instances_{split}.json"));
        let rles = json_file(folder, &format!("annotations/instances_rle_{split}.json"));
        for category in list(&polygons["categories"]) {
            names.insert(
                category["id"].as_u64().unwrap(),
                category["name"].as_str().unwrap().into(),
            );
        }
        for image in list(&polygons["images"]) {
            let name = image["file_name"].as_str().unwrap();
            let id = image["id"].as_u64().unwrap();
            assert_eq!(name, format!("COCO_{split}_{id:012}.png"));
            let picture = image::open(folder.join(split).join(name))
                .unwrap()
                .to_rgb8();
            assert_eq!(picture, render(&scenes[&id], 64).picture);
        }
        for (a, b) in list(&polygons["annotations"])
            .iter()
            .zip(list(&rles["annotations"]))
        {
            for key in ["id", "image_id", "category_id", "bbox", "area", "iscrowd"] {
                assert_eq!(a[key], b[key]);
            }
            let rle: Rle = serde_json::from_value(b["segmentation"].clone()).unwrap();
            assert_eq!(rle.area() as f64, a["area"].as_f64().unwrap());
            let scene = &scenes[&a["image_id"].as_u64().unwrap()];
            let kind = Kind::from_name(&names[&a["category_id"].as_u64().unwrap()]).unwrap();
            let rendering = render(scene, 64);
            let seen =
                scene
                    .things
                    .iter()
                    .zip(&rendering.things)
                    .any(|(thing, truth)| {
                        (thing.kind == kind && Rle::from_mask(&truth.visible) == rle)
                            || thing.worn.iter().zip(&truth.worn).any(|(worn, mask)| {
                                worn.kind == kind && Rle::from_mask(mask) == rle
                            })
                    });
            assert!(seen, "{kind} in picture {}", a["image_id"]);
            let twice_area: f64 = list(&a["segmentation"])
                .iter()
                .map(|polygon| {
                    let at: Vec<f64> = list(polygon).iter().map(|v| v.as_f64().unwrap()).collect();
                    let n = at.len() / 2;
                    (0..n)
                        .map(|i| {
                            let j = (i + 1) % n;
                            at[2 * i] * at[2 * j + 1] - at[2 * j] * at[2 * i + 1]
                        })
                        .sum::<f64>()
                })
                .sum();
            assert_eq!(twice_area / 2., a["area"].as_f64().unwrap());
            boxes.insert(
                a["id"].as_u64().unwrap(),
                (a["category_id"].as_u64().unwrap(), a["bbox"].clone()),
            );
        }
    }

    // Captions: five a picture, unique ids.
    let captions = json_file(folder, "annotations/captions_train2014.json");
    let ids: HashSet<u64> = list(&captions["annotations"])
        .iter()
        .map(|a| a["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids.len(), 150 * 5);

    // References: pickle and JSON hold the same; each refers to an annotation.
    let refs = json_file(folder, "refcocog/refs(umd).json");
    assert_eq!(
        fs::read(folder.join("refcocog/refs(umd).p")).unwrap(),
        to_pickle(&refs)
    );
    let mut negated = 0;
    for reference in list(&refs) {
        let (category, _) = &boxes[&reference["ann_id"].as_u64().unwrap()];
        assert_eq!(reference["category_id"], json!(category));
        for sentence in list(&reference["sentences"]) {
            negated += usize::from(holds_expression_negation(
                sentence["sent"].as_str().unwrap(),
            ));
        }
    }
    assert!(negated > 20);
    let held_out = list(&refs).iter().filter(|r| r["split"] != "train").count();
    assert!(held_out * 4 < list(&refs).len() && held_out > 0);

    // NegRefCOCOg: two boxes inside the picture, the right one first, and the phrase negated.
    let items = json_file(folder, "negrefcocog/NegRefCOCOg.json");
    assert!(!list(&items).is_empty());
    for item in list(&items) {
        assert_eq!(item["ref_bbox"], item["bbox_list"][0]);
        assert_ne!(item["ref_bbox"], item["bbox_list"][1]);
        assert!(holds_expression_negation(item["phrase"].as_str().unwrap()));
        for bbox in list(&item["bbox_list"]) {
            let bbox: [f64; 4] = serde_json::from_value(bbox.clone()).unwrap();
            assert!(bbox[0] >= 0. && bbox[1] >= 0. && bbox[2] > 0. && bbox[3] > 0.);
            assert!(bbox[0] + bbox[2] <= 64.0001 && bbox[1] + bbox[3] <= 64.0001);
        }
    }

    // PhraseCut: boxes and polygons of each instance; every picture has its split.
    let splits: BTreeMap<u64, String> = list(&json_file(folder, "phrasecut/image_data_split.json"))
        .iter()
        .map(|e| {
            (
                e["image_id"].as_u64().unwrap(),
                e["split"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    assert_eq!(splits.len(), 190);
    let mut task_ids = HashSet::new();
    for split in ["train", "val", "test"] {
        for task in list(&json_file(folder, &format!("phrasecut/refer_{split}.json"))) {
            assert_eq!(splits[&task["image_id"].as_u64().unwrap()], split);
            assert!(task_ids.insert(task["task_id"].as_str().unwrap().to_owned()));
            assert_eq!(list(&task["Polygons"]).len(), list(&task["ann_ids"]).len());
            for (ann, bbox) in list(&task["ann_ids"])
                .iter()
                .zip(list(&task["instance_boxes"]))
            {
                let of_annotation: Vec<u64> = list(&boxes[&ann.as_u64().unwrap()].1)
                    .iter()
                    .map(|v| v.as_f64().unwrap() as u64)
                    .collect();
                assert_eq!(bbox, &json!(of_annotation));
            }
            assert!(
                fs::exists(folder.join(format!("phrasecut/images/{}.png", task["image_id"])))
                    .unwrap()
            );
        }
    }

    // VQAv2: as many answers as questions, ten each.
    let questions = json_file(folder, "vqa/v2_OpenEnded_mscoco_val2014_questions.json");
    let answers = json_file(folder, "vqa/v2_mscoco_val2014_annotations.json");
    let (questions, answers) = (list(&questions["questions"]), list(&answers["annotations"]));
    assert_eq!(questions.len(), answers.len());
    for (question, answer) in questions.iter().zip(answers) {
        assert_eq!(question["question_id"], answer["question_id"]);
        assert_eq!(list(&answer["answers"]).len(), 10);
    }

    // The test prompts stay out of every training text.
    let prompts: HashSet<String> = negation_prompts().into_iter().map(|p| p.prompt).collect();
    assert_eq!(
        list(&json_file(folder, "negscore/prompts_with_questions.json")).len(),
        107
    );
    for (file, key) in [
        ("annotations/captions_train2014.json", "caption"),
        ("negation/captions_p1_train2014.json", "updated_caption"),
        ("negation/captions_p2_train2014.json", "updated_caption"),
        (
            "negation/captions_rand_p1_train2014.json",
            "updated_caption",
        ),
    ] {
        let captions = json_file(folder, file);
        assert!(list(&captions["annotations"]).len() > 150, "{file}");
        for annotation in list(&captions["annotations"]) {
            assert!(
                !prompts.contains(annotation[key].as_str().unwrap()),
                "{file}"
            );
        }
    }
}

#[test]
fn another_plan_is_refused_and_damage_is_found_and_mended() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let counts = Counts {
        train: 20,
        val: 6,
        tifa: 5,
    };
    let silent = &mut |_: negkit_world::datasets::Progress<'_>| {};
    let first = write_all(folder, 1, counts, 64, silent).unwrap();
    let error = write_all(folder, 2, counts, 64, silent).unwrap_err();
    assert!(matches!(error, DatasetError::OtherPlan { .. }), "{error}");
    assert_eq!(verify(folder).unwrap(), first);

    for victim in [
        "train2014/COCO_train2014_000000000003.jpg",
        "refcocog/refs(umd).p",
    ] {
        let path = folder.join(victim);
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(bytes.len() / 2);
        fs::write(&path, &bytes).unwrap();
        let error = verify(folder).unwrap_err();
        assert!(matches!(error, DatasetError::Damaged { .. }), "{error}");
        assert_eq!(write_all(folder, 1, counts, 64, silent).unwrap(), first);
        verify(folder).unwrap();
    }
    fs::remove_file(folder.join("vqa/v2_mscoco_val2014_annotations.json")).unwrap();
    assert_eq!(write_all(folder, 1, counts, 64, silent).unwrap(), first);
    fs::write(folder.join("dataset.json"), b"{\"name\": \"neg").unwrap();
    assert!(matches!(
        verify(folder).unwrap_err(),
        DatasetError::Damaged { .. }
    ));
    assert_eq!(write_all(folder, 1, counts, 64, silent).unwrap(), first);
}

const CHILD: &str = "NEGKIT_WORLD_TEST_FOLDER";

/// Not a test of its own: the process that the next test kills.
#[test]
fn child_that_writes() {
    if let Ok(folder) = std::env::var(CHILD) {
        write_plan(Path::new(&folder), &PLAN, &mut |_| {}).unwrap();
    }
}

/// Files under the folder, those in the making included.
fn files_in(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| {
            let path = entry.path();
            if path.is_dir() { files_in(&path) } else { 1 }
        })
        .sum()
}

#[test]
fn killed_ten_times_the_result_is_the_same() {
    let whole = tempfile::tempdir().unwrap();
    let expected = write_plan(whole.path(), &PLAN, &mut |_| {}).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let mut kills = 0;
    for run in 0..10 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "datasets::child_that_writes",
                "--test-threads",
                "1",
            ])
            .env(CHILD, folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Each run gets a little farther than the one before, and a random moment longer.
        let enough = expected.files.len() * (run + 1) / 10;
        while files_in(folder.path()) < enough && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_micros(rng.random_range(0..20_000)));
        child.kill().unwrap();
        kills += usize::from(!child.wait().unwrap().success());
        // What has its place is whole at any moment.
        for entry in fs::read_dir(folder.path().join("annotations"))
            .into_iter()
            .flatten()
        {
            let path = entry.unwrap().path();
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                serde_json::from_slice::<Value>(&fs::read(&path).unwrap()).unwrap();
            }
        }
    }
    assert!(kills >= 8, "only {kills} of the runs were cut off");
    let dataset = write_plan(folder.path(), &PLAN, &mut |_| {}).unwrap();
    assert_eq!(dataset, expected);
    verify(folder.path()).unwrap();
    let mut pending = vec![folder.path().to_owned()];
    while let Some(current) = pending.pop() {
        for entry in fs::read_dir(current).unwrap() {
            let path = entry.unwrap().path();
            assert!(
                !path.to_string_lossy().ends_with(".partial"),
                "{}",
                path.display()
            );
            if path.is_dir() {
                pending.push(path);
            }
        }
    }
}
