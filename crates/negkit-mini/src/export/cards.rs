//! Model cards.

use std::fmt::{self, Write as _};
use std::fs;
use std::path::Path;

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ImageEncoder, ImageReader};
use negkit_image::write_atomic;
use serde_json::Value;

use super::record::{CURVES, LOG, StageRecord, TRAINING, TrainingRecord, VALIDATION};
use super::{Exported, Layout, Model, sheets};
use crate::MiniError;
use crate::recipe::{self, SEED};
use crate::stage::{Done, Workshop};

/// The project's own.
const LICENCE: &str = env!("CARGO_PKG_LICENSE");
/// How many rows of measurements a card shows at most; the file has all.
const MOST_ROWS: usize = 120;

/// Reads the logs of a stage's trainings, in order, and copies their curves into `folder`.
pub(super) fn trainings(
    shop: &Workshop,
    done: &Done,
    folder: &Path,
) -> Result<Vec<TrainingRecord>, MiniError> {
    let stage = shop.path(&done.stage);
    let mut trainings = Vec::new();
    for entry in fs::read_dir(&stage).map_err(MiniError::io(&stage, "list"))? {
        let entry = entry.map_err(MiniError::io(&stage, "list"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(suffix) = name.strip_prefix(TRAINING)
            && entry.path().is_dir()
        {
            trainings.extend(training_in(&entry.path(), (done, suffix), folder)?);
        }
    }
    trainings.sort_by(|a, b| a.suffix.cmp(&b.suffix));
    Ok(trainings)
}

/// The training in `from`.
fn training_in(
    from: &Path,
    (done, suffix): (&Done, &str),
    folder: &Path,
) -> Result<Option<TrainingRecord>, MiniError> {
    let Some(log) = last_row(&from.join(LOG))? else {
        return Ok(None);
    };
    let value = |name: &str| log.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
    let curves = from.join(CURVES);
    let file = format!("curves-{}{suffix}.png", done.stage);
    let has_curves = curves.is_file();
    if has_curves {
        squeeze(&curves, &folder.join(&file))?;
    }
    let mut scores = last_row(&from.join(VALIDATION))?.unwrap_or_default();
    scores.retain(|(name, _)| name != "step");
    Ok(Some(TrainingRecord {
        suffix: suffix.to_owned(),
        curves: has_curves.then_some(file),
        steps: value("step").unwrap_or_default() as u64,
        seconds: value("seconds").unwrap_or(done.seconds),
        scores,
    }))
}

/// Header and last line of a log, as pairs.
fn last_row(path: &Path) -> Result<Option<Vec<(String, f64)>>, MiniError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(MiniError::io(path, "read")(e)),
    };
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    Ok(lines.next_back().map(|line| {
        let values = line
            .split(',')
            .map(|value| value.parse().unwrap_or(f64::NAN));
        header.split(',').map(str::to_owned).zip(values).collect()
    }))
}

/// Copies a picture of few colours, packed as tightly as PNG allows.
fn squeeze(from: &Path, to: &Path) -> Result<(), MiniError> {
    let picture = ImageReader::open(from)
        .map_err(MiniError::io(from, "open"))?
        .decode()
        .map_err(MiniError::other)?
        .to_luma8();
    let mut bytes = Vec::new();
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Best, FilterType::NoFilter)
        .write_image(
            picture.as_raw(),
            picture.width(),
            picture.height(),
            image::ExtendedColorType::L8,
        )
        .map_err(MiniError::other)?;
    Ok(write_atomic(to, &bytes)?)
}

/// All that a card tells.
pub(super) struct Card<'a> {
    pub(super) model: &'a Model,
    /// The stage of the world's pictures.
    pub(super) pictures: &'a Done,
    /// Settings of the stage that stock mini-clip learned from captions in.
    pub(super) captions: Option<&'a Value>,
    /// The model's own stages, in order.
    pub(super) stages: &'a [StageRecord],
    /// Inputs that the run has other ones of by now, each as the stage that was built on it and the
    /// input.
    pub(super) remade: &'a [(String, String)],
    pub(super) parameters: usize,
    pub(super) weight_bytes: u64,
    /// Whether there is a sheet of pictures.
    pub(super) sheet: bool,
    pub(super) quality: Option<&'a Value>,
}

