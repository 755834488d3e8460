//! COCO's captions: retrieval on Karpathy's split, or on all pictures of an annotation file.

use std::collections::HashMap;
use std::path::Path;

use negkit_data::PictureFolder;
use negkit_data::coco::Captions;
use negkit_data::karpathy::read_karpathy;

use crate::benchmark::{Benchmark, Content, Measure};
use crate::error::Result;
use crate::retrieval::Retrieval;
use crate::vectors::Vectors;

const NAME: (&str, &str) = ("coco", "COCO retrieval");

/// Captions of a picture that are used; some pictures of COCO have six or seven.
const CAPTIONS: usize = 5;

/// COCO retrieval both ways, with the first five captions of every picture.
pub struct CocoRetrieval(Retrieval);

impl CocoRetrieval {
    /// Karpathy's split (`dataset_coco.json`): the pictures of `split`, which is "test" in most papers;
    /// `pictures` is the folder of `val2014`, or one that it is in.
    ///
    /// # Errors
    /// When the file cannot be read or has no such split.
    pub fn karpathy(file: &Path, split: &str, pictures: &PictureFolder) -> Result<Self> {
        let found = read_karpathy(file, split)?;
        let lists = found.iter().map(|picture| {
            let captions = picture
                .sentences
                .iter()
                .map(|sentence| sentence.raw.as_str());
            let named = match picture.filepath.as_str() {
                "" => picture.filename.clone(),
                folder => format!("{folder}/{}", picture.filename),
            };
            (pictures.find(&named), captions.take(CAPTIONS).collect())
        });
        let retrieval = Retrieval::new(NAME, lists, file)?;
        Ok(Self::of(retrieval, format!("Karpathy's {split}")))
    }

    /// All pictures of `captions_val2017.json` or `captions_val2014.json`.
    ///
    /// # Errors
    /// When the file cannot be read or holds no caption.
    pub fn whole(file: &Path, pictures: &PictureFolder) -> Result<Self> {
        let found = Captions::open(file)?;
        let mut captions: HashMap<u64, Vec<&str>> = HashMap::new();
        for caption in &found.captions {
            let list = captions.entry(caption.image_id).or_default();
            if list.len() < CAPTIONS {
                list.push(&caption.caption);
            }
        }
        let lists = found.pictures.iter().filter_map(|picture| {
            let captions = captions.remove(&picture.id)?;
            Some((pictures.find(&picture.file_name), captions))
        });
        let retrieval = Retrieval::new(NAME, lists, file)?;
        Ok(Self::of(retrieval, "all pictures of the file".to_owned()))
    }

    fn of(mut retrieval: Retrieval, split: String) -> Self {
        let settings = &mut retrieval.content.info.settings;
        settings.insert("split".to_owned(), split);
        Self(retrieval)
    }
}

impl Benchmark for CocoRetrieval {
    fn content(&self) -> &Content {
        &self.0.content
    }

    fn measures(&self, pictures: &Vectors, texts: &Vectors) -> Vec<Measure> {
        self.0.measures(pictures, texts)
    }
}
