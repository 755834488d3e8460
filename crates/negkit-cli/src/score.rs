//! `negkit score`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use negkit_data::WordList;
use negkit_data::phrasecut::Split;
use negkit_data::refcoco::Splitter;
use negkit_eval::PaperFolder;
use negkit_eval::score::{Files, Scored, dsg, geneval_results, neg_prompts, segmentation, tifa};
use negkit_metrics::Interval;

use crate::args::{
    ComputeArgs, DatasetArg, HubArgs, IntervalArgs, models, parse_split, print_json,
};
use crate::progress;

/// Score answers, detections and masks that are in files, whoever made them.
///
/// Every score has a 95 % bootstrap interval. With --against the second file is compared with the
/// first on the same items: the paired difference with its interval and p value, and McNemar's test
/// where an item is right or wrong.
///
/// Answers are read as `negkit ask --answerer replay:FILE` reads them: .jsonl, .csv, or a result of
/// TIFA as .json. A picture's key is the id of its prompt, alone or followed by / and which of the
/// prompt's pictures it is.
#[derive(Subcommand)]
pub enum ScoreCommand {
    Tifa(TifaArgs),
    Neg(NegArgs),
    Dsg(DsgArgs),
    Geneval(GenevalArgs),
    Segmentation(SegmentationArgs),
}