impl Card<'_> {
    /// All trainings in order, with their stages' names.
    fn trainings(&self) -> impl DoubleEndedIterator<Item = (&str, &TrainingRecord)> {
        let all = self.stages.iter();
        all.flat_map(|StageRecord { done, trainings }| {
            let stage = done.stage.as_str();
            trainings.iter().map(move |training| (stage, training))
        })
    }

    /// The settings of a stage, where the model has it.
    fn settings(&self, stage: &str) -> Option<&Value> {
        let mut dones = self.stages.iter().map(|record| &record.done);
        dones
            .find(|done| done.stage == stage)
            .map(|done| &done.settings)
    }
}

/// What is said of a model whatever the numbers.
struct About {
    title: &'static str,
    what: &'static str,
    data: &'static str,
    sheet: &'static str,
    limits: &'static [&'static str],
}

fn about(name: &str) -> About {
    const OF_THE_WORLD: &str = "It knows the world of `crates/negkit-world` and nothing else: 12 \
        places, 46 kinds of things, 8 colours, 7 states, drawn in one style. Photographs and other \
        words mean nothing to it.";
    const ENCODER_LIMITS: &[&str] = &[
        OF_THE_WORLD,
        "It is a text encoder; pictures are seen by stock mini-clip (`../clip`), whose picture side \
         it left as it was.",
        "Its negations are those of English captions with *no*, *not* and *without*.",
    ];
    match name {
        "clip" => About {
            title: "mini-clip",
            what: "CLIP at a small size, both towers trained from scratch on ordinary captions: the \
                   *stock* model of this world, which is meant to be blind to negation as OpenAI's \
                   CLIP is. mini-sd and mini-clipseg were trained with its text encoder.",
            data: "A caption is made anew each time a scene is seen, by \
                   `negkit_world::language::caption_with`: it names the place mostly, and one to \
                   three sorts of things of those that are there.",
            sheet: "",
            limits: &[
                OF_THE_WORLD,
                "It is blind to negation by intent. Use `../negationclip` where \"no\" shall mean no.",
                "Texts have at most 32 tokens.",
            ],
        },
        "negationclip" => About {
            title: "mini-negationclip",
            what: "The text encoder of mini-clip, fine-tuned on captions that say what is absent, as \
                   NegationCLIP was (Park et al., \"Know 'No' Better\", ICCV 2025, arXiv \
                   2501.10913): only the text tower was trained, its final layer norm excepted.",
            data: "Captions of both of the paper's pipelines: P1 adds an object that is likely in \
                   the scene and not there, P2 one that a question asked for and the answer was no. \
                   The world's exact truth stands in for the paper's language models. No caption is \
                   one of the test prompts.",
            sheet: "What mini-sd paints with its own text encoder (left) and with this one in its \
                    place (right), from the same noise.",
            limits: ENCODER_LIMITS,
        },
        "negationclip-p1" => About {
            title: "mini-negationclip, P1 alone",
            what: "As `../negationclip`, fine-tuned on the captions of the first pipeline only: an \
                   ablation of the paper.",
            data: "Captions of P1: an object that is likely in the scene and not there is denied. No \
                   caption is one of the test prompts.",
            sheet: "",
            limits: ENCODER_LIMITS,
        },
        "negationclip-p2" => About {
            title: "mini-negationclip, P2 alone",
            what: "As `../negationclip`, fine-tuned on the captions of the second pipeline only: an \
                   ablation of the paper.",
            data: "Captions of P2: what a question asked for and the answer was no is denied. No \
                   caption is one of the test prompts.",
            sheet: "",
            limits: ENCODER_LIMITS,
        },
        "negationclip-rand-p1" => About {
            title: "mini-negationclip, random objects",
            what: "As `../negationclip-p1`, but what is denied is drawn at random from all kinds: an \
                   ablation of the paper.",
            data: "Captions of P1 with absent objects drawn at random, likely there or not. No \
                   caption is one of the test prompts.",
            sheet: "",
            limits: ENCODER_LIMITS,
        },
        "conclip" => About {
            title: "mini-conclip",
            what: "The text encoder of mini-clip, fine-tuned as CoN-CLIP was (Singh et al., WACV \
                   2025, arXiv 2403.20312), for comparison: caption first, then a picture that its \
                   negation fits.",
            data: "Triples of a picture with its caption, the caption with a negation that makes it \
                   wrong, and a distractor picture that the negated caption fits.",
            sheet: "",
            limits: ENCODER_LIMITS,
        },
        "sd" => About {
            title: "mini-sd",
            what: "Stable Diffusion at a small size: an autoencoder, and a UNet that was trained on \
                   its latents with the text encoder of *stock* mini-clip frozen, and part of the \
                   captions dropped for guidance. A text encoder of the same sizes can take the \
                   place of its own.",
            data: "Captions are ordinary ones, made as for mini-clip. They are padded with \
                   end-of-text to the context length, as Stable Diffusion's are.",
            sheet: "Painted, one picture a prompt, none chosen.",
            limits: &[
                OF_THE_WORLD,
                "Pictures are 64 x 64. Small worn things (glasses) are often a few pixels.",
                "White things come out pale; of a white cat there is often no more than an outline.",
                "With its own encoder it paints what a prompt denies; that is what it is for.",
            ],
        },
        "clipseg" => About {
            title: "mini-clipseg",
            what: "CLIPSeg at a small size: a decoder that marks what a phrase means, trained on \
                   ordinary phrases with stock mini-clip frozen.",
            data: "Ordinary phrases (\"red chair\", \"hat\") with masks from the renderer's truth; \
                   a share of the phrases names what is not in the picture, as in CLIPSeg's \
                   training, and their mask is empty. Phrases with negations are not in it.",
            sheet: "Validation scenes with an ordinary phrase, an expression that refers to one \
                    thing, and one with a negation; stock text encoder.",
            limits: &[
                OF_THE_WORLD,
                "Phrases with negations were no part of its training; what becomes of them depends \
                 on the text encoder.",
            ],
        },
        "vqa" => About {
            title: "mini-vqa",
            what: "Answers short questions about a picture: yes or no, and open ones such as colour \
                   and place. It judges what mini-sd paints.",
            data: "Questions and answers from the scenes' truth (`negkit_world::language::questions`). \
                   Pictures are worn as painted ones are: noise, blur, shifts of colour, and a third \
                   of them goes through mini-sd's autoencoder with noise on the latents. In its last \
                   training every second batch is of scenes as mini-sd paints them \
                   (`Scene::posed`).",
            sheet: "",
            limits: &[
                OF_THE_WORLD,
                "It has a fixed list of answers and never says that it does not know.",
            ],
        },
        _ => About {
            title: "mini-detector",
            what: "Labels every cell of 4 x 4 pixels with a kind of thing and a colour. An \
                   independent check on mini-vqa: it reads no text, and shares neither weights nor \
                   architecture with it.",
            data: "Labels are the renderer's own truth, pixel by pixel; what is worn goes before its \
                   wearer. Pictures are worn as for mini-vqa, and in the last training every second \
                   batch is of posed scenes.",
            sheet: "",
            limits: &[
                OF_THE_WORLD,
                "Several things of one kind are one detection.",
                "A colour is that of most cells, which for a person may be that of the trousers.",
            ],
        },
    }
}

