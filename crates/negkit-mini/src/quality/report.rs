//! What was measured, in one place: as JSON and as a page.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde::Serialize;
use serde_json::{Value, json};

use super::clip::{ClipQuality, EncoderContrast};
use super::clipseg::ClipSegQuality;
use super::painter::Painting;
use super::score::{Difference, LEVEL, Score};
use super::sd::SdQuality;
use super::swap::{EncoderSwap, IouOutcome, Outcome, SwapQuality};
use super::tree::{STOCK, STOCK_FOLDER};
use super::vqa::{Checked, DetectorQuality, OfOtherPictures, VqaQuality};
use super::{Counts, HeldOut, NAMES};
use crate::MiniError;
use crate::recipe::SEED;

/// All that was measured.
#[derive(Debug, Clone)]
pub struct Quality {
    /// Whether only a few items were measured: nothing to report.
    pub fast: bool,
    /// On what it was measured.
    pub held_out: HeldOut,
    /// How mini-sd painted.
    pub painting: Painting,
    /// How much was measured.
    pub counts: Counts,
    /// mini-clip and its relatives.
    pub clip: Option<ClipQuality>,
    /// mini-vqa, and mini-detector where it is.
    pub vqa: Option<(VqaQuality, Option<DetectorQuality>)>,
    /// mini-sd.
    pub sd: Option<SdQuality>,
    /// mini-clipseg.
    pub clipseg: Option<ClipSegQuality>,
    /// Both with other text encoders.
    pub swap: Option<SwapQuality>,
    /// What was to be reached, of all that was measured.
    pub bars: Vec<Bar>,
    /// Wall-clock time of every part, in seconds.
    pub seconds: BTreeMap<String, f64>,
    /// SHA-256 of the models' files.
    pub weights: BTreeMap<String, Value>,
}

/// What a score is to reach.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

impl Limit {
    fn is_met_by(self, value: f64) -> bool {
        match self {
            Self::AtLeast(limit) => value >= limit,
            Self::AtMost(limit) => value <= limit,
        }
    }

    fn number(self) -> f64 {
        match self {
            Self::AtLeast(limit) | Self::AtMost(limit) => limit,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(limit) => write!(f, "at least {limit:.2}"),
            Self::AtMost(limit) => write!(f, "at most {limit:.2}"),
        }
    }
}

/// Whether a bar is met, and how surely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The score and its whole interval.
    Met,
    /// The score; the interval reaches over the limit.
    MetNotSurely,
    /// The score misses it; the interval reaches over the limit.
    MissedNotSurely,
    /// The score and its whole interval miss it.
    Missed,
    /// The score says nothing, whatever it is: two judges agree that always say the same.
    Empty,
}

impl Verdict {
    fn of(limit: Limit, score: &Score) -> Self {
        let [low, high] = score.interval;
        let within = low < limit.number() && limit.number() < high;
        match (limit.is_met_by(score.mean), within) {
            (true, false) => Self::Met,
            (true, true) => Self::MetNotSurely,
            (false, true) => Self::MissedNotSurely,
            (false, false) => Self::Missed,
        }
    }

    /// Whether the score itself meets it.
    pub fn is_met(self) -> bool {
        matches!(self, Self::Met | Self::MetNotSurely)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Met => "pass",
            Self::MetNotSurely => "pass, but the interval reaches beyond the bar",
            Self::MissedNotSurely => "**fail**, though the interval holds the bar",
            Self::Missed => "**fail**",
            Self::Empty => "**fail**: an empty score, for both always say the same",
        })
    }
}

/// A limit with what was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bar {
    /// The model's folder.
    pub model: &'static str,
    /// What was measured.
    pub what: &'static str,
    /// What it is to reach.
    pub bar: Limit,
    /// What it is.
    pub score: Score,
    /// Whether that is enough.
    pub verdict: Verdict,
}

impl Bar {
    fn new(model: &'static str, what: &'static str, bar: Limit, score: Score) -> Self {
        Self {
            model,
            what,
            bar,
            score,
            verdict: Verdict::of(bar, &score),
        }
    }
}

