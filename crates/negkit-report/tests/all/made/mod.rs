//! Runs made by hand through the same folders that `negkit eval` writes, without a model.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;

use image::{Rgb, RgbImage};
use negkit_eval::table4::{
    self, AnswerRecord, Noise, PictureRecord, Table4Record, Table4Settings, Task,
};
use negkit_eval::table5::{self, DatasetFiles, EncoderRecord, PhraseRecord};
use negkit_eval::{ComputeUsed, Finals, ModelUsed, Plan, RunFolder, Shard};
use negkit_image::{Mask, Rle, write_png};
use negkit_metrics::{Bootstrap, Thresholds};

pub const ENCODERS: [&str; 2] = ["stock", "negationclip"];

/// What somebody might hide in a prompt.
pub const EVIL: &str = "a man without <script>document.title='owned'</script> \"hat\" & 'coat' <img src=x onerror=alert(1)>";

/// Prompts with a negation: text and kind.
pub const PROMPTS: [(&str, &str); 8] = [
    ("a room with no chairs", "object"),
    ("a park with no dogs", "object"),
    ("a street without cars", "object"),
    (EVIL, "worn"),
    ("a man not sitting", "action"),
    ("a car that is not red", "attribute"),
    ("a beach with no umbrella", "object"),
    ("a woman without a bag", "worn"),
];
const TIFA_PROMPTS: usize = 4;
/// Pictures of every prompt with a negation.
pub const PICTURES: usize = 2;

fn used(name: &str) -> ModelUsed {
    ModelUsed {
        name: name.to_owned(),
        sha256: None,
    }
}

fn compute() -> ComputeUsed {
    ComputeUsed {
        device: "cpu".to_owned(),
        dtype: "f32".to_owned(),
    }
}

fn settings4() -> Table4Settings {
    Table4Settings {
        scale: "mini".to_owned(),
        neg_prompts: PROMPTS.len(),
        tifa_prompts: TIFA_PROMPTS,
        prompts_sha256: String::new(),
        images_per_prompt: PICTURES,
        tifa_images_per_prompt: 1,
        noise: Noise::Seed(0),
        steps: 3,
        guidance_scale: 4.5,
        scheduler: "ddim".to_owned(),
        width: 24,
        height: 24,
        eta: 0.,
        batch_size: 1,
        safety_checker: false,
        savings: None,
        compute: compute(),
        bootstrap: Bootstrap::default(),
        unet: used("made by hand"),
        vae: used("made by hand"),
        text_encoders: ENCODERS.map(used).to_vec(),
        answerer: used("nobody"),
        sentences: None,
    }
}

/// Whether the affirmed and the negated question are answered rightly: a pattern in which the second
/// encoder is better, and each is sometimes right alone.
pub fn right(prompt: usize, encoder: usize, picture: usize) -> [bool; 2] {
    [
        !(prompt + picture).is_multiple_of(5),
        (prompt * 3 + encoder * 4 + picture) % 7 >= 3 - encoder,
    ]
}

fn answer(question: &str, about: &str, expected: &str, right: bool) -> AnswerRecord {
    let other = if expected == "yes" { "no" } else { "yes" };
    AnswerRecord {
        question: question.to_owned(),
        element_type: about.to_owned(),
        expected: expected.to_owned(),
        answer: if right { expected } else { other }.to_owned(),
        choice: None,
        confidence: Some(0.75),
        refusal: None,
        right,
    }
}

/// A run of Table 4 in `folder`; only the first `most` items are done.
pub fn table4_run(folder: &Path, most: usize) -> RunFolder {
    let mut items: Vec<String> = Vec::new();
    for prompt in 0..PROMPTS.len() {
        items.extend(ENCODERS.map(|encoder| format!("neg/{prompt:04}/{encoder}")));
    }
    for prompt in 0..TIFA_PROMPTS {
        items.extend(ENCODERS.map(|encoder| format!("tifa/{prompt:04}/{encoder}")));
    }
    let plan = Plan::new(table4::TABLE, &settings4(), items).unwrap();
    let run = RunFolder::open(folder, plan).unwrap();
    let all = run.plan().items().len();
    let worked = run.work(Shard::WHOLE, |position, _| {
        if position >= most {
            return Err("not done");
        }
        Ok(record4(&run, position))
    });
    assert_eq!(worked.is_ok(), most >= all);
    if most >= all {
        run.write_finals(&table4::finals(&run).unwrap()).unwrap();
    }
    run
}

fn record4(run: &RunFolder, position: usize) -> Table4Record {
    let (prompt, encoder) = (position / ENCODERS.len(), position % ENCODERS.len());
    let is_neg = prompt < PROMPTS.len();
    let (task, text, kind) = match PROMPTS.get(prompt) {
        Some((text, kind)) => (Task::NegScore, (*text).to_owned(), Some((*kind).to_owned())),
        None => (Task::Tifa, format!("two cats and {prompt} dogs"), None),
    };
    let pictures = 0..if is_neg { PICTURES } else { 1 };
    let pictures = pictures.map(|picture| {
        let colour = Rgb([(position * 9) as u8, (picture * 90) as u8, 120]);
        let name = format!("{prompt:04}-{}-seed{picture}.png", ENCODERS[encoder]);
        let file = run
            .write_picture(&name, &RgbImage::from_pixel(24, 24, colour), &[])
            .unwrap();
        let [first, second] = right(prompt, encoder, picture);
        let answers = match task {
            Task::NegScore => vec![
                answer("Is it there?", "affirmed", "yes", first),
                answer("Is what is denied there?", "negated", "no", second),
            ],
            Task::Tifa => vec![
                answer("Is there a cat?", "animal/human", "yes", first),
                answer("Is there a horse?", "animal/human", "no", second),
                answer("Are there dogs?", "counting", "yes", encoder == 1),
            ],
        };
        PictureRecord {
            file,
            seed: picture as u64,
            answers,
        }
    });
    Table4Record {
        id: prompt.to_string(),
        task,
        prompt: text,
        kind,
        text_encoder: ENCODERS[encoder].to_owned(),
        truncated: None,
        pictures: pictures.collect(),
    }
}

