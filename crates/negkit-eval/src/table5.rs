//! Table 5: referring segmentation with other text encoders in the stock one's place.
//!
//! ```text
//! Data (PhraseCut, negated RefCOCOg) + Settings -> Table5::plan -> RunFolder
//! Table5::run: picture -> PhraseMarker -> PixelCounts of every phrase and encoder -> PictureRecord
//! finals: records -> scores in both protocols, intervals, differences, the table
//! ```
//!
//! An item of the run is a picture, so that a picture is encoded **once** for all its phrases and all
//! encoders. Its record holds, for every phrase, the pixels between the 49 thresholds
//! ([`PixelCounts`]): all scores at all thresholds, their intervals and their differences follow from
//! these, and no probability need be kept or computed again.
//!
//! Which mean IoU the paper's table has is not known; so the run reports CLIPSeg's protocol and
//! PhraseCut's, and in each the mean over phrases and the cumulative foreground IoU.

mod data;
mod finals;
mod marker;
mod table;

use std::error::Error;
use std::time::{Duration, Instant};

use negkit_data::{DataError, open_picture};
use negkit_image::{Mask, Rle};
use negkit_metrics::{Bootstrap, MetricsError, PixelCounts, Thresholds};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use data::{
    Dataset, DatasetFiles, DatasetSource, PictureItem, PlannedPhrase, Table5Data, Truth,
    WorldCounts, write_world,
};
pub use finals::{finals, finals_so_far, paper_mean_iou};
pub use marker::{ClipSegMarker, Marked, PhraseMarker};

use crate::{ComputeUsed, ModelUsed, Plan, RunError, RunFolder, Shard, Worked};

/// The name of the table in `run.toml`.
pub const TABLE: &str = "table5";

/// The threshold at which CLIPSeg's paper gives its foreground IoU on PhraseCut.
pub const PAPER_THRESHOLD: f32 = 0.3;

/// Why Table 5 cannot be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Table5Error {
    /// The run's folder cannot be used.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A dataset cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The drawn datasets cannot be written.
    #[error(transparent)]
    World(#[from] negkit_world::datasets::DatasetError),
    /// Probabilities cannot be scored: NaN, or not as many as pixels.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// A mask cannot be packed or unpacked.
    #[error(transparent)]
    Picture(#[from] negkit_image::Error),
    /// The model failed.
    #[error("{0}")]
    Marker(Box<dyn Error + Send + Sync>),
    /// The model did not answer for every phrase with every encoder.
    #[error("expected {expected} {what} of the model, found {found}")]
    Answers {
        /// Of what there should have been more or fewer.
        what: &'static str,
        /// How many there should be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// A phrase of several is empty.
    #[error("phrase {id} of picture {picture} has no words: expected at least one")]
    EmptyPhrase {
        /// The picture's id.
        picture: u64,
        /// The phrase's id.
        id: String,
    },
    /// A dataset has nothing to mark.
    #[error(
        "{dataset} gives no phrase: expected phrases in its split, for RefCOCOg such with one of \
         the words {words}"
    )]
    NoPhrases {
        /// The dataset.
        dataset: Dataset,
        /// The words of negation, as a list.
        words: String,
    },
    /// No picture of a dataset could be opened.
    #[error(
        "none of the {pictures} pictures of {dataset} could be opened, so nothing can be scored; \
         the first: {first}"
    )]
    NoPictures {
        /// The dataset.
        dataset: Dataset,
        /// How many pictures it has.
        pictures: usize,
        /// What is wrong with the first.
        first: String,
    },
    /// A run without an encoder.
    #[error("there is no text encoder to compare: expected at least one")]
    NoEncoders,
    /// Two encoders of one name.
    #[error("two text encoders are called '{name}': expected a name of its own for each")]
    SameName {
        /// The name.
        name: String,
    },
    /// A record that does not belong to the settings of its run.
    #[error("item '{item}' does not fit the settings of the run: {reason}")]
    Record {
        /// The item.
        item: String,
        /// Expected and found.
        reason: String,
    },
}

/// The result of making Table 5.
pub type Result<T> = std::result::Result<T, Table5Error>;

/// At which size the table is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// Drawn scenes and the small models.
    Mini,
    /// The published datasets and models.
    Paper,
}