impl Quality {
    /// Compares what was measured with what was to be reached.
    pub(super) fn set_bars(&mut self) {
        use Limit::{AtLeast, AtMost};
        let mut bars = Vec::new();
        let stock = self.clip.as_ref().and_then(|clip| clip.encoders.first());
        if let Some(stock) = stock {
            bars.extend([
                Bar::new(
                    STOCK_FOLDER,
                    "text-to-image recall at 5 by full captions",
                    AtLeast(0.6),
                    stock.recall_at_5,
                ),
                Bar::new(
                    STOCK_FOLDER,
                    "the right caption against one with another object",
                    AtLeast(0.95),
                    stock.ordinary_foil,
                ),
                Bar::new(
                    STOCK_FOLDER,
                    "the right caption against one that differs in a negation (stock is to be blind)",
                    AtMost(0.65),
                    stock.negation_foil,
                ),
            ]);
        }
        if let Some((vqa, _)) = &self.vqa {
            bars.push(Bar::new(
                "vqa",
                "answers about test scenes",
                AtLeast(0.97),
                vqa.accuracy,
            ));
            bars.extend(vqa.agreement.as_ref().map(|checked| {
                let what = "agreement with mini-detector on painted pictures";
                let bar = Bar::new("vqa", what, AtLeast(0.93), checked.rate);
                match checked.kappa {
                    Some(_) => bar,
                    None => Bar {
                        verdict: Verdict::Empty,
                        ..bar
                    },
                }
            }));
        }
        if let Some(sd) = &self.sd {
            bars.push(Bar::new(
                "sd",
                "named objects that are painted (by mini-vqa)",
                AtLeast(0.9),
                sd.objects,
            ));
            bars.extend(sd.colours.map(|colours| {
                let what = "named colours that are right (by mini-vqa)";
                Bar::new("sd", what, AtLeast(0.85), colours)
            }));
        }
        if let Some(clipseg) = &self.clipseg {
            bars.push(Bar::new(
                "clipseg",
                "mean IoU of ordinary phrases at the best threshold",
                AtLeast(0.6),
                clipseg.mean_iou,
            ));
        }
        self.bars = bars;
    }

    /// All numbers. What is of one model stands under the model's folder, where its card finds it.
    pub(super) fn json(&self) -> Result<Value, MiniError> {
        let to_value = |value: Result<Value, serde_json::Error>| value.map_err(MiniError::other);
        let mut all = json!({
            "negkit": env!("CARGO_PKG_VERSION"),
            "fast": self.fast,
            "about": {
                "scenes": format!("{} seeds {:?}", self.held_out.name(), self.held_out.seeds()),
                "prompts_seed": self.held_out.seeds().start,
                "seed": SEED,
                "interval_level": LEVEL,
            },
            "bars": to_value(serde_json::to_value(&self.bars))?,
            "painting": to_value(serde_json::to_value(self.painting))?,
            "counts": to_value(serde_json::to_value(self.counts))?,
            "seconds": to_value(serde_json::to_value(&self.seconds))?,
            "weights": to_value(serde_json::to_value(&self.weights))?,
        });
        let mut put = |model: &str, field: Option<&str>, value: Value| match field {
            Some(field) => all[model][field] = value,
            None => all[model] = value,
        };
        for encoder in self.clip.iter().flat_map(|clip| &clip.encoders) {
            let value = to_value(serde_json::to_value(encoder))?;
            put(folder(&encoder.encoder), None, value);
        }
        if let Some((vqa, detector)) = &self.vqa {
            put("vqa", None, to_value(serde_json::to_value(vqa))?);
            if let Some(detector) = detector {
                put("detector", None, to_value(serde_json::to_value(detector))?);
            }
        }
        if let Some(sd) = &self.sd {
            put("sd", None, to_value(serde_json::to_value(sd))?);
        }
        if let Some(clipseg) = &self.clipseg {
            put("clipseg", None, to_value(serde_json::to_value(clipseg))?);
        }
        if let Some(swap) = &self.swap {
            for encoder in &swap.encoders {
                let value = to_value(serde_json::to_value(encoder))?;
                put(folder(&encoder.encoder), Some("swapped_in"), value);
            }
            let rest = json!({
                "negation_prompts": swap.negation_prompts,
                "pictures_each": swap.pictures_each,
                "threshold": swap.threshold,
                "prompts": to_value(serde_json::to_value(&swap.prompts))?,
            });
            put("swap", None, rest);
        }
        Ok(all)
    }