fn layout(layout: Layout) -> &'static str {
    match layout {
        Layout::Clip => "transformers, `CLIPModel`",
        Layout::TextEncoder => "transformers, `CLIPTextModelWithProjection`",
        Layout::Pipeline => "diffusers, `StableDiffusionPipeline`",
        Layout::ClipSeg => "transformers, `CLIPSegForImageSegmentation`",
        Layout::Vqa => "`negkit_vqa::mini`",
        Layout::Detector => "`negkit_vqa::detector`",
    }
}

/// The text of a card.
pub(super) fn card(card: &Card<'_>) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, card);
    text
}

fn write(out: &mut String, card: &Card<'_>) -> fmt::Result {
    let about = about(card.model.name);
    writeln!(out, "# {}\n\n{}\n", about.title, about.what)?;
    let seconds: f64 = card.trainings().map(|(_, t)| t.seconds).sum();
    writeln!(out, "| | |\n|---|---|")?;
    writeln!(out, "| layout | {} |", layout(card.model.layout))?;
    writeln!(
        out,
        "| parameters | {} |",
        thousands(card.parameters as u64)
    )?;
    writeln!(
        out,
        "| weights | {} (safetensors, f16) |",
        megabytes(card.weight_bytes)
    )?;
    writeln!(out, "| seed | {SEED} |")?;
    writeln!(
        out,
        "| training time | {}, on the machine that trained it |",
        duration(seconds)
    )?;
    writeln!(out, "| licence | {LICENCE}, as the project |\n")?;
    if card.sheet {
        let what = about.sheet;
        writeln!(out, "![{what}]({})\n\n{what}", sheets::FILE)?;
        if card.model.layout != Layout::ClipSeg {
            writeln!(
                out,
                "{} steps, guidance {}, seeds from {}.",
                recipe::SAMPLING_STEPS,
                recipe::GUIDANCE,
                sheets::SEED
            )?;
        }
        writeln!(out)?;
    }
    data(out, card, &about)?;
    quality(out, card)?;
    training(out, card)?;
    writeln!(out, "## Limits\n")?;
    for limit in about.limits {
        writeln!(out, "- {limit}")?;
    }
    writeln!(
        out,
        "\nThis card was written by `negkit mini export`; `eval/mini/train.sh` makes the model."
    )
}

