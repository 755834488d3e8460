//! From folders to a page and a sheet.

use std::path::PathBuf;

use image::RgbImage;
use negkit_eval::{table4, table5};

use crate::chart::ChartEncoder;
use crate::other::OtherRun;
use crate::run::Run;
use crate::sheet::{self, SheetRow};
use crate::table4::Table4Run;
use crate::table5::Table5Run;
use crate::view::Section;
use crate::{ReportError, Result, page};

/// How much a report shows. Scores and charts are of everything, whatever is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportSettings {
    /// Prompts of each score that are shown with their pictures.
    pub prompts: usize,
    /// Phrases of each dataset that are shown with their masks.
    pub phrases: usize,
    /// Entries of each list of best and worst cases; these are shown whatever the other limits say.
    pub cases: usize,
    /// Pictures are brought to at most so many pixels a side.
    pub picture_side: u32,
    /// Folders to look in for pictures that are not where a run found them.
    pub pictures: Vec<PathBuf>,
}

impl Default for ReportSettings {
    /// All prompts of Neg Score at either scale, in a page of about ten megabytes.
    fn default() -> Self {
        Self {
            prompts: 120,
            phrases: 120,
            cases: 5,
            picture_side: 256,
            pictures: Vec::new(),
        }
    }
}

/// A page that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The file.
    pub html: String,
    /// What it does not show, and what of the runs is not finished, a sentence each.
    pub notices: Vec<String>,
}

/// Runs that are looked at together.
///
/// ```no_run
/// use negkit_report::{Report, ReportSettings};
///
/// let report = Report::open(&["out/table4".into()], ReportSettings::default())?;
/// std::fs::write("report.html", report.page(&mut |_, _| {})?.html)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Report {
    runs: Vec<AnyRun>,
    encoders: Vec<String>,
    settings: ReportSettings,
}

/// A run of a table that has a page of its own, or of another.
enum AnyRun {
    Table4(Box<Table4Run>),
    Table5(Box<Table5Run>),
    Other(Box<OtherRun>),
}

/// What a section needs to know of the page.
pub(crate) struct Context<'a> {
    pub(crate) settings: &'a ReportSettings,
    /// Names of all encoders of the page.
    encoders: &'a [String],
    /// Begins the ids of the section.
    pub(crate) id: String,
    cards: &'a mut dyn FnMut(),
    /// Pictures that could not be shown, and why the first could not.
    missing: usize,
    first_missing: Option<String>,
}

impl Context<'_> {
    /// An encoder's index on the page.
    pub(crate) fn encoder(&self, name: &str) -> usize {
        let found = self.encoders.iter().position(|known| known == name);
        found.unwrap_or_default()
    }

    pub(crate) fn chart_encoder(&self, name: &str) -> ChartEncoder {
        ChartEncoder {
            encoder: self.encoder(name),
            name: name.to_owned(),
        }
    }

    /// Another card is done.
    pub(crate) fn done(&mut self) {
        (self.cards)();
    }

    /// Counts a picture that cannot be shown.
    pub(crate) fn missing(&mut self, reason: &str) {
        self.missing += 1;
        self.first_missing.get_or_insert_with(|| reason.to_owned());
    }

    /// What is to be said of these.
    pub(crate) fn missing_notice(&self) -> Option<String> {
        let first = self.first_missing.as_ref()?;
        Some(match self.missing {
            1 => format!("One picture cannot be shown: {first}."),
            missing => format!("{missing} pictures cannot be shown; the first: {first}."),
        })
    }
}

impl Report {
    /// Opens runs: folders that `negkit eval` wrote, finished or not.
    ///
    /// # Errors
    /// When a folder is no run or is named twice, or one of its files is broken.
    pub fn open(runs: &[PathBuf], settings: ReportSettings) -> Result<Self> {
        if runs.is_empty() {
            return Err(ReportError::NoRuns);
        }
        if let Some(twice) = (1..runs.len()).find(|index| runs[..*index].contains(&runs[*index])) {
            return Err(ReportError::Twice {
                path: runs[twice].clone(),
            });
        }
        let runs = runs
            .iter()
            .map(|path| AnyRun::open(Run::open(path)?))
            .collect::<Result<Vec<_>>>()?;
        let mut encoders: Vec<String> = Vec::new();
        for name in runs.iter().flat_map(AnyRun::encoders) {
            if !encoders.contains(&name) {
                encoders.push(name);
            }
        }
        Ok(Self {
            runs,
            encoders,
            settings,
        })
    }