    /// The page for people.
    pub(super) fn page(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "# What the small models can do\n")?;
        if self.fast {
            writeln!(
                out,
                "**A fast run, on a handful of items: it shows that everything runs, and nothing \
                 else.**\n"
            )?;
        }
        let seeds = self.held_out.seeds();
        let choosing = match self.held_out {
            HeldOut::Test => "",
            HeldOut::Validation => "**For choices between settings; no results.** ",
        };
        let scheduler = self.painting.scheduler;
        let scheduler = scheduler.map(|kind| format!(" of {}", kind.name()));
        writeln!(
            out,
            "{choosing}Measured by `negkit mini quality` (negkit {}) on {} scenes (seeds {} to {}) that no \
             training has seen. In brackets: 95 % bootstrap intervals over {} \
             resamples, of scenes, pictures or prompts, whichever were sampled. A bar counts as \
             met by the score itself; where the interval reaches beyond it, that is said. Pictures \
             are painted in {} steps{} with guidance {}, none chosen. All numbers, the hashes of the \
             weights and the time it took are in `quality.json`.\n",
            env!("CARGO_PKG_VERSION"),
            self.held_out.name(),
            seeds.start,
            seeds.end - 1,
            self.counts.resamples,
            self.painting.steps,
            scheduler.unwrap_or_default(),
            self.painting.guidance
        )?;
        self.write_bars(out)?;
        if let Some(clip) = &self.clip {
            write_clip(out, clip, self.counts.contrast_scenes)?;
        }
        if let Some((vqa, detector)) = &self.vqa {
            write_vqa(out, vqa, detector.as_ref(), self.counts.question_scenes)?;
        }
        if let Some(sd) = &self.sd {
            write_sd(out, sd, self.counts.prompts)?;
        }
        if let Some(clipseg) = &self.clipseg {
            write_clipseg(out, clipseg)?;
        }
        if let Some(swap) = &self.swap {
            write_swap(out, swap)?;
        }
        let minutes = self.seconds.values().sum::<f64>() / 60.;
        writeln!(
            out,
            "Everything together took {minutes:.1} minutes on the machine that measured it."
        )
    }

    fn write_bars(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "## Bars\n")?;
        if self.bars.is_empty() {
            return writeln!(out, "Nothing with a bar was measured.\n");
        }
        writeln!(
            out,
            "| model | what | bar | measured | |\n|---|---|---|---|---|"
        )?;
        for bar in &self.bars {
            let Bar {
                model,
                what,
                bar: limit,
                score,
                verdict,
            } = bar;
            writeln!(
                out,
                "| {} | {what} | {limit} | {} | {verdict} |",
                name(model),
                shown(score)
            )?;
        }
        let met = self.bars.iter().filter(|bar| bar.verdict.is_met()).count();
        writeln!(out, "\n{met} of {} bars are met.\n", self.bars.len())
    }
}

/// Folder of a text encoder.
fn folder(encoder: &str) -> &str {
    super::tree::Tree::encoder_folder(encoder)
}

/// What a model of that folder is called.
fn name(model: &str) -> String {
    let known = NAMES.iter().find(|(folder, _)| *folder == model);
    known.map_or_else(|| model.to_owned(), |(_, name)| (*name).to_owned())
}

fn shown(score: &Score) -> String {
    let [low, high] = score.interval;
    format!("{:.3} ({low:.3} to {high:.3})", score.mean)
}

fn maybe(score: Option<&Score>) -> String {
    score.map_or_else(|| "none".to_owned(), shown)
}

fn difference(found: &Difference) -> String {
    let [low, high] = found.interval;
    format!("{:+.3} ({low:+.3} to {high:+.3})", found.mean)
}

fn p_value(p: f64) -> String {
    match p < 0.001 {
        true => "p < 0.001".to_owned(),
        false => format!("p = {p:.3}"),
    }
}

fn row(out: &mut String, what: &str, score: Option<&Score>) -> fmt::Result {
    let items = score.map_or(0, |score| score.items);
    writeln!(out, "| {what} | {} | {items} |", maybe(score))
}

