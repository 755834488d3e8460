//! Runs over small datasets: what is written, what is resumed, and what is counted.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use negkit_caption_run::{
    CaptionRun, CaptionRunError, Crew, Job, Many, RunError, Settings, Shard, Staff, Summary, Task,
    Vqa, published_json,
};
use negkit_captions::{
    CaptionError, CaptionWriter, Exchange, ImageRef, ObjectVerifier, QualityGate, RandomObjects,
    SourceCaption, Transcript, Verdict,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Writes by a pattern, and says what it said. Captions whose id is in `down` cannot be asked about.
#[derive(Default)]
struct Plain {
    asked: AtomicUsize,
    down: BTreeSet<u64>,
}

struct Session<'a>(&'a Plain, &'a Transcript);

impl Session<'_> {
    fn say(&self, step: &str, request: &str, answer: &str) -> String {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        self.1.add(Exchange {
            step: step.to_owned(),
            model: "plain".to_owned(),
            prompt_sha256: "p".to_owned(),
            request_sha256: format!("{step} {request}"),
            answer: answer.to_owned(),
            finish_reason: None,
            prompt_tokens: Some(10),
            completion_tokens: Some(1),
        });
        answer.to_owned()
    }
}

impl CaptionWriter for Session<'_> {
    fn name_absent_object(&self, caption: &SourceCaption) -> Result<String, CaptionError> {
        if self.0.down.contains(&caption.id) {
            return Err(CaptionError::Unavailable {
                service: "plain".to_owned(),
                reason: "it is down".to_owned(),
            });
        }
        Ok(self.say("object", &caption.text, "umbrella"))
    }
    fn write_absence(&self, caption: &SourceCaption, object: &str) -> Result<String, CaptionError> {
        let text = format!("{} with no {object}", caption.text);
        Ok(self.say("absence", &caption.text, &text))
    }
    fn write_denial(
        &self,
        caption: &SourceCaption,
        question: &str,
    ) -> Result<String, CaptionError> {
        let word = question.trim_end_matches('?').rsplit(' ').next().unwrap();
        Ok(self.say(
            "denial",
            question,
            &format!("{} that is not {word}", caption.text),
        ))
    }
}

impl ObjectVerifier for Session<'_> {
    fn is_there(&self, image: &ImageRef, _: &str) -> Result<Verdict, CaptionError> {
        Ok(if image.id.is_multiple_of(3) {
            Verdict::Yes
        } else {
            Verdict::No
        })
    }
}

impl Staff for Plain {
    fn crew<'a>(&'a self, transcript: &'a Transcript) -> Crew<'a> {
        Crew {
            writer: Box::new(Session(self, transcript)),
            verifier: Some(Box::new(Session(self, transcript))),
        }
    }
}

struct Bench {
    folder: TempDir,
}

impl Bench {
    /// Six pictures with two captions each; the second caption of each has the same words.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let images: Vec<Value> = (1..=6)
            .map(|id| json!({"license": 1, "file_name": format!("{id}.jpg"), "id": id, "width": 4, "height": 4}))
            .collect();
        let annotations: Vec<Value> = (1..=12u64)
            .map(|id| {
                let text = if id > 6 {
                    "a dog".to_owned()
                } else {
                    format!("a cat on mat n{id}")
                };
                json!({"image_id": (id - 1) % 6 + 1, "id": 100 + id, "caption": text})
            })
            .collect();
        let captions = json!({"info": {"description": "é"}, "images": images, "licenses": [], "type": "captions", "annotations": annotations});
        fs::write(folder.path().join("captions.json"), captions.to_string()).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn job(&self, task: Task) -> Job {
        Job::read(task, &self.path("captions.json"), None, None).unwrap()
    }

    fn many(shard: &str, retry_failed: bool) -> Many {
        Many {
            shard: shard.parse::<Shard>().unwrap(),
            workers: 4,
            retry_failed,
            most_failures_in_row: 5,
        }
    }

    fn settings(job: &Job) -> Settings {
        let gate = QualityGate::default();
        let named = BTreeMap::from([("kind".to_owned(), "plain".to_owned())]);
        Settings::new(job, 0, named.clone(), named, &gate).unwrap()
    }

    fn open<'a>(&self, out: &str, job: &'a Job) -> CaptionRun<'a> {
        let gate = QualityGate::default();
        CaptionRun::open(self.path(out), job, &Self::settings(job), gate).unwrap()
    }

    fn run(&self, out: &str, job: &Job, staff: &Plain) -> Summary {
        let run = self.open(out, job);
        run.work(&Self::many("1/1", false), staff, String::new)
            .unwrap();
        run.finish().unwrap()
    }
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

const FINALS: [&str; 5] = [
    "captions.json",
    "provenance.jsonl",
    "rejected.jsonl",
    "dead_letters.jsonl",
    "summary.json",
];

fn finals(folder: &Path) -> Vec<Vec<u8>> {
    FINALS
        .iter()
        .map(|name| fs::read(folder.join(name)).unwrap())
        .collect()
}