/// What all scores have in common.
#[derive(Args)]
struct Common {
    /// A second file, compared with the first on the same items.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    #[command(flatten)]
    intervals: IntervalArgs,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// TIFA: the questions of each prompt answered rightly.
#[derive(Args)]
pub struct TifaArgs {
    /// The answers.
    #[arg(value_name = "ANSWERS")]
    answers: PathBuf,
    /// tifa_v1.0_question_answers.json, or a file of its form.
    #[arg(long, value_name = "FILE")]
    questions: PathBuf,
    /// What turns a free answer into one of the choices, such as all-mpnet-base-v2, TIFA's own.
    /// Without it an answer in other words is wrong.
    #[arg(long, value_name = "MODEL")]
    sentence_encoder: Option<String>,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    hub: HubArgs,
}

/// Neg Score: what is affirmed is there, and what is denied is not.
#[derive(Args)]
pub struct NegArgs {
    /// The answers. A prompt's id is its place in the file of prompts, from 0.
    #[arg(value_name = "ANSWERS")]
    answers: PathBuf,
    /// prompts_with_questions.json, or a file of its form.
    #[arg(long, value_name = "FILE")]
    prompts: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// DSG: a question counts only if those that it rests on hold.
#[derive(Args)]
pub struct DsgArgs {
    /// Answers as DSG released them: a .csv with item_id, question_id, dependency_id and answer.
    #[arg(value_name = "ANSWERS")]
    answers: PathBuf,
    /// Whose pictures count (t2i_model), where the file holds several painters'.
    #[arg(long, value_name = "NAME")]
    painter: Option<String>,
    /// The painter to compare with, in the second file or, without --against, in the same.
    #[arg(long, value_name = "NAME")]
    against_painter: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// GenEval: the objects that a prompt asks for, in number, colour and place.
#[derive(Args)]
pub struct GenevalArgs {
    /// JSON lines, one a picture: results of GenEval's evaluate_images.py, or lines of
    /// evaluation_metadata.jsonl with the `objects` that a detector found (class, confidence, bounds
    /// and, where it is asked for, color).
    #[arg(value_name = "RESULTS")]
    results: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// IoU of masks with PhraseCut or the negated part of RefCOCOg, at the pictures' full size.
#[derive(Args)]
pub struct SegmentationArgs {
    /// JSON lines, one a phrase: {"id": …, "segmentation": {"size": [height, width], "counts": …}}
    /// with COCO's run lengths. The id is PhraseCut's task_id or RefCOCOg's sent_id.
    #[arg(value_name = "MASKS")]
    masks: PathBuf,
    /// The folder with phrasecut (or VGPhraseCut_v0), or with refcocog and train2014.
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
    /// Whose phrases they are.
    #[arg(long)]
    dataset: DatasetArg,
    /// The split; if not given, PhraseCut's test, and all of RefCOCOg.
    #[arg(long)]
    split: Option<String>,
    /// The words, separated by commas, of which an expression of RefCOCOg must have one.
    #[arg(long, value_delimiter = ',', default_values = ["no", "not", "without"])]
    words: Vec<String>,
    #[command(flatten)]
    common: Common,
}

impl Common {
    fn files<'a>(&'a self, first: &'a Path) -> Files<'a> {
        Files {
            first,
            second: self.against.as_deref(),
        }
    }
}

/// Runs the command.
pub fn run(command: &ScoreCommand) -> anyhow::Result<()> {
    let (scored, common) = match command {
        ScoreCommand::Tifa(args) => (run_tifa(args)?, &args.common),
        ScoreCommand::Neg(args) => {
            let files = args.common.files(&args.answers);
            let scored = neg_prompts(&args.prompts, &files, &args.common.intervals.bootstrap())?;
            (scored, &args.common)
        }
        ScoreCommand::Dsg(args) => {
            let painters = [args.painter.as_deref(), args.against_painter.as_deref()];
            let files = args.common.files(&args.answers);
            (
                dsg(&files, painters, &args.common.intervals.bootstrap())?,
                &args.common,
            )
        }
        ScoreCommand::Geneval(args) => {
            let files = args.common.files(&args.results);
            let scored = geneval_results(&files, &args.common.intervals.bootstrap())?;
            (scored, &args.common)
        }
        ScoreCommand::Segmentation(args) => (run_segmentation(args)?, &args.common),
    };
    match common.json {
        true => print_json(&scored),
        false => print(&scored),
    }
}

fn run_tifa(args: &TifaArgs) -> anyhow::Result<Scored> {
    let sentences = match &args.sentence_encoder {
        None => None,
        Some(spec) => {
            let models = models(&args.compute, &args.hub)?;
            let spinner = progress::spinner(format!("loading {spec}"));
            let model = models.sentence_encoder(spec)?;
            spinner.finish_and_clear();
            Some(model)
        }
    };
    let files = args.common.files(&args.answers);
    let bootstrap = args.common.intervals.bootstrap();
    Ok(tifa(
        &args.questions,
        &files,
        sentences.as_ref(),
        &bootstrap,
    )?)
}

fn run_segmentation(args: &SegmentationArgs) -> anyhow::Result<Scored> {
    let folder = PaperFolder::new(&args.data);
    let source = match args.dataset {
        DatasetArg::Phrasecut => {
            let split = args.split.as_deref().map(parse_split).transpose();
            let split = split.map_err(anyhow::Error::msg)?;
            folder.phrasecut(split.unwrap_or(Split::Test))?
        }
        DatasetArg::Refcocog => folder.refcocog(Splitter::Umd, args.split.clone())?,
    };
    let files = args.common.files(&args.masks);
    let words = WordList::new(&args.words);
    Ok(segmentation(
        &source,
        &words,
        &files,
        &args.common.intervals.bootstrap(),
    )?)
}

fn print(scored: &Scored) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let counts = scored.counts.iter();
    let counts: Vec<String> = counts
        .map(|(what, count)| format!("{count} {what}"))
        .collect();
    writeln!(out, "{}: {}", scored.score, counts.join(", "))?;
    let width = scored.rows.iter().map(|row| row.name.chars().count()).max();
    let width = width.unwrap_or(0);
    for row in &scored.rows {
        write!(out, "  {:width$}  {}", row.name, shown(&row.first))?;
        if let Some(second) = &row.second {
            write!(out, "  against {}", shown(second))?;
        }
        if let Some(found) = &row.difference {
            let Interval {
                estimate,
                low,
                high,
                ..
            } = found.difference;
            let p = found.p_value;
            write!(out, "  {estimate:+.3} [{low:+.3}, {high:+.3}] p {p:.3}")?;
        }
        if let Some(test) = &row.mcnemar {
            write!(
                out,
                "  McNemar {} to {} p {:.2e}",
                test.only_b, test.only_a, test.p_value
            )?;
        }
        writeln!(out)?;
    }
    for note in &scored.notes {
        writeln!(out, "  {note}")?;
    }
    Ok(())
}

fn shown(found: &Interval) -> String {
    let Interval {
        estimate,
        low,
        high,
        ..
    } = found;
    format!("{estimate:.3} [{low:.3}, {high:.3}]")
}