fn write_clip(out: &mut String, clip: &ClipQuality, scenes: usize) -> fmt::Result {
    writeln!(
        out,
        "## Text encoders beside mini-clip's picture side\n\nRecall at 5: a scene's full caption \
         finds its picture among the first five of {scenes}; scenes with the same full caption \
         count as one. Foils: the right caption has to be nearer to the picture than the wrong one; \
         a tie is half right, 0.5 is chance. The last column is the part of the negation foils in \
         which the object is missing, so that the caption with the negation is the right one.\n\n\
         | encoder | recall at 5 | ordinary foil | negation foil | of these, object missing |\n\
         |---|---|---|---|---|"
    )?;
    for encoder in &clip.encoders {
        writeln!(
            out,
            "| {} | {} | {} | {} | {} |",
            encoder.encoder,
            shown(&encoder.recall_at_5),
            shown(&encoder.ordinary_foil),
            shown(&encoder.negation_foil),
            maybe(encoder.negation_foil_absent.as_ref())
        )?;
    }
    writeln!(out)?;
    if !clip.missing.is_empty() {
        writeln!(out, "Not there: {}.\n", clip.missing.join(", "))?;
    }
    let compared = |encoder: &&EncoderContrast| encoder.against_stock.is_some();
    if !clip.encoders.iter().any(|encoder| compared(&encoder)) {
        return Ok(());
    }
    writeln!(
        out,
        "Against the stock encoder on the same items; McNemar's exact test is on the negation \
         foils.\n\n| encoder | recall at 5 | ordinary foil | negation foil | only stock right | only \
         this right | |\n|---|---|---|---|---|---|---|"
    )?;
    for encoder in clip.encoders.iter().filter(compared) {
        if let Some(found) = &encoder.against_stock {
            writeln!(
                out,
                "| {} | {} | {} | {} | {} | {} | {} |",
                encoder.encoder,
                difference(&found.recall_at_5),
                difference(&found.ordinary_foil),
                difference(&found.negation_foil),
                found.mcnemar.only_stock,
                found.mcnemar.only_this,
                p_value(found.mcnemar.p_value)
            )?;
        }
    }
    writeln!(out)
}

fn of_other_pictures(out: &mut String, found: &OfOtherPictures) -> fmt::Result {
    writeln!(out, "| questions | right | questions |\n|---|---|---|")?;
    row(out, "all", Some(&found.accuracy))?;
    for (kind, score) in &found.by_kind {
        row(out, &format!("about {}", kind_name(*kind)), Some(score))?;
    }
    let there = found.where_there.as_ref();
    row(out, "about existence, where it is there", there)
}

