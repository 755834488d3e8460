//! Runs as one page to look at, and as a contact sheet.
//!
//! [`Report`] is what matters: it opens the folders that `negkit eval` wrote and renders them. Numbers
//! come from the run's summary, and what is shown beside them (pictures, answers, masks) from its
//! records, so that no model and no dataset is needed to look at a run.
//!
//! ```text
//! folders -> Run: settings, records, summary
//!              -> Section: tables, charts (SVG), cards (pictures with answers or masks)
//!                   -> page.html with its style and script: one file
//!              -> contact sheet (PNG)
//! ```
//!
//! The key decision is that **the page is complete without its script**: every number, card and chart
//! is written as HTML and SVG, and the script only hides, sorts and repeats what is there. So the page
//! can be read, printed and searched anywhere, and a test can compare what the filters leave with the
//! records. Prompts and answers are other people's text: templates escape everything, and the page's
//! content security policy lets no other script run and nothing be fetched.
//!
//! A picture is inlined once. As thousands of them make a page that no browser scrolls, only so many
//! prompts and phrases are shown ([`ReportSettings`]), the best and the worst cases always, and the page
//! says what was left out; scores and charts are always of everything.
#![deny(missing_docs)]

mod cases;
mod chart;
mod error;
mod markdown;
mod other;
mod page;
mod picture;
mod report;
mod run;
mod score;
mod sheet;
mod table4;
mod table5;
mod view;

pub use error::{ReportError, Result};
pub use report::{Page, Report, ReportSettings};
