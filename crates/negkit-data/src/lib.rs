//! Published datasets, read record by record.
//!
//! Each format has a reader that gives typed records: [`phrasecut`], [`refcoco`], [`coco`],
//! [`prompts`] (TIFA, Neg Score, GenEval), [`vqa`] (VQAv2) and [`foils`] (NegRefCOCOg, VALSE). The one type that
//! matters is [`DataError`]: a dataset of 400 MB that is wrong in one place is useless without that
//! [`karpathy`], [`prompts`] (TIFA, Neg Score, GenEval), [`foils`] (NegRefCOCOg, VALSE, CC-Neg),
//! [`negbench`], [`zero_shot`] (ImageNet and its likes) and [`celeba`]; [`negrefcocog`] makes a
//! NegRefCOCOg of other datasets. The one type that matters is [`DataError`]: a dataset of 400 MB that is wrong in one place is useless without that
//! place, so every error names the file, the record and the field.
//!
//! Data goes through in three steps: a reader streams a file and checks each record on its own; the
//! type of the dataset ([`PhraseCut`](phrasecut::PhraseCut), [`RefCoco`](refcoco::RefCoco)) checks
//! that its files fit each other; and masks are made when they are asked for, pixel for pixel as
//! the tool that the dataset is scored with makes them ([`coco_mask`], [`pil_mask`]).
//!
//! What is *not* an error of a dataset is a picture that is missing or broken: photos vanish from
//! the net, and one of them must not end a run over thousands. [`open_picture`] says what is wrong
//! with one, and [`PictureAudit`] names all of them. [`check`](check::check) looks over a whole folder.
//!
//! Pickles, which `refs(umd).p` is, are programs. They are read as data; one that calls anything is
//! refused.
#![deny(missing_docs)]

pub mod celeba;
pub mod check;
pub mod coco;
mod delimited;
mod error;
pub mod foils;
mod hashes;
pub mod karpathy;
pub mod negbench;
pub mod negrefcocog;
pub mod phrasecut;
mod pickle;
mod pictures;
mod polygon;
pub mod prompts;
mod records;
pub mod refcoco;
pub mod vqa;
mod words;
pub mod zero_shot;

pub use error::DataError;
pub use hashes::file_hashes;
pub use pictures::{Look, NeededPicture, PictureAudit, PictureFault, PictureFolder, open_picture};
pub use polygon::{coco_mask, pil_mask};
pub use words::WordList;