fn write_vqa(
    out: &mut String,
    vqa: &VqaQuality,
    detector: Option<&DetectorQuality>,
    scenes: usize,
) -> fmt::Result {
    writeln!(
        out,
        "## mini-vqa\n\nQuestions about {scenes} test scenes; only the exact answer is right.\n\n\
         | questions | right | questions |\n|---|---|---|"
    )?;
    row(out, "all", Some(&vqa.accuracy))?;
    for (kind, score) in &vqa.by_kind {
        row(out, &format!("about {}", kind_name(*kind)), Some(score))?;
    }
    row(out, "yes or no", vqa.yes_no.accuracy.as_ref())?;
    row(out, "where yes is right", vqa.yes_no.where_yes.as_ref())?;
    row(out, "where no is right", vqa.yes_no.where_no.as_ref())?;
    row(out, "with other answers", vqa.open.as_ref())?;
    if let Some(balanced) = vqa.yes_no.balanced {
        writeln!(
            out,
            "\nYes and no weighted alike: {balanced:.3}; who always says the same has 0.5."
        )?;
    }
    if let Some(through) = &vqa.through_autoencoder {
        writeln!(
            out,
            "\n### Through mini-sd's autoencoder\n\nThe same questions about the same pictures, after \
             these were encoded and decoded again. What is lost here no UNet can paint.\n"
        )?;
        of_other_pictures(out, through)?;
    }
    if let Some(posed) = &vqa.posed {
        writeln!(
            out,
            "\n### Posed scenes\n\nQuestions about as many scenes as mini-sd paints them: few things, seen \
             from nearby (`Scene::posed`).\n"
        )?;
        of_other_pictures(out, posed)?;
    }
    writeln!(out, "\n### Checked by mini-detector\n")?;
    if vqa.agreement.is_none() && vqa.agreement_on_scenes.is_none() {
        return writeln!(out, "Not measured.\n");
    }
    writeln!(
        out,
        "mini-detector reads no text and has no weight in common with mini-vqa. It is no stranger, \
         though: the part of mini-vqa that looks at the picture is a network of the same form, and \
         both were trained on scenes of one renderer, so that they may err alike. Both say of kinds \
         whether they are in a picture: of those that the prompt (or scene) names, and of as many \
         that it does not. Agreement alone could come from saying the same \
         to everything, therefore the shares of yes and Cohen's kappa, which is 0 for agreement by \
         chance.\n\n| pictures | questions | agreement | kappa | mini-vqa says yes | \
         mini-detector says yes |\n|---|---|---|---|---|---|"
    )?;
    let line = |out: &mut String, what: &str, checked: Option<&Checked>| match checked {
        None => Ok(()),
        Some(checked) => writeln!(
            out,
            "| {} {what} | {} | {} | {} | {:.3} | {:.3} |",
            checked.pictures,
            checked.counts.questions(),
            shown(&checked.rate),
            checked
                .kappa
                .map_or_else(|| "not defined".to_owned(), |kappa| format!("{kappa:.3}")),
            checked.vqa_says_yes,
            checked.detector_says_yes
        ),
    };
    line(out, "painted by mini-sd", vqa.agreement.as_ref())?;
    line(out, "drawn test scenes", vqa.agreement_on_scenes.as_ref())?;
    writeln!(out)?;
    let worst = vqa.agreement.iter().flat_map(|checked| &checked.worst);
    let worst: Vec<String> = worst
        .map(|(kind, unlike, asked)| format!("{kind} ({unlike} of {asked})"))
        .collect();
    if !worst.is_empty() {
        writeln!(
            out,
            "On painted pictures they disagree most about: {}.\n",
            worst.join(", ")
        )?;
    }
    if let Some(detector) = detector {
        writeln!(
            out,
            "Against the truth of the test scenes, on the same questions:\n\n| | right | questions \
             |\n|---|---|---|"
        )?;
        row(out, "mini-detector", Some(&detector.accuracy))?;
        row(out, "where it is there", detector.where_there.as_ref())?;
        row(out, "where it is not", detector.where_not.as_ref())?;
        row(out, "mini-vqa", Some(&detector.vqa_on_the_same))?;
        writeln!(out)?;
    }
    Ok(())
}

fn kind_name(kind: negkit_world::language::QuestionKind) -> &'static str {
    use negkit_world::language::QuestionKind;
    match kind {
        QuestionKind::Existence => "existence",
        QuestionKind::Place => "the place",
        QuestionKind::Colour => "colours",
        QuestionKind::State => "states",
        QuestionKind::Count => "numbers",
        QuestionKind::Worn => "what is worn or held",
        QuestionKind::Object => "which object it is",
    }
}

/// Kinds that are named as missing most often.
const SELDOM_PAINTED: usize = 12;

fn write_sd(out: &mut String, sd: &SdQuality, prompts: usize) -> fmt::Result {
    writeln!(
        out,
        "## mini-sd\n\nOne picture of each of {prompts} prompts without a negation, by its own \
         (stock) text encoder, as mini-vqa sees it. What is not there has no right colour, state \
         or number. mini-vqa makes mistakes of its own, see above.\n\n| what | right | of \
         |\n|---|---|---|"
    )?;
    row(out, "named objects that are there", Some(&sd.objects))?;
    row(out, "of these, things", sd.things.as_ref())?;
    row(out, "of these, worn or held", sd.worn.as_ref())?;
    row(out, "colours", sd.colours.as_ref())?;
    let there = sd.colours_where_there.as_ref();
    row(out, "colours of what is there", there)?;
    row(out, "states", sd.states.as_ref())?;
    row(out, "numbers", sd.counts.as_ref())?;
    row(out, "places", sd.places.as_ref())?;
    row(out, "pictures with everything right", Some(&sd.all_right))?;
    let seldom: Vec<String> = sd
        .kinds
        .iter()
        .take(SELDOM_PAINTED)
        .filter(|found| found.painted < found.named)
        .map(|found| format!("{} ({} of {})", found.kind, found.painted, found.named))
        .collect();
    if !seldom.is_empty() {
        writeln!(out, "\nMost often missing: {}.", seldom.join(", "))?;
    }
    writeln!(out)
}