/// All that decides the result besides the pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Drawn scenes or photos.
    pub scale: Scale,
    /// Where and in what the model computes.
    #[serde(flatten)]
    pub compute: ComputeUsed,
    /// Where scores are reported; all 49 thresholds are counted. The nearest of them is taken.
    pub threshold: f64,
    /// Words of which a RefCOCOg expression must have one.
    pub words: Vec<String>,
    /// CLIPSeg.
    pub model: ModelUsed,
    /// How intervals are drawn.
    pub bootstrap: Bootstrap,
    /// The text encoders, in the order of the table.
    pub encoders: Vec<ModelUsed>,
    /// The files that phrases and truth are from.
    pub datasets: Vec<DatasetFiles>,
}

impl Settings {
    /// The index of the threshold at which scores are reported.
    pub fn threshold_index(&self, thresholds: &Thresholds) -> usize {
        thresholds.nearest(self.threshold as f32)
    }

    fn check(&self) -> Result<()> {
        if self.encoders.is_empty() {
            return Err(Table5Error::NoEncoders);
        }
        for (index, encoder) in self.encoders.iter().enumerate() {
            let same = |other: &ModelUsed| other.name == encoder.name;
            if self.encoders[..index].iter().any(same) {
                return Err(Table5Error::SameName {
                    name: encoder.name.clone(),
                });
            }
        }
        Ok(())
    }
}

/// What was counted of a picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PictureRecord {
    /// What is wrong with the picture; it then has no phrases.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fault: Option<String>,
    /// Width and height in pixels, by the dataset.
    pub size: (u32, u32),
    /// Its phrases.
    pub phrases: Vec<PhraseRecord>,
}

/// What was counted of a phrase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhraseRecord {
    /// The phrase's id in the dataset.
    pub id: String,
    /// The phrase.
    pub phrase: String,
    /// What it means, as COCO's compressed run lengths at the picture's size.
    pub truth: String,
    /// What every encoder marked.
    pub encoders: Vec<EncoderRecord>,
}

/// What was counted of a phrase with one encoder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncoderRecord {
    /// The encoder.
    pub encoder: String,
    /// The mask at the reported threshold, as COCO's compressed run lengths at the picture's size.
    pub mask: String,
    /// Pixels at the model's resolution, for CLIPSeg's protocol.
    pub clipseg: PixelCounts,
    /// Pixels at the picture's size, for PhraseCut's protocol.
    pub phrasecut: PixelCounts,
}

/// How much a run has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table5Calls {
    /// Pictures, each encoded once.
    pub pictures: usize,
    /// Phrases, each encoded once by every text encoder.
    pub phrases: usize,
    /// Masks, each decoded once: every phrase with every encoder.
    pub masks: usize,
}

/// A run of Table 5 that is ready to begin.
#[derive(Debug, Clone)]
pub struct Table5 {
    settings: Settings,
    pictures: Vec<PictureItem>,
    thresholds: Thresholds,
}

impl Table5 {
    /// Puts settings and data together.
    ///
    /// # Errors
    /// When there is no encoder, two have one name, or a phrase is empty.
    pub fn new(settings: Settings, data: Table5Data) -> Result<Self> {
        settings.check()?;
        for picture in &data.pictures {
            let empty = |phrase: &&PlannedPhrase| phrase.text.trim().is_empty();
            if let Some(phrase) = picture.phrases.iter().find(empty) {
                return Err(Table5Error::EmptyPhrase {
                    picture: picture.id,
                    id: phrase.id.clone(),
                });
            }
        }
        Ok(Self {
            settings,
            pictures: data.pictures,
            thresholds: Thresholds::clipseg(),
        })
    }

    /// The plan of the run: an item a picture.
    ///
    /// # Errors
    /// When there are no pictures, or one is there twice.
    pub fn plan(&self) -> Result<Plan> {
        let items = self.pictures.iter().map(PictureItem::key).collect();
        Ok(Plan::new(TABLE, &self.settings, items)?)
    }

    /// How much the pictures of a shard have to do that `is_to_do`.
    pub fn calls(&self, is_to_do: impl Fn(usize) -> bool) -> Table5Calls {
        let mut calls = Table5Calls {
            pictures: 0,
            phrases: 0,
            masks: 0,
        };
        for (_, picture) in (self.pictures.iter().enumerate()).filter(|(at, _)| is_to_do(*at)) {
            calls.pictures += 1;
            calls.phrases += picture.phrases.len();
            calls.masks += picture.phrases.len() * self.settings.encoders.len();
        }
        calls
    }

