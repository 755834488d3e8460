//! Table 4 on the page: prompts with every encoder's pictures and what was answered about them.

mod scores;

use std::collections::HashMap;

use negkit_eval::table4::{self, Table4Record, Table4Settings, Task, negation_word};

use crate::cases::{CaseList, case_lists, shown};
use crate::picture::{self, PictureView};
use crate::report::{Context, left_out};
use crate::run::Run;
use crate::sheet::{SheetRow, strip};
use crate::view::{
    Answer, Answers, Card, Case, Cases, Column, Group, Panel, Part, Question, Section,
};
use crate::{ReportSettings, Result, markdown};

/// A run of Table 4.
pub(crate) struct Table4Run {
    run: Run,
    settings: Table4Settings,
    encoders: Vec<String>,
    /// The encoder that the others are compared with.
    baseline: usize,
    prompts: Vec<Prompt>,
    /// Items with a record.
    done: usize,
}

/// A prompt with what was painted for it.
struct Prompt {
    task: Task,
    id: String,
    text: String,
    kind: Option<String>,
    word: Option<String>,
    /// By encoder.
    records: Vec<Option<Table4Record>>,
}

impl Prompt {
    fn scores(&self) -> Vec<Option<f64>> {
        let records = self.records.iter();
        records.map(|record| record.as_ref().map(score)).collect()
    }

    fn is_complete(&self) -> bool {
        self.records.iter().all(Option::is_some)
    }
}

/// Whether all answers about a picture are right.
fn is_right(picture: &table4::PictureRecord) -> bool {
    !picture.answers.is_empty() && picture.answers.iter().all(|answer| answer.right)
}

/// The score of a prompt's pictures, as Neg Score and TIFA have it.
fn score(record: &Table4Record) -> f64 {
    let of_picture = |picture: &table4::PictureRecord| match record.task {
        Task::NegScore => f64::from(u8::from(is_right(picture))),
        Task::Tifa => {
            let right = picture.answers.iter().filter(|answer| answer.right);
            right.count() as f64 / picture.answers.len().max(1) as f64
        }
    };
    record.pictures.iter().map(of_picture).sum::<f64>() / record.pictures.len().max(1) as f64
}

impl Table4Run {
    pub(crate) fn open(run: Run) -> Result<Self> {
        let settings: Table4Settings = run.folder.plan().settings()?;
        let encoders = run.encoders(&settings.text_encoders)?;
        let records = run.folder.records_so_far::<Table4Record>()?;
        let done = records.len();
        let mut prompts: Vec<Prompt> = Vec::new();
        let mut places: HashMap<(Task, String), usize> = HashMap::new();
        for (item, record) in records {
            let encoder = encoders
                .iter()
                .position(|name| *name == record.text_encoder);
            let encoder = encoder.ok_or_else(|| {
                run.record_error(
                    &item,
                    format!(
                        "expected one of the encoders {}, found '{}'",
                        encoders.join(", "),
                        record.text_encoder
                    ),
                )
            })?;
            let place = *places
                .entry((record.task, record.id.clone()))
                .or_insert_with(|| {
                    prompts.push(Prompt {
                        task: record.task,
                        id: record.id.clone(),
                        text: record.prompt.clone(),
                        kind: record.kind.clone(),
                        word: (record.task == Task::NegScore)
                            .then(|| negation_word(&record.prompt)),
                        records: encoders.iter().map(|_| None).collect(),
                    });
                    prompts.len() - 1
                });
            let prompt = &mut prompts[place];
            if prompt.text != record.prompt {
                let reason = format!(
                    "expected the prompt '{}', found '{}'",
                    prompt.text, record.prompt
                );
                return Err(run.record_error(&item, reason));
            }
            prompt.records[encoder] = Some(record);
        }
        let baseline = encoders
            .iter()
            .position(|name| negkit::is_own_encoder(name));
        Ok(Self {
            run,
            settings,
            baseline: baseline.unwrap_or(0),
            encoders,
            prompts,
            done,
        })
    }

    pub(crate) fn encoders(&self) -> &[String] {
        &self.encoders
    }

    pub(crate) fn cards(&self, settings: &ReportSettings) -> usize {
        let count = |task| {
            self.chosen(task, settings.cases, settings.prompts)
                .shown
                .len()
        };
        count(Task::NegScore) + count(Task::Tifa)
    }