fn write_clipseg(out: &mut String, clipseg: &ClipSegQuality) -> fmt::Result {
    writeln!(
        out,
        "## mini-clipseg\n\nOrdinary phrases about {} test scenes, with the stock text encoder.\n\n\
         | threshold | mean IoU | phrases |\n|---|---|---|",
        clipseg.scenes
    )?;
    let best = format!(
        "{:.2}, the best on these very phrases",
        clipseg.best_threshold
    );
    row(out, &best, Some(&clipseg.mean_iou))?;
    let chosen = format!(
        "{:.2}, chosen on validation scenes",
        clipseg.chosen_threshold
    );
    row(out, &chosen, Some(&clipseg.mean_iou_at_chosen))?;
    writeln!(
        out,
        "\nCumulative IoU at the best threshold: {:.3}.\n",
        clipseg.cumulative_iou
    )
}

fn write_swap(out: &mut String, swap: &SwapQuality) -> fmt::Result {
    writeln!(
        out,
        "## Other text encoders in the stock one's place\n\nmini-sd and mini-clipseg stay as they \
         are, trained with the stock encoder; only the text encoder is exchanged. {} prompts with a \
         negation, {} pictures each, from the same noise for every encoder; TIFA on prompts without \
         a negation. mini-vqa answers. Intervals draw prompts.\n\n| encoder | Neg Score | affirmed \
         is there | denied is not there | TIFA |\n|---|---|---|---|---|",
        swap.negation_prompts, swap.pictures_each
    )?;
    for encoder in &swap.encoders {
        writeln!(
            out,
            "| {} | {} | {} | {} | {} |",
            encoder.encoder,
            shown(&encoder.neg_score.score),
            shown(&encoder.affirmed.score),
            shown(&encoder.negated.score),
            shown(&encoder.tifa.score)
        )?;
    }
    writeln!(out)?;
    write_swap_differences(out, swap)?;
    write_breakdown(out, swap, "Neg Score by what is denied", |encoder| {
        &encoder.neg_score_by_kind
    })?;
    write_breakdown(out, swap, "TIFA by category of question", |encoder| {
        &encoder.tifa_by_type
    })?;
    write_masks(out, swap)?;
    write_direction(out, swap)
}

fn write_swap_differences(out: &mut String, swap: &SwapQuality) -> fmt::Result {
    if swap.encoders.len() < 2 {
        return Ok(());
    }
    writeln!(
        out,
        "Against the stock encoder, prompt by prompt. McNemar's exact test takes every picture for \
         itself; the pictures of a prompt are alike, so that its p is too small.\n\n| encoder | Neg \
         Score | affirmed is there | denied is not there | TIFA | pictures: only stock, only this \
         |\n|---|---|---|---|---|---|"
    )?;
    for encoder in swap.encoders.iter().filter(|e| e.encoder != STOCK) {
        let shown = |outcome: &Outcome| {
            let found = outcome.against_stock.as_ref();
            found.map_or_else(String::new, difference)
        };
        let mcnemar = encoder.mcnemar.as_ref().map_or_else(String::new, |test| {
            let p = p_value(test.p_value);
            format!("{}, {} ({p})", test.only_stock, test.only_this)
        });
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {mcnemar} |",
            encoder.encoder,
            shown(&encoder.neg_score),
            shown(&encoder.affirmed),
            shown(&encoder.negated),
            shown(&encoder.tifa)
        )?;
    }
    writeln!(out)
}

