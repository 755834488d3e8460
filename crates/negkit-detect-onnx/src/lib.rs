//! An ONNX object detector as verifier of the caption pipelines.
//!
//! [`DetectorVerifier`] answers whether an object is in a picture. A detector knows a few classes, and
//! finds them with a score; so its answer has three values. A score over a threshold is yes, one under
//! a second, much lower threshold is no, and in between it cannot tell. Words are read as classes by a
//! list ([`ClassWords`]), and by nothing else: what is not on it cannot be decided, and the reason says
//! so. A wrong "no" would teach a falsehood, so in doubt the caption is dropped.
//!
//! ```text
//! picture -> Detector: 1x3x352x352 -> 1x85x22x22 -> scores of classes, boxes
//! word -> ClassWords: class, narrower, broader   -> DetectorVerifier: yes, no, unsure and why
//! ```
//!
//! Models run in `tract`, in this process and on the CPU; nothing has to be installed. The decoding is
//! that of FastestDet (`dog-qiuqiu/FastestDet`, `utils/tool.py`), whose ONNX file is 1 MB. How well it
//! does on annotated photos is [`measure`]d, not assumed.
#![deny(missing_docs)]

mod detector;
mod error;
mod measure;
mod verifier;
mod words;

pub use detector::{Detection, Detector, Found, Frame};
pub use error::DetectError;
pub use measure::{Count, Measured, measure};
pub use verifier::{DetectorVerifier, Thresholds};
pub use words::{ClassWords, Reading};
