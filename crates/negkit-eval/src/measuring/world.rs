//! The benchmarks of the small world: drawn scenes in the published forms, read by the readers that
//! photos are read by.

use std::fs::File;
use std::path::Path;

use negkit_benchmarks::{
    AttributePrompts, Benchmark, CcNeg, CelebA, CocoRetrieval, ImageNet, NegBenchChoice,
    NegBenchRetrieval, NegRefCocog, Prompts, Valse,
};
use negkit_data::PictureFolder;
use negkit_data::celeba::{Attributes, Partition};
use negkit_data::zero_shot::{LabelledPictures, SynsetOrder, read_class_names, read_templates};
use negkit_world::datasets::{BenchmarkPlan, PictureFormat, write_benchmarks};

use crate::{Result, RunError};

/// What every scene follows from. No model was trained on these scenes: their seeds are hashes of this
/// one, where the recipe of the small models counts from 0.
const PLAN: BenchmarkPlan = BenchmarkPlan {
    seed: 23,
    scenes: 1000,
    references: 3000,
    per_class: 20,
    people: 600,
    side: 64,
    format: PictureFormat::Png,
};

/// The single template of the small world, which knows no photos.
const TEMPLATE: &str = "a {c}";

/// The list of a file that names classes of several datasets.
const CLASSES: &str = "imagenet1k";

/// A benchmark of drawn scenes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorldBenchmark {
    /// VALSE existence.
    Valse,
    /// NegRefCOCOg.
    NegRefCocog,
    /// ImageNet.
    ImageNet,
    /// COCO retrieval.
    Coco,
    /// NegBench's multiple choice.
    NegBenchChoice,
    /// NegBench's retrieval.
    NegBenchRetrieval,
    /// CC-Neg.
    CcNeg,
    /// CelebA's attributes.
    CelebA,
}

impl WorldBenchmark {
    /// Opens it in the folder that [`write_world`] wrote.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn open(self, folder: &Path) -> Result<Box<dyn Benchmark>> {
        let at = |path: &str| folder.join(path);
        let pictures = |path: &str| PictureFolder::new(folder.join(path));
        Ok(match self {
            Self::Valse => Box::new(Valse::open(
                &at("valse/existence.json"),
                &pictures("val2014"),
            )?),
            Self::NegRefCocog => Box::new(NegRefCocog::open(
                &at("negrefcocog/NegRefCOCOg.json"),
                &pictures("train2014"),
            )?),
            Self::ImageNet => {
                let (names, templates) = (
                    at("imagenet/classnames.json"),
                    at("imagenet/templates.json"),
                );
                let labelled =
                    LabelledPictures::in_folders(&at("imagenet/val"), SynsetOrder::alphabetical())?;
                let prompts = Prompts {
                    classes: read_class_names(&names, CLASSES)?,
                    template: TEMPLATE.to_owned(),
                    ensemble: read_templates(&templates, CLASSES)?,
                };
                Box::new(ImageNet::new(&labelled, &prompts, &[&names, &templates])?)
            }
            Self::Coco => Box::new(CocoRetrieval::whole(
                &at("annotations/captions_val2014.json"),
                &pictures("val2014"),
            )?),
            Self::NegBenchChoice => Box::new(NegBenchChoice::open(
                &at("negbench/COCO_val_mcq.csv"),
                &pictures("."),
            )?),
            Self::NegBenchRetrieval => Box::new(NegBenchRetrieval::open(
                &at("negbench/COCO_val_negated_retrieval.csv"),
                &pictures("."),
            )?),
            Self::CcNeg => Box::new(CcNeg::open(&at("ccneg/cc_neg.csv"), &pictures("."), None)?),
            Self::CelebA => {
                let (list, parts, prompts) = (
                    at("celeba/list_attr_celeba.txt"),
                    at("celeba/list_eval_partition.txt"),
                    at("celeba/prompts.json"),
                );
                let mut attributes = Attributes::open(&list)?;
                attributes.keep(Partition::Test, &parts)?;
                Box::new(CelebA::new(
                    &attributes,
                    &AttributePrompts::open(&prompts)?,
                    &pictures("celeba/img_align_celeba"),
                    &[&list, &parts, &prompts],
                )?)
            }
        })
    }
}

/// Draws the scenes of all benchmarks into `folder`, or what is missing of them. `progress` is told how
/// many steps of how many are done.
///
/// # Errors
/// When the folder holds others or cannot be written.
pub fn write_world(folder: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
    let failed = |source| RunError::Write {
        path: folder.to_owned(),
        source,
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    // Two runs may share the folder, and begin at the same moment.
    let lock = File::create(folder.join(".lock")).map_err(failed)?;
    lock.lock().map_err(failed)?;
    write_benchmarks(folder, &PLAN, &mut |at| progress(at.done, at.total))?;
    Ok(())
}
