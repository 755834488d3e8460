//! What the page shows, ready to be written: the templates decide nothing.

use crate::chart::Chart;
use crate::picture::PictureView;
use crate::score::{Difference, Interval};

/// A run on the page.
#[derive(Debug)]
pub(crate) struct Section {
    /// Unique on the page; part of every id below it.
    pub(crate) id: String,
    pub(crate) title: String,
    /// The folder, as it was named.
    pub(crate) folder: String,
    /// What was done, in a sentence or two.
    pub(crate) lead: String,
    /// What the reader must know before reading numbers: an unfinished run, missing pictures.
    pub(crate) notices: Vec<String>,
    pub(crate) parts: Vec<Part>,
    /// `table.md`, as HTML.
    pub(crate) table: Option<String>,
    /// Whether `table` is all there is, and so is not folded.
    pub(crate) table_first: bool,
    /// `run.toml`.
    pub(crate) settings: String,
    /// Rules of style that hold the pictures which several panels share.
    pub(crate) style: String,
}

/// Scores, charts and cards that belong together.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) text: String,
    pub(crate) tables: Vec<ScoreTable>,
    pub(crate) charts: Vec<Chart>,
    pub(crate) group: Option<Group>,
}

/// Scores of all encoders.
#[derive(Debug)]
pub(crate) struct ScoreTable {
    pub(crate) caption: String,
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<ScoreRow>,
}

/// Scores of one encoder.
#[derive(Debug)]
pub(crate) struct ScoreRow {
    /// Index among the encoders of the page, for a row that is an encoder's.
    pub(crate) encoder: Option<usize>,
    pub(crate) name: String,
    pub(crate) cells: Vec<ScoreCell>,
}

/// One score.
#[derive(Debug, Default)]
pub(crate) struct ScoreCell {
    pub(crate) value: String,
    /// Such as the ends of the interval.
    pub(crate) under: Option<String>,
    /// The paper's number.
    pub(crate) paper: Option<String>,
    pub(crate) difference: Option<ShownDifference>,
}

/// A difference to the baseline.
#[derive(Debug)]
pub(crate) struct ShownDifference {
    pub(crate) text: String,
    pub(crate) class: &'static str,
    pub(crate) words: &'static str,
}

impl ScoreCell {
    /// A score with its interval.
    pub(crate) fn of(
        score: &Interval,
        difference: Option<&Difference>,
        paper: Option<f64>,
    ) -> Self {
        Self {
            value: format!("{:.3}", score.estimate),
            under: Some(score.ends()),
            paper: paper.map(|paper| format!("{paper:.3}")),
            difference: difference.map(|found| ShownDifference {
                text: found.shown(),
                class: found.side().class(),
                words: found.side().words(),
            }),
        }
    }

    /// Text alone.
    pub(crate) fn plain(value: impl Into<String>) -> Self {
        Self {
            value: value.into(),
            ..Self::default()
        }
    }
}

/// Cards of one kind: the prompts of a score, the phrases of a dataset.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: String,
    /// What a card is: "prompts", "phrases".
    pub(crate) unit: &'static str,
    /// What a right picture or mask is.
    pub(crate) right: &'static str,
    /// Whether the colours of masks are to be explained.
    pub(crate) masks: bool,
    /// What is not shown here, if anything.
    pub(crate) left_out: Option<String>,
    pub(crate) cases: Vec<Cases>,
    pub(crate) cards: Vec<Card>,
}

/// A list of the best or the worst.
#[derive(Debug)]
pub(crate) struct Cases {
    pub(crate) title: String,
    pub(crate) entries: Vec<Case>,
}

/// An entry of it.
#[derive(Debug)]
pub(crate) struct Case {
    /// Id of the card.
    pub(crate) card: String,
    pub(crate) title: String,
    /// By what it is here.
    pub(crate) value: String,
}

/// A prompt or a phrase.
#[derive(Debug)]
pub(crate) struct Card {
    pub(crate) id: String,
    pub(crate) title: String,
    /// Its negation word, where it has one.
    pub(crate) word: Option<String>,
    /// What its negation is about, where that is known.
    pub(crate) kind: Option<String>,
    /// Where it is from.
    pub(crate) label: String,
    pub(crate) notes: Vec<String>,
    /// Whether every encoder has one cell, so that encoders lie side by side.
    pub(crate) single: bool,
    /// The truth of a phrase.
    pub(crate) truth: Option<Panel>,
    pub(crate) columns: Vec<Column>,
    pub(crate) questions: Vec<Question>,
}

/// One encoder on a card.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) encoder: usize,
    pub(crate) name: String,
    /// The score as it is shown, and as it is sorted by; empty where it is not done.
    pub(crate) score: String,
    pub(crate) panels: Vec<Panel>,
}

/// A picture.
#[derive(Debug)]
pub(crate) struct Panel {
    pub(crate) alt: String,
    /// `None` for what is neither right nor wrong.
    pub(crate) right: Option<bool>,
    pub(crate) picture: PictureView,
    /// What tells it from its neighbours, such as a seed: pictures with the same are compared.
    pub(crate) key: String,
}

/// A question with the answers of all encoders.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) text: String,
    pub(crate) about: String,
    pub(crate) expected: String,
    pub(crate) answers: Vec<Answers>,
}

/// The answers about one encoder's pictures, in their order.
#[derive(Debug)]
pub(crate) struct Answers {
    pub(crate) encoder: usize,
    pub(crate) answers: Vec<Answer>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) right: bool,
    /// What the model said in full, how sure it was.
    pub(crate) detail: String,
}