    pub(crate) fn section(&self, context: &mut Context<'_>) -> Result<Section> {
        let mut parts = self.score_parts(context)?;
        for task in [Task::NegScore, Task::Tifa] {
            parts.extend(self.cards_part(task, context)?);
        }
        let mut notices = Vec::new();
        let items = self.run.folder.plan().items().len();
        if self.done < items {
            let complete = self.prompts.iter().filter(|prompt| prompt.is_complete());
            notices.push(format!(
                "This run is not finished: {} of {items} items (a prompt with an encoder) have a \
                 record. Scores and charts are of the {} prompts that are done with every encoder.",
                self.done,
                complete.count()
            ));
        }
        notices.extend(context.missing_notice());
        Ok(Section {
            id: context.id.clone(),
            title: "Table 4: pictures, text encoder swapped".to_owned(),
            folder: self.run.path.display().to_string(),
            lead: self.lead(),
            notices,
            parts,
            table: self
                .run
                .table
                .as_deref()
                .map(|text| markdown::to_html(text, 3)),
            table_first: false,
            settings: self.run.head.clone(),
            style: String::new(),
        })
    }

    fn lead(&self) -> String {
        let settings = &self.settings;
        format!(
            "{} at scale {}: {} prompts with a negation, {} pictures of each; {} prompts of TIFA, {} \
             of each. {} steps of {}, guidance {}, {}, {} × {} pixels; every encoder gets the \
             same noise. {} answers the questions.",
            settings.unet.name,
            settings.scale,
            settings.neg_prompts,
            settings.images_per_prompt,
            settings.tifa_prompts,
            settings.tifa_images_per_prompt,
            settings.steps,
            settings.scheduler,
            settings.guidance_scale,
            settings.noise,
            settings.width,
            settings.height,
            settings.answerer.name
        )
    }

    fn of(&self, task: Task) -> Vec<&Prompt> {
        let own = self.prompts.iter().filter(|prompt| prompt.task == task);
        own.collect()
    }