#[test]
fn the_captions_file_is_as_the_published_tool_writes_it() {
    let bench = Bench::new();
    let job = bench.job(Task::P1);
    let summary = bench.run("out", &job, &Plain::default());
    assert_eq!(
        (summary.captions, summary.kept, summary.rejected),
        (12, 8, 4)
    );
    assert_eq!(
        summary.rejected_by_reason,
        BTreeMap::from([("object-there".to_owned(), 4)])
    );
    let text = fs::read_to_string(bench.path("out/captions.json")).unwrap();
    let source = read(&bench.path("captions.json"));
    // What data_generation.py of the paper's repository does, by hand.
    let mut kept = source["annotations"].as_array().unwrap().clone();
    kept.retain(|annotation| !annotation["image_id"].as_u64().unwrap().is_multiple_of(3));
    for annotation in &mut kept {
        let caption = annotation["caption"].as_str().unwrap().to_owned();
        annotation["updated_caption"] = json!(format!("{caption} with no umbrella"));
    }
    let expected = json!({"info": source["info"], "licenses": source["licenses"], "images": source["images"], "annotations": kept});
    assert_eq!(text, published_json(&expected).unwrap());
    assert!(
        text.contains("{\n    \"info\": {\n        \"description\": \"\\u00e9\"\n    },"),
        "{text}"
    );

    let provenance = lines(&bench.path("out/provenance.jsonl"));
    assert_eq!(provenance.len(), 8);
    let first = &provenance[0];
    assert_eq!(
        (&first["item"], &first["annotation_id"]),
        (&json!("caption/101"), &json!(101))
    );
    assert_eq!(first["kept"]["object"], "umbrella");
    assert_eq!(
        first["exchanges"][1]["answer"],
        "a cat on mat n1 with no umbrella"
    );
    let rejected = lines(&bench.path("out/rejected.jsonl"));
    assert_eq!(rejected[0]["rejected"]["kind"], "object-there");
    assert_eq!(rejected[0]["rejected"]["object"], "umbrella");
    // Seven different captions were asked about, and five of them written for: the rest are the same
    // requests again.
    let cost = summary.cost;
    assert_eq!(
        (cost.requests, cost.prompt_tokens, cost.completion_tokens),
        (12, 120, 12)
    );
    assert!((cost.price(1., 2.) - 144e-6).abs() < 1e-12);
}

#[test]
fn dead_letters_are_kept_counted_and_tried_again() {
    let bench = Bench::new();
    let job = bench.job(Task::P1);
    let broken = Plain {
        down: BTreeSet::from([102, 108, 104]),
        ..Plain::default()
    };
    let summary = bench.run("out", &job, &broken);
    assert_eq!((summary.kept, summary.failed), (5, 3));
    let dead = lines(&bench.path("out/dead_letters.jsonl"));
    assert_eq!(
        dead[0],
        json!({"item": "caption/102", "reason": "plain is not available: it is down"})
    );
    // A second start leaves them alone, and asks nobody.
    let well = Plain::default();
    assert_eq!(bench.run("out", &job, &well), summary);
    assert_eq!(well.asked.load(Ordering::SeqCst), 0);
    let run = bench.open("out", &job);
    let worked = run
        .work(&Bench::many("1/1", true), &well, String::new)
        .unwrap();
    assert_eq!((worked.done, worked.failed, worked.left), (3, 0, 0));
    run.finish().unwrap();
    bench.run("whole", &job, &Plain::default());
    assert_eq!(finals(&bench.path("out")), finals(&bench.path("whole")));
}

#[test]
fn a_service_that_is_down_ends_the_run_early() {
    let bench = Bench::new();
    let job = bench.job(Task::P1);
    let down = Plain {
        down: (100..200).collect(),
        ..Plain::default()
    };
    let run = bench.open("out", &job);
    // One at a time: several may be through with all captions before the sixth failure is counted.
    let one = Many {
        workers: 1,
        ..Bench::many("1/1", false)
    };
    let error = run.work(&one, &down, String::new).unwrap_err();
    let CaptionRunError::Run(RunError::Failing { in_row, reason }) = &error else {
        panic!("{error}");
    };
    assert!(*in_row == 6 && reason.contains("it is down"), "{error}");
    let error = run.finish().unwrap_err();
    assert!(
        matches!(error, CaptionRunError::Run(RunError::Incomplete { .. })),
        "{error}"
    );
}

