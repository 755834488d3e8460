//! `negkit ask`.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use negkit::image::{Limits, open_rgb};
use negkit::vqa::{Answer, Inquiry, Question, Refusal};
use serde::Serialize;

use crate::args::{ComputeArgs, HubArgs, models, print_json};
use crate::progress;

/// Ask a model about a picture.
///
/// A chat model is told the choices, and whatever it says that is not plainly one of them is shown as
/// refused and never taken for an answer. The other models answer in their own words.
#[derive(Args)]
pub struct AskArgs {
    /// The picture: PNG, JPEG, WebP, GIF, BMP, TIFF and others; EXIF orientation is applied.
    #[arg(value_name = "PICTURE")]
    picture: PathBuf,
    /// What to ask, such as "is there a chair?".
    #[arg(required = true, value_name = "QUESTION")]
    questions: Vec<String>,
    /// Who answers: `mini` (the small model in weights/mini), a known name such as `blip-vqa-base`, a
    /// hub id or a folder, `blip:SPEC`, `chat:MODEL@URL` (an OpenAI-compatible endpoint; its key is
    /// taken from NEGKIT_CHAT_API_KEY), or `replay:FILE` (stored answers: .jsonl, .csv, or a TIFA
    /// result as .json).
    #[arg(long, short, default_value = "mini", value_name = "SPEC")]
    answerer: String,
    /// The answers to choose from, separated by commas, such as "yes,no".
    #[arg(long, value_delimiter = ',', value_name = "ANSWERS")]
    choices: Vec<String>,
    /// What stored answers call the picture. If not given, its path as it was typed.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Append all that a chat model says to this file, as JSON lines.
    #[arg(long, value_name = "FILE")]
    raw: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    hub: HubArgs,
}

#[derive(Serialize)]
struct Asked<'a> {
    picture: &'a str,
    answerer: String,
    model: String,
    weights: String,
    answers: Vec<Answered<'a>>,
}

#[derive(Serialize)]
struct Answered<'a> {
    question: &'a str,
    answer: Option<&'a str>,
    confidence: Option<f32>,
    refusal: Option<&'a Refusal>,
}

/// Runs the command.
pub fn run(args: &AskArgs) -> anyhow::Result<()> {
    let picture = open_rgb(&args.picture, &Limits::default())?;
    let models = models(&args.compute, &args.hub)?;
    let spinner = progress::spinner(format!("loading {}", args.answerer));
    let answerer = models.answerer_keeping(&args.answerer, args.raw.as_deref())?;
    spinner.set_message("asking");
    let path = args.picture.to_string_lossy();
    let key = args.key.as_deref().unwrap_or(&path);
    let choices: Vec<&str> = args.choices.iter().map(|choice| choice.trim()).collect();
    let questions: Vec<Question<'_>> = args
        .questions
        .iter()
        .map(|text| Question {
            text,
            choices: &choices,
        })
        .collect();
    let answers = answerer.inquire(&Inquiry {
        picture: &picture,
        key: Some(key),
        questions: &questions,
    })?;
    spinner.finish_and_clear();
    let info = answerer.info();
    let asked = Asked {
        picture: key,
        answerer: info.name,
        model: info.model,
        weights: info.weights.location().to_owned(),
        answers: args.questions.iter().zip(&answers).map(shown).collect(),
    };
    if args.json {
        return print_json(&asked);
    }
    let mut out = io::stdout().lock();
    for answered in &asked.answers {
        let question = answered.question;
        match (answered.refusal, answered.confidence) {
            (Some(refusal), _) => {
                writeln!(
                    out,
                    "{question}  no answer: {} ({:?})",
                    refusal.reason, refusal.raw
                )?;
            }
            (None, Some(sure)) => {
                let answer = answered.answer.unwrap_or_default();
                writeln!(out, "{question}  {answer} ({:.0} %)", sure * 100.)?;
            }
            (None, None) => writeln!(out, "{question}  {}", answered.answer.unwrap_or_default())?,
        }
    }
    Ok(())
}

fn shown<'a>((question, answer): (&'a String, &'a Answer)) -> Answered<'a> {
    let refusal = answer.refusal.as_ref();
    Answered {
        question,
        answer: refusal.is_none().then_some(answer.text.as_str()),
        confidence: answer.confidence,
        refusal,
    }
}