pub const PHRASES: [&str; 4] = [
    "the man without a hat",
    "woman not wearing red",
    "red car",
    "the dog with no collar",
];
/// Pictures of a run of Table 5, each with all phrases.
pub const PICTURES5: usize = 3;
const SIZE: (u32, u32) = (40, 30);

/// How far the mask of an encoder lies beside the truth, in pixels.
pub fn shift(picture: usize, phrase: usize, encoder: usize) -> u32 {
    ((picture * 5 + phrase * 3 + encoder * 7) % 11) as u32
}

fn square(left: u32) -> Mask {
    let (width, height) = SIZE;
    let inside = |x: u32, y: u32| (left..left + 16).contains(&x) && (8..22).contains(&y);
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| inside(x, y)));
    Mask::new(width, height, pixels.collect()).unwrap()
}

/// A run of Table 5 in `folder`, with its pictures in `pictures`; only the first `most` pictures are
/// done.
pub fn table5_run(folder: &Path, pictures: &Path, most: usize) -> RunFolder {
    let model = used;
    let settings = table5::Settings {
        scale: table5::Scale::Mini,
        compute: compute(),
        threshold: 0.3,
        words: ["no", "not", "without"].map(str::to_owned).to_vec(),
        model: model("made by hand"),
        bootstrap: Bootstrap {
            resamples: 100,
            ..Bootstrap::default()
        },
        encoders: ENCODERS.map(model).to_vec(),
        datasets: vec![DatasetFiles {
            dataset: table5::Dataset::RefCocog,
            split: "umd, all".to_owned(),
            left_out: Vec::new(),
            files: BTreeMap::new(),
        }],
    };
    let items = (0..PICTURES5).map(|id| format!("refcocog/{id}")).collect();
    let run = RunFolder::open(folder, Plan::new(table5::TABLE, &settings, items).unwrap()).unwrap();
    std::fs::create_dir_all(pictures).unwrap();
    let sources = (0..PICTURES5).map(|id| {
        let path = pictures.join(format!("{id}.png"));
        let colour = Rgb([60, 90 + id as u8 * 40, 120]);
        write_png(&path, &RgbImage::from_pixel(SIZE.0, SIZE.1, colour), &[]).unwrap();
        (format!("refcocog/{id}"), path)
    });
    let sources: Vec<_> = sources.collect();
    run.note_sources(sources).unwrap();
    let worked = run.work(Shard::WHOLE, |position, _| match position < most {
        true => Ok(record5(position)),
        false => Err("not done"),
    });
    assert_eq!(worked.is_ok(), most >= PICTURES5);
    if most >= PICTURES5 {
        run.write_finals(&table5::finals(&run).unwrap()).unwrap();
    }
    run
}

fn record5(picture: usize) -> table5::PictureRecord {
    let truth = square(10);
    let thresholds = Thresholds::clipseg();
    let phrases = PHRASES.iter().enumerate().map(|(index, phrase)| {
        let encoders = ENCODERS.iter().enumerate().map(|(encoder, name)| {
            let mask = square(10 + shift(picture, index, encoder));
            let probabilities: Vec<f32> = mask
                .pixels()
                .iter()
                .map(|inside| if *inside { 0.8 } else { 0.1 })
                .collect();
            let counts = thresholds.count(&probabilities, truth.pixels()).unwrap();
            EncoderRecord {
                encoder: (*name).to_owned(),
                mask: Rle::from_mask(&mask).to_compressed(),
                clipseg: counts.clone(),
                phrasecut: counts,
            }
        });
        PhraseRecord {
            id: (picture * PHRASES.len() + index).to_string(),
            phrase: (*phrase).to_owned(),
            truth: Rle::from_mask(&truth).to_compressed(),
            encoders: encoders.collect(),
        }
    });
    table5::PictureRecord {
        fault: None,
        size: SIZE,
        phrases: phrases.collect(),
    }
}

/// IoU of a phrase: squares of 16 pixels, one beside the other.
pub fn iou(picture: usize, phrase: usize, encoder: usize) -> f64 {
    let shift = f64::from(shift(picture, phrase, encoder));
    (16. - shift) / (16. + shift)
}

/// A run of a table that has no page of its own.
pub fn other_run(folder: &Path) -> RunFolder {
    let settings = BTreeMap::from([("recall", 5)]);
    let plan = Plan::new("table2", &settings, vec!["caption/1".to_owned()]).unwrap();
    let run = RunFolder::open(folder, plan).unwrap();
    run.work(Shard::WHOLE, |_, _| Ok::<_, Infallible>(vec![1, 2]))
        .unwrap();
    let finals = Finals {
        summary: serde_json::json!({"table": "table2", "recall": {"stock": 0.25}}),
        csv: String::new(),
        table: "# Table 2\n\n| encoder | recall |\n|---|---|\n| stock | 0.250 |\n".to_owned(),
    };
    run.write_finals(&finals).unwrap();
    run
}