fn data(out: &mut String, card: &Card<'_>, about: &About) -> fmt::Result {
    writeln!(out, "## Data\n")?;
    let settings = &card.pictures.settings;
    let range = |name: &str| {
        let bound = |end: &str| settings[name][end].as_u64().unwrap_or_default();
        format!("{} to {}", bound("start"), bound("end").saturating_sub(1))
    };
    writeln!(
        out,
        "Scenes of `negkit-world`, each a function of its seed, drawn at {} x {} pixels: seeds {} \
         for training, {} for choosing settings, {} to {} for the results below and for nothing \
         else. {}\n",
        settings["side"],
        settings["side"],
        range("training"),
        range("validation"),
        recipe::TEST.start,
        recipe::TEST.end - 1,
        about.data
    )?;
    let tuning = card.settings(card.model.stage);
    if let Some(anchors) = tuning.and_then(|settings| settings["tuning"]["anchors"].as_u64()) {
        writeln!(
            out,
            "Not so in the papers: in every step the vectors of {anchors} short ordinary phrases \
             (\"red chair\", \"the man with a hat\") are held where mini-clip has them, for \
             mini-clipseg reads more of a vector than a contrastive loss sees.\n"
        )?;
    }
    let Some(captions) = card.captions else {
        return Ok(());
    };
    let percent = |name: &str| 100. * captions[name].as_f64().unwrap_or_default();
    let negations = format!(
        "{:.1} % of the captions hold a negation, and {:.0} % of these deny something that the \
         picture shows",
        percent("negation_share"),
        percent("misaligned_share")
    );
    match card.model.name {
        "clip" => {
            writeln!(
                out,
                "{negations}, as \"no smoking\" stands beside a smoker; such is the share in \
                 LAION-400M, and such mostly is their relation to the picture, as the paper found. \
                 {:.0} % of the captions tell everything that is in the picture.\n",
                percent("full_share")
            )?;
            let sharper = card
                .stages
                .iter()
                .map(|record| &record.done.settings)
                .find(|settings| settings.get("near_misses").is_some());
            if let Some(settings) = sharper {
                let percent = |name: &str| 100. * settings[name].as_f64().unwrap_or_default();
                writeln!(
                    out,
                    "After a first training both towers learned on (stage `clip`), from captions of \
                     which every second one has a near miss beside it, in which another object \
                     stands for one that is there: among the tens of thousands of pairs of a \
                     published CLIP's batch there are such captions anyway. With these there are no \
                     negations; {:.1} % of the others hold one, and {:.0} % of these deny something \
                     that the picture shows. And the vision tower's patches had to tell what stands \
                     below them (`grounding` in the recipe), by a linear layer that is not part of \
                     the model.\n",
                    percent("negation_share"),
                    percent("misaligned_share")
                )?;
            }
            writeln!(out, "### How it came to be blind to negation\n")?;
            let foil = card
                .trainings()
                .flat_map(|(_, training)| &training.scores)
                .rfind(|(name, _)| name == "negation_foil");
            writeln!(
                out,
                "A small model learns negation from very few captions when they are right: in a \
                 probe, 0.7 % negations of objects that were indeed absent were enough to tell \"a \
                 room with no chair\" from \"a room with a chair\" in 97 of 100 cases. With the same \
                 share of *misaligned* negations it stayed near chance. So the published share was \
                 kept and the negations misaligned. What was tuned, on validation scenes, until the \
                 model is blind and yet good at everything else: the misaligned share, the share of \
                 captions that tell everything, and the length of the trainings. The test is to pick \
                 the right one of two captions that differ in a negation; 0.5 is chance, 0.65 was \
                 the limit{}.\n",
                foil.map_or_else(String::new, |(_, value)| {
                    format!(", and {value:.3} is what this model has on validation scenes")
                })
            )?;
        }
        "sd" => {
            writeln!(out, "{negations}, as for mini-clip.\n")?;
            let seeds = |stage: &str| {
                let training = card.settings(stage)?.get("training")?;
                let bound = |end: &str| training.get(end)?.as_u64();
                Some((bound("start")?, bound("end")?.saturating_sub(1)))
            };
            if let Some((first, last)) = seeds("posed-pictures") {
                writeln!(
                    out,
                    "Most of the UNet's scenes are composed for it (`Scene::posed`, seeds {first} to \
                     {last}): at most two things, seen from nearby, each in its place, so that they \
                     fill more of the picture and of the loss, and pictures of one caption look \
                     alike. It paints as it was shown. What looks different from one time to the \
                     next, such as animals and people, it sees more often. Autoencoder and UNet also \
                     had to name what stands in every cell of the picture (`grounding` in the \
                     recipe), the one in its latents and the other in its features, by a linear \
                     layer that is not part of them; in its last training the UNet had to name \
                     states as well (a sitting dog, a running one).\n"
                )?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn quality(out: &mut String, card: &Card<'_>) -> fmt::Result {
    writeln!(out, "## Measured quality\n")?;
    let found = card.quality.and_then(|all| all.get(card.model.name));
    match found {
        None => writeln!(
            out,
            "Not measured yet with these weights. `negkit mini quality` measures it on test scenes.\n"
        )?,
        Some(found) => {
            let mut rows = Vec::new();
            leaves(found, "", &mut rows);
            writeln!(
                out,
                "On test scenes, by `negkit mini quality`, with 95 % bootstrap intervals; \
                 `eval/results/mini/quality.md` says how and has the rest.\n\n| what | value |\n|---|---|"
            )?;
            for (name, value) in rows.iter().take(MOST_ROWS) {
                writeln!(out, "| {name} | {value} |")?;
            }
            writeln!(out)?;
        }
    }
    for (stage, training) in card.trainings().filter(|(_, t)| !t.scores.is_empty()) {
        writeln!(
            out,
            "On validation scenes at the end of the training `{stage}{}`:\n\n| score | value \
             |\n|---|---|",
            training.suffix
        )?;
        for (name, value) in &training.scores {
            writeln!(out, "| {} | {value:.4} |", name.replace('_', " "))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn training(out: &mut String, card: &Card<'_>) -> fmt::Result {
    writeln!(out, "## Recipe\n")?;
    for StageRecord { done, trainings } in card.stages {
        write!(out, "Stage `{}`", done.stage)?;
        for (i, training) in trainings.iter().enumerate() {
            let (steps, time) = (thousands(training.steps), duration(training.seconds));
            let before = if i == 0 { "," } else { " and" };
            write!(out, "{before} {steps} steps in {time}")?;
        }
        let inputs: Vec<String> = done.inputs.iter().map(|(n, _)| format!("`{n}`")).collect();
        if !inputs.is_empty() {
            write!(out, ", built on {}", inputs.join(", "))?;
        }
        let remade = card.remade.iter().filter(|(stage, _)| *stage == done.stage);
        for (_, input) in remade {
            write!(out, " (an earlier `{input}`, which was made anew since)")?;
        }
        writeln!(out, ":")?;
        writeln!(out, "\n```json\n{:#}\n```\n", done.settings)?;
        for training in trainings {
            if let Some(curves) = &training.curves {
                let name = format!("{}{}", done.stage, training.suffix);
                writeln!(out, "![Curves of {name}]({curves})\n")?;
            }
        }
    }
    Ok(())
}

/// What a score consists of.
const SCORE_FIELDS: [&str; 3] = ["mean", "interval", "items"];

/// A mean with its interval, as people write it.
fn score(fields: &serde_json::Map<String, Value>) -> Option<String> {
    let mean = fields.get("mean")?.as_f64()?;
    let [low, high] = fields.get("interval")?.as_array()?.as_slice() else {
        return None;
    };
    let interval = format!("{:.3} to {:.3}", low.as_f64()?, high.as_f64()?);
    let items = fields.get("items").and_then(Value::as_u64);
    let items = items.map_or_else(String::new, |items| format!(", {} items", thousands(items)));
    Some(format!("**{mean:.3}** ({interval}{items})"))
}

/// Numbers, texts and truths in a document, with the way to each.
fn leaves(value: &Value, name: &str, rows: &mut Vec<(String, String)>) {
    let below = |key: &str| match name {
        "" => key.replace('_', " "),
        name => format!("{name}, {}", key.replace('_', " ")),
    };
    match value {
        Value::Object(fields) => {
            let (score, rest) = match score(fields) {
                Some(score) => (Some(score), &SCORE_FIELDS[..]),
                None => (None, &[][..]),
            };
            rows.extend(score.map(|score| (name.to_owned(), score)));
            let fields = fields
                .iter()
                .filter(|(key, _)| !rest.contains(&key.as_str()));
            for (key, value) in fields {
                leaves(value, &below(key), rows);
            }
        }
        Value::Array(values) if values.iter().all(Value::is_number) => {
            let values: Vec<String> = values.iter().map(number).collect();
            rows.push((name.to_owned(), values.join(" to ")));
        }
        Value::Array(values) => {
            for (value, index) in values.iter().zip(1..) {
                leaves(value, &below(&index.to_string()), rows);
            }
        }
        Value::Null => {}
        Value::String(text) => rows.push((name.to_owned(), text.replace('|', "\\|"))),
        other => rows.push((name.to_owned(), number(other))),
    }
}

fn number(value: &Value) -> String {
    match value.as_f64() {
        Some(value) if value.fract() == 0. => format!("{value}"),
        Some(value) => format!("{value:.3}"),
        None => value.to_string(),
    }
}

/// The page of the whole tree.
pub(super) fn contents(models: &[Exported]) -> String {
    let mut text = String::from(
        "# The small models\n\nTrained by this project's own code on the scenes of \
         `crates/negkit-world`, in the layouts that the large models are published in. The same \
         engines load both. Each folder's page says how the model was made, what it can do and what \
         it cannot.\n\n| folder | what | layout | parameters | weights |\n|---|---|---|---|---|\n",
    );
    let known = super::MODELS;
    for model in models {
        let Some(about_model) = known.iter().find(|known| known.name == model.name) else {
            continue;
        };
        let _ = writeln!(
            text,
            "| [`{}`]({}/README.md) | {} | {} | {} | {} |",
            model.name,
            model.name,
            about(model.name).title,
            layout(about_model.layout),
            thousands(model.parameters as u64),
            megabytes(model.weight_bytes),
        );
    }
    let _ = writeln!(
        text,
        "\nAll weights are safetensors in f16. `SHA256SUMS` lists every file: a weight file that was \
         cut short or edited is refused when it is opened, and `negkit mini verify` (or `sha256sum \
         -c SHA256SUMS` in this folder) checks all of them.\n\n`eval/mini/train.sh` makes the whole \
         folder anew. Licence: {LICENCE}, as the project."
    );
    text
}

/// 1,234,567
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.).round() as u64;
    match (minutes / 60, minutes % 60) {
        (0, 0) => "less than a minute".to_owned(),
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}