    fn chosen(&self, task: Task, cases: usize, most: usize) -> Chosen<'_> {
        let prompts = self.of(task);
        let scores: Vec<_> = prompts.iter().map(|prompt| prompt.scores()).collect();
        let lists = case_lists(&scores, &self.encoders, self.baseline, cases);
        Chosen {
            shown: shown(prompts.len(), &lists, most),
            prompts,
            lists,
        }
    }

    fn cards_part(&self, task: Task, context: &mut Context<'_>) -> Result<Option<Part>> {
        let chosen = self.chosen(task, context.settings.cases, context.settings.prompts);
        if chosen.prompts.is_empty() {
            return Ok(None);
        }
        let (key, title, right) = match task {
            Task::NegScore => (
                "neg",
                "Prompts with a negation",
                "A picture is right when what the prompt affirms is seen in it and what it denies is \
                 not. The score of a prompt is the share of right pictures.",
            ),
            Task::Tifa => (
                "tifa",
                "Prompts of TIFA",
                "A picture is right when all its questions are answered rightly. The score of a \
                 prompt is the share of right answers.",
            ),
        };
        let id = format!("{}-{key}", context.id);
        let card_id = |item: usize| format!("{id}-{}", item + 1);
        let mut cards = Vec::with_capacity(chosen.shown.len());
        for &item in &chosen.shown {
            cards.push(self.card(card_id(item), chosen.prompts[item], context)?);
            context.done();
        }
        let cases = chosen.lists.iter().map(|list| Cases {
            title: list.title.clone(),
            entries: list
                .items
                .iter()
                .zip(&list.values)
                .map(|(item, value)| Case {
                    card: card_id(*item),
                    title: chosen.prompts[*item].text.clone(),
                    value: list.shown(*value),
                })
                .collect(),
        });
        let charts = match task {
            Task::NegScore => self.word_and_kind_charts(context)?,
            Task::Tifa => self.type_charts(context)?,
        };
        Ok(Some(Part {
            title: title.to_owned(),
            charts,
            group: Some(Group {
                unit: "prompts",
                right,
                masks: false,
                left_out: left_out(cards.len(), chosen.prompts.len(), "prompts", "--prompts"),
                cases: cases.collect(),
                cards,
                id: id.clone(),
            }),
            id,
            ..Part::default()
        }))
    }

    fn card(&self, id: String, prompt: &Prompt, context: &mut Context<'_>) -> Result<Card> {
        let mut columns = Vec::with_capacity(self.encoders.len());
        let mut notes = Vec::new();
        for (name, record) in self.encoders.iter().zip(&prompt.records) {
            let mut panels = Vec::new();
            for picture in record.iter().flat_map(|record| &record.pictures) {
                panels.push(self.panel(prompt, name, picture, context)?);
            }
            if let Some(cut) = record.as_ref().and_then(|record| record.truncated.as_ref()) {
                notes.push(format!("The end did not fit {name}: “{cut}”"));
            }
            columns.push(Column {
                encoder: context.encoder(name),
                name: name.clone(),
                score: record
                    .as_ref()
                    .map_or(String::new(), |r| format!("{:.2}", score(r))),
                panels,
            });
        }
        Ok(Card {
            id,
            title: prompt.text.clone(),
            word: prompt.word.clone(),
            kind: prompt.kind.clone(),
            label: format!("prompt {}", prompt.id),
            notes,
            single: columns.iter().all(|column| column.panels.len() <= 1),
            truth: None,
            columns,
            questions: self.questions(prompt, context),
        })
    }

    fn panel(
        &self,
        prompt: &Prompt,
        encoder: &str,
        record: &table4::PictureRecord,
        context: &mut Context<'_>,
    ) -> Result<Panel> {
        let view = match self.open_picture(record) {
            Ok(found) => {
                let small = picture::reduced(&found, context.settings.picture_side)?;
                PictureView::Inline {
                    url: picture::data_url(&small)?,
                    pixels: picture::is_pixel_art(small.dimensions()),
                }
            }
            Err(reason) => {
                context.missing(&reason);
                PictureView::Missing(reason)
            }
        };
        Ok(Panel {
            alt: format!("{encoder}, seed {}: {}", record.seed, prompt.text),
            right: Some(is_right(record)),
            picture: view,
            key: record.seed.to_string(),
        })
    }

    fn open_picture(
        &self,
        record: &table4::PictureRecord,
    ) -> std::result::Result<image::RgbImage, String> {
        match picture::is_within(&record.file) {
            true => picture::open(&self.run.path.join(&record.file)),
            false => Err(format!(
                "expected a file in the folder of the run, found '{}'",
                record.file
            )),
        }
    }

    /// Every question with the answers about all pictures; a question is known by its place.
    fn questions(&self, prompt: &Prompt, context: &Context<'_>) -> Vec<Question> {
        let pictures = || {
            prompt
                .records
                .iter()
                .flatten()
                .flat_map(|record| &record.pictures)
        };
        let Some(first) = pictures().next() else {
            return Vec::new();
        };
        let questions = first.answers.iter().enumerate();
        let questions = questions.map(|(place, asked)| Question {
            text: asked.question.clone(),
            about: asked.element_type.clone(),
            expected: asked.expected.clone(),
            answers: self
                .encoders
                .iter()
                .zip(&prompt.records)
                .map(|(name, record)| Answers {
                    encoder: context.encoder(name),
                    answers: record
                        .iter()
                        .flat_map(|record| &record.pictures)
                        .filter_map(|picture| picture.answers.get(place))
                        .map(answer)
                        .collect(),
                })
                .collect(),
        });
        questions.collect()
    }

    pub(crate) fn sheet_rows(
        &self,
        settings: &ReportSettings,
        rows: usize,
    ) -> Result<Vec<SheetRow>> {
        let mut found = Vec::new();
        for task in [Task::NegScore, Task::Tifa] {
            let most = rows.div_ceil(2);
            let lists = most.div_ceil(2 * self.encoders.len());
            let chosen = self.chosen(task, lists.min(settings.cases), most);
            for &item in &chosen.shown {
                let prompt = chosen.prompts[item];
                let mut panels = Vec::new();
                for (name, record) in self.encoders.iter().zip(&prompt.records) {
                    let Some(record) = record else { continue };
                    let mut pictures = Vec::new();
                    for picture in &record.pictures {
                        if let Ok(found) = self.open_picture(picture) {
                            pictures.push((found, is_right(picture)));
                        }
                    }
                    if !pictures.is_empty() {
                        let caption = format!("{name}: {:.2}", score(record));
                        panels.push((strip(&pictures)?, caption));
                    }
                }
                found.push(SheetRow {
                    heading: prompt.text.clone(),
                    panels,
                });
            }
        }
        Ok(found)
    }
}

/// The prompts of a score, and which of them are shown.
struct Chosen<'a> {
    prompts: Vec<&'a Prompt>,
    lists: Vec<CaseList>,
    shown: Vec<usize>,
}

fn answer(record: &table4::AnswerRecord) -> Answer {
    let mut detail = Vec::new();
    if let Some(confidence) = record.confidence {
        detail.push(format!("confidence {confidence:.2}"));
    }
    if let Some(choice) = record
        .choice
        .as_ref()
        .filter(|choice| **choice != record.answer)
    {
        detail.push(format!("taken for “{choice}”"));
    }
    let text = match &record.refusal {
        Some(refusal) => {
            detail.push(format!("no answer, {}: “{}”", refusal.reason, refusal.raw));
            "no answer".to_owned()
        }
        None => record.answer.clone(),
    };
    Answer {
        text,
        right: record.right,
        detail: detail.join("; "),
    }
}
