//! Benchmarks in the files that users have: where they usually lie below one folder, and how they are
//! opened.

use std::path::{Path, PathBuf};

use negkit_benchmarks::{Benchmark, CocoRetrieval, ImageNet, NegRefCocog, Prompts, Valse};
use negkit_data::zero_shot::{
    LabelledPictures, SynsetOrder, read_class_names, read_templates, template_of,
};
use negkit_data::{DataError, PictureFolder};

use crate::folder::PaperFolder;
use crate::{Result, RunError};

/// The template of CLIP's paper for ImageNet, where one alone is used.
const TEMPLATE: &str = "a photo of a {c}.";

/// Where a zero-shot dataset is, and what stands for its classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageNetFiles {
    /// A folder a class, or all pictures in one folder (with `labels`).
    pub pictures: PathBuf,
    /// Labels of a flat folder: `LOC_val_solution.csv`, or lines of `NAME NUMBER`.
    pub labels: Option<PathBuf>,
    /// The order of the synsets, `LOC_synset_mapping.txt`; alphabetical where there is none.
    pub order: Option<PathBuf>,
    /// The classes' names.
    pub class_names: PathBuf,
    /// Templates of the ensemble.
    pub templates: Option<PathBuf>,
    /// The single template.
    pub template: Option<String>,
    /// The list to take where a file has those of several datasets.
    pub dataset: String,
}

impl ImageNetFiles {
    /// Opens it.
    ///
    /// # Errors
    /// When a file cannot be read, or names do not fit the classes.
    pub fn open(&self) -> Result<Box<dyn Benchmark>> {
        let order = match &self.order {
            Some(path) => SynsetOrder::open(path)?,
            None => SynsetOrder::alphabetical(),
        };
        let labelled = match &self.labels {
            Some(labels) => LabelledPictures::flat(&self.pictures, labels, order)?,
            None => LabelledPictures::in_folders(&self.pictures, order)?,
        };
        let template = template_of(self.template.as_deref().unwrap_or(TEMPLATE))
            .map_err(|reason| RunError::Settings { reason })?;
        let ensemble = match &self.templates {
            Some(path) => read_templates(path, &self.dataset)?,
            None => Vec::new(),
        };
        let prompts = Prompts {
            classes: read_class_names(&self.class_names, &self.dataset)?,
            template,
            ensemble,
        };
        let mut files = vec![self.class_names.as_path()];
        files.extend(self.templates.as_deref());
        files.extend(self.labels.as_deref());
        Ok(Box::new(ImageNet::new(&labelled, &prompts, &files)?))
    }
}

/// Where COCO's captions are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CocoFiles {
    /// `dataset_coco.json`, or `captions_val2017.json`.
    pub captions: PathBuf,
    /// The split, for Karpathy's file; `None` for an annotation file, of which all pictures are taken.
    pub split: Option<String>,
    /// The folder of the pictures, or one that their folder is in.
    pub pictures: PathBuf,
}

impl CocoFiles {
    /// Opens it.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn open(&self) -> Result<Box<dyn Benchmark>> {
        let pictures = PictureFolder::new(&self.pictures);
        Ok(match &self.split {
            Some(split) => Box::new(CocoRetrieval::karpathy(&self.captions, split, &pictures)?),
            None => Box::new(CocoRetrieval::whole(&self.captions, &pictures)?),
        })
    }
}

impl PaperFolder {
    /// VALSE existence.
    ///
    /// # Errors
    /// [`DataError::Missing`] when a file is in none of the usual places.
    pub fn valse(&self) -> Result<Box<dyn Benchmark>> {
        let file = self.find(
            &[
                "valse/existence.json",
                "VALSE/existence.json",
                "existence.json",
            ],
            "VALSE's items; https://github.com/Heidelberg-NLP/VALSE has them in data/",
        )?;
        let pictures = self.find(
            &[
                "valse/images",
                "visual7w/images",
                "visual7w",
                "VALSE/images",
                "valse/visual7w",
            ],
            "Visual7W's pictures (v7w_*.jpg); http://ai.stanford.edu/~yukez/visual7w",
        )?;
        Ok(Box::new(Valse::open(&file, &PictureFolder::new(pictures))?))
    }

    /// NegRefCOCOg.
    ///
    /// # Errors
    /// As [`PaperFolder::valse`].
    pub fn negrefcocog(&self) -> Result<Box<dyn Benchmark>> {
        let file = self.find(
            &[
                "negrefcocog/NegRefCOCOg.json",
                "NegRefCOCOg/NegRefCOCOg.json",
                "NegRefCOCOg.json",
            ],
            "NegRefCOCOg's items; https://github.com/parkquasar/NegationCLIP",
        )?;
        let pictures = self.train2014()?;
        Ok(Box::new(NegRefCocog::open(
            &file,
            &PictureFolder::new(pictures),
        )?))
    }

    /// ImageNet's validation pictures, in a folder a class or flat, with class names and templates as
    /// CLIP Benchmark publishes them.
    ///
    /// # Errors
    /// As [`PaperFolder::valse`].
    pub fn imagenet(&self) -> Result<Box<dyn Benchmark>> {
        let pictures = self.find(
            &["imagenet/val", "ImageNet/val", "ILSVRC2012/val", "ilsvrc/val"],
            "ImageNet's validation pictures, in a folder a synset or all in one; https://image-net.org",
        )?;
        let near = pictures.parent().unwrap_or(self.path()).to_owned();
        let beside = |name: &str| {
            let places = [
                near.join(name),
                self.path().join(name),
                self.path().join("clip-classes").join(name),
            ];
            places.into_iter().find(|path| path.is_file())
        };
        let missing = |name: &str| DataError::Missing {
            path: near.join(name),
            hint: "names of the classes; CLIP Benchmark publishes them, \
                   https://github.com/LAION-AI/CLIP_benchmark"
                .to_owned(),
        };
        let is_flat = !holds_folders(&pictures);
        let labels = beside("LOC_val_solution.csv").filter(|_| is_flat);
        let files = ImageNetFiles {
            labels,
            order: beside("LOC_synset_mapping.txt"),
            class_names: beside("en_classnames.json")
                .ok_or_else(|| missing("en_classnames.json"))?,
            templates: beside("en_zeroshot_classification_templates.json"),
            template: None,
            dataset: "imagenet1k".to_owned(),
            pictures,
        };
        files.open()
    }

    /// COCO retrieval: Karpathy's test split where `dataset_coco.json` is there, else all of
    /// `captions_val2017.json`.
    ///
    /// # Errors
    /// As [`PaperFolder::valse`].
    pub fn coco(&self) -> Result<Box<dyn Benchmark>> {
        let captions = self.find(
            &[
                "karpathy/dataset_coco.json",
                "coco/dataset_coco.json",
                "dataset_coco.json",
                "annotations/captions_val2017.json",
                "coco/annotations/captions_val2017.json",
            ],
            "COCO's captions: Karpathy's dataset_coco.json \
             (https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip), or \
             captions_val2017.json",
        )?;
        let is_karpathy = captions.ends_with("dataset_coco.json");
        let folder = match is_karpathy {
            true => "val2014",
            false => "val2017",
        };
        let places = ["", "coco/", "COCO/", "images/"].map(|place| format!("{place}{folder}"));
        let places: Vec<&str> = places.iter().map(String::as_str).collect();
        let pictures = self.find(
            &places,
            "COCO's pictures; http://images.cocodataset.org/zips/",
        )?;
        let files = CocoFiles {
            captions,
            split: is_karpathy.then(|| "test".to_owned()),
            pictures,
        };
        files.open()
    }
}

fn holds_folders(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| path.is_dir())
}
