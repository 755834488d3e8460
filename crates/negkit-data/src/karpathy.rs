//! Karpathy's split of COCO's captions, `dataset_coco.json`: 5,000 pictures of val2014 each for
//! validation and test, with which most papers measure retrieval.

use std::path::Path;

use serde::Deserialize;

use crate::DataError;
use crate::prompts::words;
use crate::records::{Ids, read_named_list};

/// A picture of the split.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct KarpathyPicture {
    /// The folder of COCO: "train2014" or "val2014". Other datasets in this form have none.
    #[serde(default)]
    pub filepath: String,
    /// The file's name.
    pub filename: String,
    /// "train", "restval", "val" or "test".
    pub split: String,
    /// The captions.
    pub sentences: Vec<KarpathySentence>,
    /// COCO's id of the picture.
    #[serde(default)]
    pub cocoid: Option<u64>,
}

/// A caption.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct KarpathySentence {
    /// The words as they were written.
    pub raw: String,
    /// COCO's id of the caption.
    pub sentid: u64,
}

/// Reads the pictures of a split ("test", "val", …), in the file's order.
///
/// # Errors
/// When the file cannot be read, a picture has no caption or one without words, a caption's id is there
/// twice, or the split has no picture; the error names the splits that there are.
pub fn read_karpathy(path: &Path, split: &str) -> Result<Vec<KarpathyPicture>, DataError> {
    let mut found = Vec::new();
    let mut splits: Vec<String> = Vec::new();
    let mut ids = Ids::new(path, "images", "sentid");
    read_named_list(path, "images", &mut |index, picture: KarpathyPicture| {
        let record = format!("images[{index}]");
        if picture.sentences.is_empty() {
            let reason = "expected a caption or more, found none";
            return Err(DataError::record(path, record, "sentences", reason));
        }
        for sentence in &picture.sentences {
            words(path, &record, "sentences.raw", &sentence.raw)?;
            ids.add(index, &sentence.sentid)?;
        }
        if picture.split == split {
            found.push(picture);
        } else if !splits.contains(&picture.split) {
            splits.push(picture.split);
        }
        Ok(())
    })?;
    if found.is_empty() {
        let reason = format!(
            "expected pictures of the split {split:?}, found those of {}",
            splits.join(", ")
        );
        return Err(DataError::record(path, "images", "split", reason));
    }
    Ok(found)
}
