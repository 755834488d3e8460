//! Table 5 on the page: phrases with what every encoder marked, what is meant, and their IoU.

mod scores;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use image::RgbImage;
use negkit_data::WordList;
use negkit_eval::table5::{Dataset, PhraseRecord, PictureRecord, Settings};
use negkit_image::{Mask, Rle};
use negkit_metrics::{SegmentationProtocol, Thresholds};

use crate::cases::{CaseList, case_lists, shown};
use crate::picture::{self, PictureView};
use crate::report::{Context, left_out};
use crate::run::Run;
use crate::sheet::{SheetRow, overlay};
use crate::view::{Card, Case, Cases, Column, Group, Panel, Part, Section};
use crate::{ReportSettings, Result, markdown};

/// A phrase is right when its IoU is above this.
const RIGHT_IOU: f64 = 0.5;

/// A run of Table 5.
pub(crate) struct Table5Run {
    run: Run,
    settings: Settings,
    encoders: Vec<String>,
    pictures: Vec<Picture>,
    phrases: BTreeMap<Dataset, Vec<Phrase>>,
    /// Items with a record.
    done: usize,
}

struct Picture {
    id: u64,
    size: (u32, u32),
    /// Where it was when the run looked at it.
    path: Option<PathBuf>,
}

/// A phrase, and what was marked for it.
struct Phrase {
    /// Index of the picture.
    picture: usize,
    item: String,
    id: String,
    text: String,
    word: Option<String>,
    /// As compressed run lengths.
    truth: String,
    /// By encoder.
    marked: Vec<Marked>,
}

struct Marked {
    /// As compressed run lengths.
    mask: String,
    /// At the picture's size and the reported threshold.
    iou: f64,
}

impl Table5Run {
    pub(crate) fn open(run: Run) -> Result<Self> {
        let settings: Settings = run.folder.plan().settings()?;
        let encoders = run.encoders(&settings.encoders)?;
        let words = WordList::new(&settings.words);
        let threshold = settings.threshold_index(&Thresholds::clipseg());
        let sources = run.folder.sources()?;
        let records = run.folder.records_so_far::<PictureRecord>()?;
        let done = records.len();
        let mut pictures = Vec::with_capacity(done);
        let mut phrases: BTreeMap<Dataset, Vec<Phrase>> = BTreeMap::new();
        for (item, record) in records {
            let (dataset, id) = Dataset::of_item(&item).ok_or_else(|| {
                let reason = "expected a dataset and the id of a picture, as refcocog/7";
                run.record_error(&item, reason)
            })?;
            let own = phrases.entry(dataset).or_default();
            for phrase in record.phrases {
                let marked = marked(&phrase, &encoders, threshold)
                    .map_err(|reason| run.record_error(&item, reason))?;
                own.push(Phrase {
                    picture: pictures.len(),
                    item: item.clone(),
                    word: words.found_in(&phrase.phrase).map(str::to_owned),
                    id: phrase.id,
                    text: phrase.phrase,
                    truth: phrase.truth,
                    marked,
                });
            }
            pictures.push(Picture {
                id,
                size: record.size,
                path: sources.get(&item).cloned(),
            });
        }
        Ok(Self {
            run,
            settings,
            encoders,
            pictures,
            phrases,
            done,
        })
    }

    pub(crate) fn encoders(&self) -> &[String] {
        &self.encoders
    }

    pub(crate) fn cards(&self, settings: &ReportSettings) -> usize {
        let datasets = self.phrases.keys();
        datasets
            .map(|dataset| {
                self.chosen(*dataset, settings.cases, settings.phrases)
                    .1
                    .len()
            })
            .sum()
    }

    /// The lists of cases of a dataset, and which phrases are shown.
    fn chosen(&self, dataset: Dataset, cases: usize, most: usize) -> (Vec<CaseList>, Vec<usize>) {
        let phrases = self.of(dataset);
        let scores: Vec<Vec<Option<f64>>> = phrases
            .iter()
            .map(|phrase| {
                phrase
                    .marked
                    .iter()
                    .map(|marked| Some(marked.iou))
                    .collect()
            })
            .collect();
        // As the run's table: all others are compared with the first.
        let lists = case_lists(&scores, &self.encoders, 0, cases);
        let shown = shown(phrases.len(), &lists, most);
        (lists, shown)
    }

