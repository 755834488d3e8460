//! A small world of drawn scenes, for which everything that one may ask is known.
//!
//! The one type that matters is [`Scene`]: a place and the things in it, drawn from a seed. From a
//! scene come its picture, its truth (which thing covers which pixel) and its language (captions,
//! phrases, questions), and from many scenes datasets in the published formats.
//!
//! A scene is fully described before a pixel is drawn: nothing in it is read off the picture, so
//! that truth and picture can be checked against each other.
#![deny(missing_docs)]

pub mod catalog;
pub mod corpus;
pub mod datasets;
pub mod language;
pub mod render;
pub mod scene;
pub mod sheet;
pub mod truth;
pub mod writers;

pub use catalog::{Colour, Kind, Place, State, Traits, Zone};
pub use corpus::{Corpus, CorpusError};
pub use render::{render, render_picture};
pub use scene::{Scene, Size, Thing, Wish, Worn};
pub use sheet::contact_sheet;
pub use truth::{Rendering, ThingTruth};
