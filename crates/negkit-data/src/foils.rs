//! A right and a wrong one to choose between: NegRefCOCOg (boxes), VALSE and CC-Neg (captions).

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::DataError;
use crate::delimited::read_csv;
use crate::prompts::words;
use crate::records::{read_entries, read_lines, read_list, read_torch_pickle};

/// An item of NegRefCOCOg: the first box is right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NegRefItem {
    /// The picture's file name.
    pub image: String,
    /// An expression with a negation.
    pub phrase: String,
    /// The box that it refers to: left, top, width, height in pixels.
    pub ref_bbox: [f64; 4],
    /// That box and the box of another instance of its category.
    pub bbox_list: Vec<[f64; 4]>,
}

/// Reads `NegRefCOCOg.json`.
///
/// # Errors
/// When the file cannot be read, a phrase has no words, there are not two boxes, the first is not
/// the right one, or a box is empty.
pub fn read_neg_refcocog(path: &Path) -> Result<Vec<NegRefItem>, DataError> {
    let mut items = Vec::new();
    read_list(path, &mut |index, item: NegRefItem| {
        let record = format!("[{index}]");
        words(path, &record, "phrase", &item.phrase)?;
        let wrong =
            |field: String, reason: String| Err(DataError::record(path, &record, field, reason));
        if item.bbox_list.len() != 2 {
            let reason = format!("expected two boxes, found {}", item.bbox_list.len());
            return wrong("bbox_list".to_owned(), reason);
        }
        if item.bbox_list[0] != item.ref_bbox {
            let reason = format!(
                "expected ref_bbox {:?}, for the first box is the right one, found {:?}",
                item.ref_bbox, item.bbox_list[0]
            );
            return wrong("bbox_list[0]".to_owned(), reason);
        }
        for (place, bbox) in item.bbox_list.iter().enumerate() {
            if !(bbox[2] > 0. && bbox[3] > 0.) {
                let reason = format!("expected a box with width and height, found {bbox:?}");
                return wrong(format!("bbox_list[{place}]"), reason);
            }
        }
        items.push(item);
        Ok(())
    })?;
    Ok(items)
}

/// What three annotators said of a [`ValseItem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct ValseVotes {
    /// Votes for the foil.
    pub foil: u32,
    /// Votes for the caption.
    pub caption: u32,
    /// Votes for neither.
    pub other: u32,
}

/// An item of VALSE: a picture, a caption that is true of it, and one that is not.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ValseItem {
    /// Its name in the file.
    #[serde(skip)]
    pub id: String,
    /// The dataset that the picture is from: "visual7w", "coco", …
    pub dataset: String,
    /// The picture's file name.
    pub image_file: String,
    /// What is true.
    pub caption: String,
    /// What is not.
    pub foil: String,
    /// What annotators said.
    pub mturk: Option<ValseVotes>,
}

impl ValseItem {
    /// Whether caption and foil are the same text, so that no model can tell them apart. One of the
    /// 534 published "existence" items is so; the published scores count it.
    #[must_use]
    pub fn is_undecidable(&self) -> bool {
        self.caption == self.foil
    }
}

/// Reads a file of VALSE, such as `existence.json`, in the file's order.
///
/// # Errors
/// When the file cannot be read, or a caption or foil has no words.
pub fn read_valse(path: &Path) -> Result<Vec<ValseItem>, DataError> {
    let mut items: Vec<ValseItem> = Vec::new();
    read_entries(path, &mut |_, (id, mut item): (String, ValseItem)| {
        let record = format!("{id:?}");
        words(path, &record, "caption", &item.caption)?;
        words(path, &record, "foil", &item.foil)?;
        item.id = id;
        items.push(item);
        Ok(())
    })?;
    Ok(items)
}

/// An item of CC-Neg: a picture, a caption that is true of it, and the same with a part denied, which is
/// not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptionPair {
    /// The picture, by the path that the authors had.
    #[serde(alias = "image_path", alias = "filepath", alias = "file_name")]
    pub image: String,
    /// What is true.
    #[serde(alias = "true_caption")]
    pub caption: String,
    /// What is not.
    #[serde(
        alias = "negative_caption",
        alias = "negative_prompt",
        alias = "negative-prompt"
    )]
    pub negated_caption: String,
}

/// `ccneg_preprocessed.pt`, as far as it is needed.
#[derive(Deserialize)]
struct PublishedPairs {
    image_paths: Vec<String>,
    annotations: Vec<PublishedPair>,
}

#[derive(Deserialize)]
struct PublishedPair {
    json: PublishedCaption,
    sop_data: PublishedNegation,
}

#[derive(Deserialize)]
struct PublishedCaption {
    caption: String,
}

#[derive(Deserialize)]
struct PublishedNegation {
    #[serde(rename = "negative-prompt")]
    negative_prompt: String,
}

/// Reads caption pairs, by the file's ending: `.pt` as CC-Neg is published (`ccneg_preprocessed.pt`: a
/// pickle, which is read as data and never executed), `.csv` with the columns of [`CaptionPair`],
/// `.json` (a list), `.jsonl`.
///
/// As the published evaluation does, commas are taken out of the negated captions of a `.pt`, and of
/// these alone. It scores the last 40,000 items.
///
/// # Errors
/// When the file cannot be read, is in another form, or a caption has no words.
pub fn read_caption_pairs(path: &Path) -> Result<Vec<CaptionPair>, DataError> {
    let ending = path.extension().map(|ending| ending.to_string_lossy());
    let mut pairs = Vec::new();
    match ending.as_deref() {
        Some("pt" | "pth") => {
            let published: PublishedPairs = read_torch_pickle(path)?;
            let (images, annotations) = (published.image_paths, published.annotations);
            if images.len() != annotations.len() {
                let reason = format!(
                    "expected one for each of {} pictures, found {}",
                    images.len(),
                    annotations.len()
                );
                return Err(DataError::record(
                    path,
                    "the whole file",
                    "annotations",
                    reason,
                ));
            }
            for (image, annotation) in images.into_iter().zip(annotations) {
                pairs.push(CaptionPair {
                    image,
                    caption: annotation.json.caption,
                    negated_caption: annotation.sop_data.negative_prompt.replace(',', ""),
                });
            }
        }
        Some("csv") => {
            const COLUMNS: [&[&str]; 3] = [
                &["image", "image_path", "filepath", "file_name"],
                &["caption", "true_caption"],
                &[
                    "negated_caption",
                    "negative_caption",
                    "negative_prompt",
                    "negative-prompt",
                ],
            ];
            read_csv(path, &COLUMNS, &mut |_, fields| {
                if let [image, caption, negated] = fields {
                    pairs.push(CaptionPair {
                        image: (*image).to_owned(),
                        caption: (*caption).to_owned(),
                        negated_caption: (*negated).to_owned(),
                    });
                }
                Ok(())
            })?;
        }
        Some("jsonl") => read_lines(path, &mut |_, pair| {
            pairs.push(pair);
            Ok(())
        })?,
        _ => read_list(path, &mut |_, pair| {
            pairs.push(pair);
            Ok(())
        })?,
    }
    for (index, pair) in pairs.iter().enumerate() {
        let record = format!("[{index}]");
        words(path, &record, "image", &pair.image)?;
        words(path, &record, "caption", &pair.caption)?;
        words(path, &record, "negated_caption", &pair.negated_caption)?;
    }
    Ok(pairs)
}