    fn of(&self, dataset: Dataset) -> &[Phrase] {
        self.phrases.get(&dataset).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn section(&self, context: &mut Context<'_>) -> Result<Section> {
        let mut notices = Vec::new();
        let items = self.run.folder.plan().items().len();
        if self.done < items {
            notices.push(format!(
                "This run is not finished: {} of {items} pictures have a record. Scores and charts \
                 are of these.",
                self.done
            ));
        }
        let mut style = String::new();
        let parts = self.parts(context, &mut notices, &mut style)?;
        notices.extend(context.missing_notice());
        let settings = &self.settings;
        let threshold =
            Thresholds::clipseg().values()[settings.threshold_index(&Thresholds::clipseg())];
        Ok(Section {
            id: context.id.clone(),
            title: "Table 5: referring segmentation, text encoder swapped".to_owned(),
            folder: self.run.path.display().to_string(),
            lead: format!(
                "{} in {}, every picture encoded once for all phrases and encoders. Scores and masks \
                 are at threshold {threshold:.2}.",
                settings.model.name, settings.compute.dtype
            ),
            notices,
            parts,
            table: self
                .run
                .table
                .as_deref()
                .map(|text| markdown::to_html(text, 3)),
            table_first: false,
            settings: self.run.head.clone(),
            style,
        })
    }

    /// The group of a dataset's phrases; the pictures go into the style, each once.
    fn group(
        &self,
        dataset: Dataset,
        context: &mut Context<'_>,
        style: &mut String,
    ) -> Result<Option<Group>> {
        let phrases = self.of(dataset);
        if phrases.is_empty() {
            return Ok(None);
        }
        let (lists, shown) = self.chosen(dataset, context.settings.cases, context.settings.phrases);
        let id = format!("{}-{}", context.id, dataset.key());
        let card_id = |phrase: usize| format!("{id}-{}", phrase + 1);
        let mut classes: BTreeMap<usize, String> = BTreeMap::new();
        let mut cards = Vec::with_capacity(shown.len());
        for &index in &shown {
            let phrase = &phrases[index];
            let class = match classes.get(&phrase.picture) {
                Some(class) => class.clone(),
                None => {
                    let class = format!("{}-p{}", context.id, phrase.picture + 1);
                    self.add_picture(&class, phrase.picture, context, style)?;
                    classes.insert(phrase.picture, class.clone());
                    class
                }
            };
            cards.push(self.card(card_id(index), phrase, &class, context)?);
            context.done();
        }
        let cases = lists.iter().map(|list| Cases {
            title: list.title.clone(),
            entries: list
                .items
                .iter()
                .zip(&list.values)
                .map(|(index, value)| Case {
                    card: card_id(*index),
                    title: phrases[*index].text.clone(),
                    value: list.shown(*value),
                })
                .collect(),
        });
        Ok(Some(Group {
            unit: "phrases",
            right: "A mask is right when its IoU at the picture's full size is above 0.5.",
            masks: true,
            left_out: left_out(cards.len(), phrases.len(), "phrases", "--phrases"),
            cases: cases.collect(),
            cards,
            id,
        }))
    }

    /// Writes the rule of style that shows a picture; where it is not found, its place keeps its shape.
    fn add_picture(
        &self,
        class: &str,
        index: usize,
        context: &mut Context<'_>,
        style: &mut String,
    ) -> Result<()> {
        let picture = &self.pictures[index];
        let (width, height) = picture.size;
        // Writing into a string cannot fail.
        let _ = write!(style, ".{class}{{aspect-ratio:{width}/{height};");
        match self.open_picture(picture, context.settings) {
            Ok(found) => {
                let small = picture::reduced(&found, context.settings.picture_side)?;
                let url = picture::data_url(&small)?;
                let _ = write!(style, "background-image:url({url});");
                if picture::is_pixel_art(small.dimensions()) {
                    style.push_str("image-rendering:pixelated;");
                }
            }
            Err(reason) => context.missing(&reason),
        }
        style.push_str("}\n");
        Ok(())
    }

    /// A picture, where the run found it or in one of the folders that the user names.
    fn open_picture(
        &self,
        picture: &Picture,
        settings: &ReportSettings,
    ) -> std::result::Result<RgbImage, String> {
        let path = picture.path.as_ref().ok_or_else(|| {
            format!(
                "the run does not say where picture {} is; the same `negkit eval` command notes it, \
                 without doing anything again",
                picture.id
            )
        })?;
        let others = path.file_name().into_iter().flat_map(|name| {
            let folders = settings.pictures.iter();
            folders.map(move |folder| folder.join(name))
        });
        let found = std::iter::once(path.clone()).chain(others);
        let found = found.into_iter().find(|path| path.is_file());
        let found = found.ok_or_else(|| {
            format!(
                "{} is not there; --pictures FOLDER names another place",
                path.display()
            )
        })?;
        let opened = picture::open(&found)?;
        match opened.dimensions() == picture.size {
            true => Ok(opened),
            false => Err(format!(
                "{}: expected {}x{} pixels as the run found, found {}x{}",
                found.display(),
                picture.size.0,
                picture.size.1,
                opened.width(),
                opened.height()
            )),
        }
    }

    fn mask(&self, phrase: &Phrase, packed: &str) -> Result<Mask> {
        let (width, height) = self.pictures[phrase.picture].size;
        let mask = Rle::from_compressed(width, height, packed).and_then(|runs| runs.to_mask());
        mask.map_err(|error| {
            let reason = format!("phrase {}: {error}", phrase.id);
            self.run.record_error(&phrase.item, reason)
        })
    }

    fn card(
        &self,
        id: String,
        phrase: &Phrase,
        class: &str,
        context: &mut Context<'_>,
    ) -> Result<Card> {
        let side = context.settings.picture_side;
        let truth = self.mask(phrase, &phrase.truth)?;
        let view = |mask: &Mask| -> Result<PictureView> {
            Ok(PictureView::Layers {
                class: class.to_owned(),
                mask: picture::mask_url(&picture::compare(mask, &truth, side))?,
            })
        };
        let mut columns = Vec::with_capacity(self.encoders.len());
        for (name, marked) in self.encoders.iter().zip(&phrase.marked) {
            let mask = self.mask(phrase, &marked.mask)?;
            columns.push(Column {
                encoder: context.encoder(name),
                name: name.clone(),
                score: format!("{:.3}", marked.iou),
                panels: vec![Panel {
                    alt: format!("what {name} marks, IoU {:.3}: {}", marked.iou, phrase.text),
                    right: Some(marked.iou > RIGHT_IOU),
                    picture: view(&mask)?,
                    key: String::new(),
                }],
            });
        }
        Ok(Card {
            id,
            title: phrase.text.clone(),
            word: phrase.word.clone(),
            kind: None,
            label: format!(
                "picture {}, phrase {}",
                self.pictures[phrase.picture].id, phrase.id
            ),
            notes: Vec::new(),
            single: true,
            truth: Some(Panel {
                alt: format!("what is meant: {}", phrase.text),
                right: None,
                picture: view(&truth)?,
                key: String::new(),
            }),
            columns,
            questions: Vec::new(),
        })
    }

    pub(crate) fn sheet_rows(
        &self,
        settings: &ReportSettings,
        rows: usize,
    ) -> Result<Vec<SheetRow>> {
        let mut found = Vec::new();
        for dataset in self.phrases.keys() {
            let most = rows.div_ceil(self.phrases.len());
            let cases = most.div_ceil(2 * self.encoders.len()).min(settings.cases);
            let (_, shown) = self.chosen(*dataset, cases, most);
            for index in shown {
                let phrase = &self.of(*dataset)[index];
                let picture = &self.pictures[phrase.picture];
                // A sheet of masks alone would say nothing.
                let Ok(picture) = self.open_picture(picture, settings) else {
                    continue;
                };
                let truth = self.mask(phrase, &phrase.truth)?;
                let mut panels = vec![(overlay(&picture, &truth, &truth), "meant".to_owned())];
                for (name, marked) in self.encoders.iter().zip(&phrase.marked) {
                    let mask = self.mask(phrase, &marked.mask)?;
                    let caption = format!("{name}: IoU {:.2}", marked.iou);
                    panels.push((overlay(&picture, &mask, &truth), caption));
                }
                found.push(SheetRow {
                    heading: phrase.text.clone(),
                    panels,
                });
            }
        }
        Ok(found)
    }
}

/// What was marked of a phrase, by encoder.
fn marked(
    phrase: &PhraseRecord,
    encoders: &[String],
    threshold: usize,
) -> std::result::Result<Vec<Marked>, String> {
    let names = phrase.encoders.iter().map(|found| &found.encoder);
    if !names.clone().eq(encoders) {
        let names: Vec<&str> = names.map(String::as_str).collect();
        return Err(format!(
            "phrase {}: expected the encoders {}, found {}",
            phrase.id,
            encoders.join(", "),
            names.join(", ")
        ));
    }
    let marked = phrase.encoders.iter().map(|found| {
        let confusions = found.phrasecut.confusions();
        let pixels = confusions.get(threshold).ok_or_else(|| {
            format!(
                "phrase {}: expected pixels at threshold {threshold} of 49, found {} thresholds",
                phrase.id,
                confusions.len()
            )
        })?;
        Ok(Marked {
            mask: found.mask.clone(),
            iou: SegmentationProtocol::PhraseCut.foreground_iou(pixels),
        })
    });
    marked.collect()
}

impl Table5Run {
    /// A part for every dataset: its scores, curves and phrases.
    fn parts(
        &self,
        context: &mut Context<'_>,
        notices: &mut Vec<String>,
        style: &mut String,
    ) -> Result<Vec<Part>> {
        let mut parts = self.score_parts(context, notices)?;
        for dataset in self.phrases.keys() {
            let Some(group) = self.group(*dataset, context, style)? else {
                continue;
            };
            let id = format!("{}-{}", context.id, dataset.key());
            match parts.iter_mut().find(|part| part.id == id) {
                Some(part) => part.group = Some(group),
                None => parts.push(Part {
                    id,
                    title: dataset.to_string(),
                    group: Some(group),
                    ..Part::default()
                }),
            }
        }
        Ok(parts)
    }
}