#[test]
fn shards_together_are_the_whole() {
    let bench = Bench::new();
    let job = bench.job(Task::P1);
    bench.run("whole", &job, &Plain::default());
    // Two in folders of their own, the third twice in one folder with dead letters between.
    let broken = Plain {
        down: BTreeSet::from([103]),
        ..Plain::default()
    };
    for (shard, out) in [("1/3", "a"), ("2/3", "b"), ("3/3", "b")] {
        let run = bench.open(out, &job);
        run.work(&Bench::many(shard, false), &broken, String::new)
            .unwrap();
        let error = run.finish().unwrap_err();
        assert!(error.to_string().contains("have no record"), "{error}");
    }
    let parts = [bench.path("a"), bench.path("b")];
    let captions = bench.path("captions.json");
    let error = CaptionRun::merge(&bench.path("early"), &parts[..1], &captions).unwrap_err();
    assert!(error.to_string().contains("8 of 12 items"), "{error}");
    let merged = CaptionRun::merge(&bench.path("merged"), &parts, &captions).unwrap();
    assert_eq!(merged.failed, 1);
    let run = bench.open("b", &job);
    run.work(&Bench::many("3/3", true), &Plain::default(), String::new)
        .unwrap();
    CaptionRun::merge(&bench.path("again"), &parts, &captions).unwrap();
    assert_eq!(finals(&bench.path("again")), finals(&bench.path("whole")));

    fs::write(bench.path("other.json"), "{}").unwrap();
    let error = CaptionRun::merge(&bench.path("again"), &parts, &bench.path("other.json"));
    assert!(
        matches!(error, Err(CaptionRunError::OtherCaptions { .. })),
        "{error:?}"
    );
}

#[test]
fn changed_settings_are_refused() {
    let bench = Bench::new();
    let job = bench.job(Task::P1);
    bench.run("out", &job, &Plain::default());
    let mut settings = Bench::settings(&job);
    settings.seed = 1;
    let error = CaptionRun::open(bench.path("out"), &job, &settings, QualityGate::default());
    let error = error.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("settings.seed was 0, now 1"), "{error}");
    let objects = RandomObjects {
        vocabulary: vec!["hat".to_owned()],
        seed: 0,
    };
    let other = bench.job(Task::RandP1(objects));
    let error = CaptionRun::open(bench.path("out"), &other, &settings, QualityGate::default());
    let error = error.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("captions-rand-p1"), "{error}");
}

#[test]
fn questions_are_joined_with_captions_of_their_pictures() {
    let bench = Bench::new();
    let question = |id: u64, image: u64, text: &str| json!({"question_id": id, "image_id": image, "question": text});
    let answer = |id: u64, image: u64, text: &str| json!({"question_id": id, "image_id": image, "multiple_choice_answer": text});
    let questions = json!({"questions": [
        question(1, 4, "Is the cat black?"), question(2, 4, "Is the cat brown?"),
        question(3, 4, "Is the cat white?"), question(4, 5, "What is it?"), question(5, 99, "Is it red?"),
    ]});
    let annotations = json!({"annotations": [
        answer(1, 4, "no"), answer(2, 4, "No"), answer(3, 4, "no"), answer(4, 5, "cat"), answer(5, 99, "no"),
    ]});
    fs::write(bench.path("q.json"), questions.to_string()).unwrap();
    fs::write(bench.path("a.json"), annotations.to_string()).unwrap();
    let job = bench.job(Task::P2(Vqa {
        questions: bench.path("q.json"),
        annotations: bench.path("a.json"),
    }));
    assert_eq!(job.keys(), ["question/1", "question/2", "question/3"]);
    let summary = bench.run("out", &job, &Plain::default());
    assert_eq!(summary.kept, 3, "{:?}", summary.rejected_by_reason);
    let written = read(&bench.path("out/captions.json"));
    let annotations: Vec<(u64, &str)> = written["annotations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| {
            (
                a["id"].as_u64().unwrap(),
                a["updated_caption"].as_str().unwrap(),
            )
        })
        .collect();
    // The third question has the first caption again, and with it a new id.
    let expected = [
        (104, "a cat on mat n4 that is not black"),
        (110, "a dog that is not brown"),
        (113, "a cat on mat n4 that is not white"),
    ];
    assert_eq!(annotations, expected);
    let provenance = lines(&bench.path("out/provenance.jsonl"));
    assert_eq!(
        (
            &provenance[2]["annotation_id"],
            &provenance[2]["kept"]["caption_id"]
        ),
        (&json!(113), &json!(104))
    );
    assert_eq!(provenance[2]["kept"]["question"], "Is the cat white?");
}

#[test]
fn files_that_are_wrong_are_named() {
    let bench = Bench::new();
    let failed = |content: Value, part: &str| {
        fs::write(bench.path("bad.json"), content.to_string()).unwrap();
        let error = Job::read(Task::P1, &bench.path("bad.json"), None, None)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(part) && error.contains("bad.json"),
            "{error}"
        );
    };
    let image = json!({"id": 1, "file_name": "1.jpg", "width": 4, "height": 4});
    let caption = json!({"id": 7, "image_id": 1, "caption": "a dog"});
    failed(
        json!({"images": [image], "annotations": [caption, caption]}),
        "which annotations[0] has",
    );
    failed(
        json!({"images": [], "annotations": [caption]}),
        "expected the id of a picture",
    );
    failed(
        json!({"images": [image], "annotations": []}),
        "it has no captions",
    );
    failed(json!({"images": [image]}), "annotations");
    let few = Job::read(Task::P1, &bench.path("captions.json"), None, Some(5)).unwrap();
    assert_eq!(few.items.len(), 5);
}
