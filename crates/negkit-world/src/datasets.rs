//! Datasets of scenes in the published formats, written so that a kill at any moment harms
//! nothing.
//!
//! [`write_all`] lays out one folder:
//!
//! | file | format |
//! |---|---|
//! | `train2014/`, `val2014/` | pictures, `COCO_train2014_000000000001.jpg` |
//! | `annotations/captions_*.json`, `instances_*.json` | COCO; polygons |
//! | `annotations/instances_rle_*.json` | the same with compressed RLE |
//! | `refcocog/refs(umd).p`, `refs(umd).json`, `instances.json` | RefCOCOg, of the train pictures |
//! | `phrasecut/refer_{train,val,test}.json`, `image_data_split.json` | PhraseCut |
//! | `vqa/v2_*` | VQAv2 questions and annotations |
//! | `tifa/tifa_v1.0_text_inputs.json`, `…_question_answers.json` | TIFA |
//! | `negscore/prompts_with_questions.json` | the Neg Score prompts |
//! | `negrefcocog/NegRefCOCOg.json` | NegRefCOCOg |
//! | `negation/captions_{p1,p2,rand_p1}_train2014.json`, `cc_neg_train2014.json` | captions with negations worked in; CoN-CLIP's pairs |
//! | `scenes.json` | every picture's scene |
//! | `dataset.json` | the plan, and size and SHA-256 of every other file |
//!
//! [`write_benchmarks`] lays out another, of what encoders are measured on.
//!
//! `negkit_data` reads them back; records that both need (references, NegRefCOCOg's items) are its
//! types.
//!
//! Everything follows from the [`Plan`], byte for byte. Each file is written beside its place and
//! renamed into it, and a marker with its hash is left; a second run does what is missing or
//! damaged and leaves the rest. `dataset.json` comes last: where it is, the dataset is whole.

mod benchmarks;
mod coco;
mod outline;
mod phrasecut;
mod pickle;
mod refcocog;
mod text;
mod truth;
mod writer;

pub use benchmarks::{BenchmarkPlan, Benchmarks, write_benchmarks};
pub use coco::{Annotation, PictureEntry, categories};
pub use outline::{Polygon, corner_polygons, pixel_polygons};
pub use phrasecut::PhraseTask;
pub use pickle::to_pickle;
pub use refcocog::neg_refcocog;
pub use truth::{ObjectTruth, PictureTruth};
pub use writer::{
    Counts, Dataset, DatasetError, FileRecord, PictureFormat, Plan, Progress, Split, dataset_scene,
    scene_seed, verify, write_all, write_plan,
};
