#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;

use image::RgbImage;
use negkit_data::WordList;

use super::*;
use crate::PaperFolder;

/// The side of the pictures, and that of the marker's probabilities.
const SIDE: u32 = 48;
const RESOLUTION: usize = 32;

/// The probability of an encoder's pixel.
type Value = fn(encoder: usize, pixel: usize) -> f32;

/// Answers every phrase alike, and counts how often it is asked.
struct Painter {
    encoders: usize,
    asked: usize,
    value: Value,
}

impl Painter {
    fn new(encoders: usize) -> Self {
        Self {
            encoders,
            asked: 0,
            // The first encoder marks every other pixel, the second everything.
            value: |encoder, pixel| match encoder {
                0 if pixel % 2 == 0 => 0.9,
                0 => 0.1,
                _ => 0.8,
            },
        }
    }
}

impl PhraseMarker for Painter {
    fn mark(
        &mut self,
        picture: &RgbImage,
        phrases: &[&str],
    ) -> std::result::Result<Vec<Vec<Marked>>, Box<dyn Error + Send + Sync>> {
        self.asked += 1;
        let value = self.value;
        let pixels = (picture.width() * picture.height()) as usize;
        let of = |encoder| Marked {
            probabilities: (0..RESOLUTION * RESOLUTION)
                .map(|p| value(encoder, p))
                .collect(),
            resolution: (RESOLUTION, RESOLUTION),
            at_picture_size: (0..pixels).map(|p| value(encoder, p)).collect(),
        };
        Ok((0..self.encoders)
            .map(|encoder| phrases.iter().map(|_| of(encoder)).collect())
            .collect())
    }
}

fn world(folder: &Path) -> Table5Data {
    let counts = WorldCounts {
        phrasecut: 4,
        refcocog: 12,
    };
    let sources = write_world(folder, SIDE, counts).unwrap();
    Table5Data::open(&sources, &WordList::default(), None).unwrap()
}

fn model(name: &str) -> ModelUsed {
    ModelUsed {
        name: name.to_owned(),
        sha256: None,
    }
}

fn settings(data: &Table5Data, encoders: &[&str]) -> Settings {
    Settings {
        scale: Scale::Mini,
        compute: ComputeUsed::from(&negkit::Compute::cpu()),
        threshold: 0.3,
        words: WordList::default().words().to_vec(),
        model: model("mini-clipseg"),
        bootstrap: Bootstrap {
            resamples: 50,
            ..Bootstrap::default()
        },
        encoders: encoders.iter().map(|name| model(name)).collect(),
        datasets: data.files.clone(),
    }
}

fn made(run: &Path, data: Table5Data, marker: &mut Painter) -> Result<(RunFolder, Table5)> {
    let settings = settings(&data, &["stock", "negationclip"]);
    let table = Table5::new(settings, data)?;
    let run = RunFolder::open(run, table.plan()?)?;
    table.run(&run, Shard::WHOLE, marker)?;
    Ok((run, table))
}

#[test]
fn drawn_scenes_are_read_as_the_published_datasets() {
    let folder = tempfile::tempdir().unwrap();
    let data = world(folder.path());
    let of = |dataset| data.pictures.iter().filter(move |p| p.dataset == dataset);
    assert_eq!(of(Dataset::PhraseCut).count(), 4);
    assert!(of(Dataset::RefCocog).count() > 1);
    let negations = WordList::default();
    for picture in of(Dataset::RefCocog) {
        for phrase in &picture.phrases {
            assert!(
                negations.found_in(&phrase.text).is_some(),
                "{}",
                phrase.text
            );
            assert!(phrase.truth.mask(SIDE, SIDE).unwrap().area() > 0);
        }
    }
    // Other words, other expressions.
    let sources = write_world(
        folder.path(),
        SIDE,
        WorldCounts {
            phrasecut: 4,
            refcocog: 12,
        },
    );
    let without = WordList::new(["without"]);
    let fewer = Table5Data::open(&sources.unwrap(), &without, None).unwrap();
    let count = |data: &Table5Data| {
        let phrases = data.pictures.iter().map(|p| p.phrases.len());
        phrases.sum::<usize>()
    };
    assert!(count(&fewer) < count(&data));
}