    /// How long a picture takes: the first one and the last one are marked and counted, and
    /// forgotten.
    ///
    /// # Errors
    /// When the model fails.
    pub fn measure(&self, marker: &mut dyn PhraseMarker) -> Result<Duration> {
        let ends = [self.pictures.first(), self.pictures.last()];
        let begun = Instant::now();
        let mut done = 0;
        for picture in ends.into_iter().flatten() {
            self.count(picture, marker)?;
            done += 1;
        }
        Ok(begun.elapsed() / done.max(1))
    }

    /// Marks and counts the pictures of a shard that have no record yet.
    ///
    /// # Errors
    /// As [`RunFolder::work`]. A picture that is missing, broken, or of another size than its dataset
    /// says ends nothing: its record says so, and the table names it.
    pub fn run(
        &self,
        run: &RunFolder,
        shard: Shard,
        marker: &mut dyn PhraseMarker,
    ) -> Result<Worked> {
        let sources = self
            .pictures
            .iter()
            .map(|picture| (picture.key(), &picture.path));
        run.note_sources(sources)?;
        Ok(run.work(shard, |position, _| {
            self.count(&self.pictures[position], marker)
        })?)
    }

    /// What is found in one picture.
    fn count(&self, picture: &PictureItem, marker: &mut dyn PhraseMarker) -> Result<PictureRecord> {
        let (width, height) = picture.size;
        let mut record = PictureRecord {
            fault: None,
            size: picture.size,
            phrases: Vec::with_capacity(picture.phrases.len()),
        };
        let pixels = match open_picture(&picture.path, Some(picture.size)) {
            Ok(pixels) => pixels,
            Err(fault) => {
                record.fault = Some(fault.to_string());
                return Ok(record);
            }
        };
        let texts: Vec<&str> = picture.phrases.iter().map(|p| p.text.as_str()).collect();
        let found = marker.mark(&pixels, &texts).map_err(Table5Error::Marker)?;
        let answers = |what, expected: usize, found: usize| match expected == found {
            true => Ok(()),
            false => Err(Table5Error::Answers {
                what,
                expected,
                found,
            }),
        };
        answers("encoders", self.settings.encoders.len(), found.len())?;
        for of_encoder in &found {
            answers("phrases", texts.len(), of_encoder.len())?;
        }
        for (index, phrase) in picture.phrases.iter().enumerate() {
            let truth = phrase.truth.mask(width, height)?;
            let of_encoders = self.settings.encoders.iter().zip(&found);
            let encoders = of_encoders
                .map(|(encoder, marked)| self.count_mask(&encoder.name, &marked[index], &truth))
                .collect::<Result<_>>()?;
            record.phrases.push(PhraseRecord {
                id: phrase.id.clone(),
                phrase: phrase.text.clone(),
                truth: Rle::from_mask(&truth).to_compressed(),
                encoders,
            });
        }
        Ok(record)
    }

    fn count_mask(&self, encoder: &str, marked: &Marked, truth: &Mask) -> Result<EncoderRecord> {
        let squashed = nearest(truth, marked.resolution);
        let clipseg = self.thresholds.count(&marked.probabilities, &squashed)?;
        let phrasecut = self
            .thresholds
            .count(&marked.at_picture_size, truth.pixels())?;
        let index = self.settings.threshold_index(&self.thresholds);
        let threshold = self.thresholds.values()[index];
        let mask = Mask::from_threshold(
            &marked.at_picture_size,
            truth.width(),
            truth.height(),
            threshold,
        )?;
        Ok(EncoderRecord {
            encoder: encoder.to_owned(),
            mask: Rle::from_mask(&mask).to_compressed(),
            clipseg,
            phrasecut,
        })
    }
}

/// The mask at `(rows, columns)`, as `torch.nn.functional.interpolate(mode="nearest")` makes it:
/// CLIPSeg's evaluation squashes the truth by it.
fn nearest(mask: &Mask, (rows, columns): (usize, usize)) -> Vec<bool> {
    let places = |from: u32, to: usize| -> Vec<u32> {
        let scale = from as f32 / to as f32;
        let last = from.saturating_sub(1);
        (0..to)
            .map(|at| ((at as f32 * scale) as u32).min(last))
            .collect()
    };
    let (ys, xs) = (places(mask.height(), rows), places(mask.width(), columns));
    let row = |y: u32| xs.iter().map(move |x| mask.contains(*x, y));
    ys.into_iter().flat_map(row).collect()
}

#[cfg(test)]
mod tests;