fn write_breakdown(
    out: &mut String,
    swap: &SwapQuality,
    title: &str,
    of: impl Fn(&EncoderSwap) -> &BTreeMap<String, f64>,
) -> fmt::Result {
    let Some(first) = swap.encoders.first() else {
        return Ok(());
    };
    let labels: Vec<&String> = of(first).keys().collect();
    let head: Vec<&str> = labels.iter().map(|label| label.as_str()).collect();
    writeln!(out, "{title}:\n\n| encoder | {} |", head.join(" | "))?;
    writeln!(out, "|---|{}", "---|".repeat(labels.len()))?;
    for encoder in &swap.encoders {
        let values = labels.iter().map(|label| {
            let value = of(encoder).get(*label);
            value.map_or_else(String::new, |value| format!("{value:.3}"))
        });
        let values: Vec<String> = values.collect();
        writeln!(out, "| {} | {} |", encoder.encoder, values.join(" | "))?;
    }
    writeln!(out)
}

/// A sort of phrase, its name, and whether it is hoped to change.
type PhraseSort = (&'static str, fn(&EncoderSwap) -> Option<IouOutcome>);

const PHRASE_SORTS: [PhraseSort; 3] = [
    ("ordinary phrases", |encoder| {
        encoder.miou.as_ref()?.ordinary
    }),
    ("referring expressions", |encoder| {
        encoder.miou.as_ref()?.referring
    }),
    ("referring expressions with a negation", |encoder| {
        encoder.miou.as_ref()?.negated
    }),
];

fn write_masks(out: &mut String, swap: &SwapQuality) -> fmt::Result {
    let Some(threshold) = swap.threshold else {
        return writeln!(out, "mini-clipseg was not there.\n");
    };
    writeln!(
        out,
        "Masks of mini-clipseg at threshold {threshold:.2} (the best on validation scenes with the \
         stock encoder), one phrase a scene. The last column has each encoder's own best threshold \
         on these very phrases.\n\n| phrases | encoder | mean IoU | against stock | at its best \
         threshold |\n|---|---|---|---|---|"
    )?;
    for (sort, of) in PHRASE_SORTS {
        for encoder in &swap.encoders {
            let Some(found) = of(encoder) else { continue };
            let against = found.outcome.against_stock.as_ref();
            writeln!(
                out,
                "| {sort} ({}) | {} | {} | {} | {:.3} at {:.2} |",
                found.outcome.score.items,
                encoder.encoder,
                shown(&found.outcome.score),
                against.map_or_else(String::new, difference),
                found.at_best,
                found.best_threshold
            )?;
        }
    }
    writeln!(out)
}

/// What was hoped for, and what came out.
fn write_direction(out: &mut String, swap: &SwapQuality) -> fmt::Result {
    let Some(stock) = swap.encoders.first().filter(|_| swap.encoders.len() > 1) else {
        return Ok(());
    };
    writeln!(
        out,
        "### The paper's direction\n\nHoped for: Neg Score up by half, TIFA as before, mean IoU of \
         negated expressions up, that of ordinary phrases as before. \"Not clear\" means that the \
         interval of the difference holds zero; it is no proof that nothing changed.\n"
    )?;
    for encoder in swap.encoders.iter().filter(|e| e.encoder != STOCK) {
        let ratio = encoder.neg_score.score.mean / stock.neg_score.score.mean;
        let times = match ratio.is_finite() {
            true => format!(", {ratio:.2} times the stock encoder's (hoped for: 1.5)"),
            false => String::new(),
        };
        let mut told = vec![
            format!(
                "Neg Score {}{times}",
                direction(encoder.neg_score.against_stock)
            ),
            format!("TIFA {}", direction(encoder.tifa.against_stock)),
        ];
        for (sort, of) in PHRASE_SORTS {
            let found = of(encoder).and_then(|found| found.outcome.against_stock);
            if found.is_some() {
                told.push(format!("mean IoU of {sort} {}", direction(found)));
            }
        }
        writeln!(out, "- {}: {}.", encoder.encoder, told.join("; "))?;
    }
    writeln!(out)
}

fn direction(found: Option<Difference>) -> String {
    match found {
        None => "not compared".to_owned(),
        Some(found) if !found.is_clear() => format!("not clear ({:+.3})", found.mean),
        Some(found) if found.mean > 0. => format!("up ({:+.3})", found.mean),
        Some(found) => format!("down ({:+.3})", found.mean),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn score(mean: f64, low: f64, high: f64) -> Score {
        Score {
            mean,
            interval: [low, high],
            items: 100,
        }
    }

    #[test]
    fn a_verdict_says_how_sure_it_is() {
        use Limit::{AtLeast, AtMost};
        for (limit, (mean, low, high), verdict) in [
            (AtLeast(0.9), (0.95, 0.92, 0.97), Verdict::Met),
            (AtLeast(0.9), (0.9, 0.9, 0.9), Verdict::Met),
            (AtLeast(0.9), (0.91, 0.88, 0.94), Verdict::MetNotSurely),
            (AtLeast(0.9), (0.89, 0.86, 0.92), Verdict::MissedNotSurely),
            (AtLeast(0.9), (0.5, 0.4, 0.6), Verdict::Missed),
            (AtMost(0.65), (0.5, 0.4, 0.6), Verdict::Met),
            (AtMost(0.65), (0.64, 0.6, 0.68), Verdict::MetNotSurely),
            (AtMost(0.65), (0.66, 0.62, 0.7), Verdict::MissedNotSurely),
            (AtMost(0.65), (0.8, 0.7, 0.9), Verdict::Missed),
        ] {
            let found = Verdict::of(limit, &score(mean, low, high));
            assert_eq!(found, verdict, "{mean} {limit}");
            assert_eq!(found.is_met(), limit.is_met_by(mean));
        }
    }

    fn only_clipseg() -> Quality {
        let mut quality = Quality {
            fast: false,
            held_out: HeldOut::Test,
            painting: Painting::default(),
            counts: Counts::FULL,
            clip: None,
            vqa: None,
            sd: None,
            clipseg: Some(ClipSegQuality {
                mean_iou: score(0.61, 0.59, 0.63),
                best_threshold: 0.35,
                mean_iou_at_chosen: score(0.6, 0.58, 0.62),
                chosen_threshold: 0.4,
                cumulative_iou: 0.7,
                scenes: 500,
            }),
            swap: None,
            bars: Vec::new(),
            seconds: BTreeMap::from([("clipseg".to_owned(), 90.)]),
            weights: BTreeMap::from([("clipseg".to_owned(), json!({ "a.json": "00" }))]),
        };
        quality.set_bars();
        quality
    }

    #[test]
    fn the_page_tells_what_was_measured_and_no_more() {
        let quality = only_clipseg();
        let page = quality.page();
        for part in [
            "| mini-clipseg | mean IoU of ordinary phrases at the best threshold | at least 0.60 \
             | 0.610 (0.590 to 0.630) | pass, but the interval reaches beyond the bar |",
            "1 of 1 bars are met.",
            "| 0.40, chosen on validation scenes | 0.600 (0.580 to 0.620) | 100 |",
            "took 1.5 minutes",
        ] {
            assert!(page.contains(part), "{part:?} is not in\n{page}");
        }
        for part in ["mini-sd\n", "fast run", "mini-vqa\n", "direction", "NaN"] {
            assert!(!page.contains(part), "{part:?} is in\n{page}");
        }
        let fast = Quality {
            fast: true,
            ..quality
        };
        assert!(fast.page().contains("fast run"));
    }

    #[test]
    fn the_numbers_of_a_model_stand_under_its_folder() {
        let found = only_clipseg().json().unwrap();
        assert_eq!(found["clipseg"]["mean_iou"]["mean"], 0.61);
        assert_eq!(found["bars"][0]["verdict"], "met-not-surely");
        assert_eq!(found["bars"][0]["bar"]["at_least"], 0.6);
        assert_eq!(found["weights"]["clipseg"]["a.json"], "00");
        assert!(found["sd"].is_null() && found["clip"].is_null());
    }

    #[test]
    fn a_direction_is_told_only_where_it_is_clear() {
        let told = |low: f64, high: f64| {
            direction(Some(Difference {
                mean: (low + high) / 2.,
                interval: [low, high],
                p_value: 0.5,
            }))
        };
        assert_eq!(told(0.1, 0.3), "up (+0.200)");
        assert_eq!(told(-0.3, -0.1), "down (-0.200)");
        assert_eq!(told(-0.1, 0.3), "not clear (+0.100)");
        assert_eq!(direction(None), "not compared");
    }
}