#[test]
fn a_picture_is_asked_about_once_and_the_summary_follows_from_the_records() {
    let folder = tempfile::tempdir().unwrap();
    let data = world(&folder.path().join("world"));
    let (pictures, run) = (data.pictures.len(), folder.path().join("run"));
    let mut marker = Painter::new(2);
    let (first, table) = made(&run, data, &mut marker).unwrap();
    assert_eq!(marker.asked, pictures);
    // A second start has nothing left to do.
    let second = table.run(&first, Shard::WHOLE, &mut marker);
    assert_eq!(second.unwrap(), Worked { done: 0, left: 0 });
    assert_eq!(marker.asked, pictures);

    let read = RunFolder::read(&run).unwrap();
    let found = finals(&read).unwrap();
    let scores = |dataset: usize, protocol: usize, encoder: usize| {
        let of_encoder = &found.summary["datasets"][dataset]["protocols"][protocol]["encoders"];
        of_encoder[encoder].clone()
    };
    for dataset in 0..2 {
        // Whoever marks everything has the recall of 1 and the larger share of what is true.
        let all = scores(dataset, 1, 1);
        let records: Vec<PictureRecord> = read.records().unwrap();
        let items = read.plan().items().iter().zip(&records);
        let key = Dataset::ALL[dataset].key();
        let own = items.filter(|(item, _)| item.starts_with(key));
        let areas: Vec<f64> = own
            .flat_map(|(_, record)| &record.phrases)
            .map(|phrase| {
                let truth = Rle::from_compressed(SIDE, SIDE, &phrase.truth).unwrap();
                let mask = Rle::from_compressed(SIDE, SIDE, &phrase.encoders[1].mask).unwrap();
                assert_eq!(mask.area(), u64::from(SIDE * SIDE));
                truth.area() as f64 / f64::from(SIDE * SIDE)
            })
            .collect();
        let mean = areas.iter().sum::<f64>() / areas.len() as f64;
        let at = all["scores"]["thresholds"][14].clone();
        assert!((at["mean_iou"].as_f64().unwrap() - mean).abs() < 1e-12);
        assert!((at["threshold"].as_f64().unwrap() - 0.3).abs() < 1e-6);
        assert!(all["against_first"]["mean_iou"]["p_value"].is_number());
        assert!(scores(dataset, 1, 0).get("against_first").is_none());
    }
    assert_eq!(found.csv.lines().count(), 1 + 2 * 2 * 2 * 49);
    for part in [
        "0.562",
        "0.288",
        "RefCOCOg (Neg)",
        "What agrees with the paper",
    ] {
        assert!(
            found.table.contains(part),
            "{part} is not in\n{}",
            found.table
        );
    }
}

#[test]
fn faulty_pictures_are_named_and_do_not_end_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let data = world(&folder.path().join("world"));
    let paths: Vec<_> = data.pictures.iter().map(|p| p.path.clone()).collect();
    fs::remove_file(&paths[0]).unwrap();
    fs::write(&paths[1], b"no picture").unwrap();
    // A picture that changed its size since it was annotated.
    RgbImage::new(SIDE, SIDE + 1).save(&paths[2]).unwrap();
    let mut marker = Painter::new(2);
    let (run, _) = made(&folder.path().join("run"), data, &mut marker).unwrap();
    assert_eq!(marker.asked, paths.len() - 3);
    let found = finals(&run).unwrap();
    let faults = found.summary["datasets"][0]["faults"].as_array().unwrap();
    let texts: Vec<&str> = faults
        .iter()
        .map(|fault| fault["fault"].as_str().unwrap())
        .collect();
    assert_eq!(texts[0], "missing");
    assert!(texts[1].starts_with("broken"), "{texts:?}");
    assert_eq!(texts[2], "expected 48x48 pixels, found 48x49");
    assert_eq!(found.summary["datasets"][0]["pictures"], 1);
    assert!(found.table.contains("3 pictures could not be scored"));
}

#[test]
fn a_dataset_without_any_picture_is_no_score() {
    let folder = tempfile::tempdir().unwrap();
    let data = world(&folder.path().join("world"));
    for picture in data
        .pictures
        .iter()
        .filter(|p| p.dataset == Dataset::PhraseCut)
    {
        fs::remove_file(&picture.path).unwrap();
    }
    let (run, _) = made(&folder.path().join("run"), data, &mut Painter::new(2)).unwrap();
    let error = finals(&run).unwrap_err();
    assert!(
        matches!(error, Table5Error::NoPictures { pictures: 4, .. }),
        "{error}"
    );
}

#[test]
fn what_is_no_probability_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = world(&folder.path().join("world"));
    let values: [(Value, &str); 3] = [
        (|_, pixel| if pixel == 7 { f32::NAN } else { 0.5 }, "NaN"),
        (|_, _| f32::INFINITY, "inf"),
        (|_, _| -7.3, "logits need a sigmoid"),
    ];
    for (index, (value, part)) in values.into_iter().enumerate() {
        let mut marker = Painter::new(2);
        marker.value = value;
        let run = folder.path().join(format!("run-{index}"));
        let error = made(&run, data.clone(), &mut marker).unwrap_err();
        let Table5Error::Run(RunError::Work { item, source }) = &error else {
            panic!("{error}");
        };
        assert!(item.starts_with("phrasecut/"), "{item}");
        let source = source.downcast_ref::<Table5Error>();
        assert!(matches!(source, Some(Table5Error::Metrics(_))), "{error}");
        assert!(error.to_string().contains(part), "{error}");
        let records = fs::read(run.join("records.jsonl")).unwrap();
        assert!(records.is_empty());
    }
}