    /// The page: one file that needs no other and no network. `progress` is told how many of how many
    /// cards are done.
    ///
    /// # Errors
    /// When a run's summary or records are not what its settings say, or a finished run has no score.
    pub fn page(&self, progress: &mut dyn FnMut(usize, usize)) -> Result<Page> {
        let cards = self.runs.iter().map(|run| run.cards(&self.settings)).sum();
        let mut done = 0;
        let mut card = || {
            done += 1;
            progress(done, cards);
        };
        let mut sections = Vec::with_capacity(self.runs.len());
        for (index, run) in self.runs.iter().enumerate() {
            let mut context = Context {
                settings: &self.settings,
                encoders: &self.encoders,
                id: format!("run{}", index + 1),
                cards: &mut card,
                missing: 0,
                first_missing: None,
            };
            sections.push(run.section(&mut context)?);
        }
        let notices = sections.iter().flat_map(|section| {
            let groups = section.parts.iter().filter_map(|part| part.group.as_ref());
            let left_out = groups.filter_map(|group| group.left_out.as_ref());
            let all = section.notices.iter().chain(left_out);
            all.map(move |notice| format!("{}: {notice}", section.folder))
        });
        Ok(Page {
            notices: notices.collect(),
            html: page::render(&self.encoders, &sections)?,
        })
    }

    /// A contact sheet of about `rows` prompts and phrases, the best and the worst among them: a row
    /// each, with every encoder's pictures.
    ///
    /// # Errors
    /// When there is no picture, or too many of them for one sheet.
    pub fn sheet(&self, rows: usize) -> Result<RgbImage> {
        let each = rows.div_ceil(self.runs.len()).max(1);
        let mut all: Vec<SheetRow> = Vec::new();
        for run in &self.runs {
            all.extend(run.sheet_rows(&self.settings, each)?);
        }
        sheet::render(all)
    }
}

impl AnyRun {
    fn open(run: Run) -> Result<Self> {
        Ok(match run.folder.plan().table() {
            table4::TABLE => Self::Table4(Box::new(Table4Run::open(run)?)),
            table5::TABLE => Self::Table5(Box::new(Table5Run::open(run)?)),
            _ => Self::Other(Box::new(OtherRun::open(run)?)),
        })
    }

    fn encoders(&self) -> Vec<String> {
        match self {
            Self::Table4(run) => run.encoders().to_vec(),
            Self::Table5(run) => run.encoders().to_vec(),
            Self::Other(_) => Vec::new(),
        }
    }

    /// How many cards it shows.
    fn cards(&self, settings: &ReportSettings) -> usize {
        match self {
            Self::Table4(run) => run.cards(settings),
            Self::Table5(run) => run.cards(settings),
            Self::Other(_) => 0,
        }
    }

    fn section(&self, context: &mut Context<'_>) -> Result<Section> {
        match self {
            Self::Table4(run) => run.section(context),
            Self::Table5(run) => run.section(context),
            Self::Other(run) => Ok(run.section(&context.id)),
        }
    }

    fn sheet_rows(&self, settings: &ReportSettings, rows: usize) -> Result<Vec<SheetRow>> {
        match self {
            Self::Table4(run) => run.sheet_rows(settings, rows),
            Self::Table5(run) => run.sheet_rows(settings, rows),
            Self::Other(_) => Ok(Vec::new()),
        }
    }
}

/// What is not shown of `count` prompts or phrases.
pub(crate) fn left_out(shown: usize, count: usize, unit: &str, flag: &str) -> Option<String> {
    (shown < count).then(|| {
        format!(
            "{shown} of {count} {unit} are shown, the best and the worst among them; the other {} \
             count in all scores and charts, and {flag} {count} shows them too.",
            count - shown
        )
    })
}