#[test]
fn answers_that_are_missing_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = world(&folder.path().join("world"));
    let mut one_too_few = Painter::new(1);
    let error = made(&folder.path().join("run"), data, &mut one_too_few).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("expected 2 encoders of the model, found 1"),
        "{text}"
    );
}

#[test]
fn empty_phrases_and_encoders_without_names_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = world(&folder.path().join("world"));
    let mut empty = data.clone();
    empty.pictures[1].phrases[0].text = " \t".to_owned();
    let error = Table5::new(settings(&data, &["stock"]), empty).unwrap_err();
    assert!(matches!(error, Table5Error::EmptyPhrase { .. }), "{error}");
    let error = Table5::new(settings(&data, &[]), data.clone()).unwrap_err();
    assert!(matches!(error, Table5Error::NoEncoders), "{error}");
    let error = Table5::new(settings(&data, &["a", "a"]), data).unwrap_err();
    assert!(matches!(error, Table5Error::SameName { .. }), "{error}");
    // And a file of phrases with an empty one.
    let file = folder.path().join("world/phrasecut/refer_test.json");
    let text = fs::read_to_string(&file).unwrap();
    let mut tasks: serde_json::Value = serde_json::from_str(&text).unwrap();
    tasks[2]["phrase"] = "".into();
    fs::write(&file, tasks.to_string()).unwrap();
    let source = PaperFolder::new(folder.path().join("world"))
        .phrasecut(negkit_data::phrasecut::Split::Test)
        .unwrap();
    let error = Table5Data::open(&[source], &WordList::default(), None).unwrap_err();
    assert!(error.to_string().contains("[2], field `phrase`"), "{error}");
}

#[test]
fn truth_is_squashed_as_pytorch_does_it() {
    // torch.nn.functional.interpolate of a row 0…6 to 4 and to 10, mode "nearest".
    let row = |from: u32, to: usize| -> Vec<u32> {
        (0..to)
            .map(|at| {
                let inside = |x: u32| {
                    let pixels = (0..from).map(|column| column == x).collect();
                    let mask = Mask::new(from, 1, pixels).unwrap();
                    nearest(&mask, (1, to))[at]
                };
                (0..from).find(|x| inside(*x)).unwrap()
            })
            .collect()
    };
    assert_eq!(row(7, 4), [0, 1, 3, 5]);
    assert_eq!(row(7, 10), [0, 0, 1, 2, 2, 3, 4, 4, 5, 6]);
    assert_eq!(row(3, 3), [0, 1, 2]);
}

#[test]
fn shards_give_what_one_run_gives() {
    let folder = tempfile::tempdir().unwrap();
    let data = world(&folder.path().join("world"));
    let (whole, _) = made(
        &folder.path().join("whole"),
        data.clone(),
        &mut Painter::new(2),
    )
    .unwrap();
    let settings = settings(&data, &["stock", "negationclip"]);
    let table = Table5::new(settings, data).unwrap();
    let parts: Vec<_> = (1..=3)
        .map(|index| {
            let path = folder.path().join(format!("part-{index}"));
            let run = RunFolder::open(&path, table.plan().unwrap()).unwrap();
            let shard = Shard::new(index, 3).unwrap();
            table.run(&run, shard, &mut Painter::new(2)).unwrap();
            path
        })
        .collect();
    let merged = crate::merge(folder.path().join("merged"), &parts).unwrap();
    assert_eq!(finals(&merged).unwrap(), finals(&whole).unwrap());
}

#[test]
fn a_run_under_way_has_numbers_of_what_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let data = world(&folder.path().join("world"));
    let settings = settings(&data, &["stock", "negationclip"]);
    let table = Table5::new(settings, data).unwrap();
    let run = RunFolder::open(folder.path().join("run"), table.plan().unwrap()).unwrap();
    let mut marker = Painter::new(2);
    table
        .run(&run, Shard::new(1, 2).unwrap(), &mut marker)
        .unwrap();
    let error = finals(&run).unwrap_err();
    let incomplete = matches!(error, Table5Error::Run(RunError::Incomplete { .. }));
    assert!(incomplete, "{error}");
    let done = |finals: &crate::Finals| -> u64 {
        let datasets = finals.summary["datasets"].as_array().unwrap();
        let pictures = datasets.iter().map(|d| d["pictures"].as_u64().unwrap());
        pictures.sum()
    };
    assert_eq!(done(&finals_so_far(&run).unwrap()), marker.asked as u64);
    table.run(&run, Shard::WHOLE, &mut marker).unwrap();
    assert_eq!(finals_so_far(&run).unwrap(), finals(&run).unwrap());
    // What shows the run finds its pictures.
    let sources = run.sources().unwrap();
    assert_eq!(sources.len(), run.plan().items().len());
    assert!(sources.values().all(|file| file.is_file()));
}
