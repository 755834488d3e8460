//! Pictures in and out, without a model in sight.
//!
//! A model's answer depends on the exact numbers it is fed, and the published models were trained
//! on what PIL makes of a photo. So this crate's one rule is: *where PIL defines a result, the
//! result is PIL's*, sample for sample. Other resizers agree on the filters but not on the rounding
//! and clipping between the two passes: on 50 photos `image`'s own bicubic is up to 11/255 away
//! from Pillow's. Hence [`resize_rgb`], whose difference is 0.
//!
//! Data goes through in three steps:
//! 1. [`open_rgb`] or [`decode_rgb`] turn a file into an upright [`RgbImage`](image::RgbImage), or
//!    into an error that names the file: damaged, truncated and oversized pictures never panic.
//! 2. [`PicturePreprocessor`], the one type that matters, read from the `preprocessor_config.json`
//!    a model is published with, turns it into pixel values `[3, height, width]`.
//! 3. What a model answers becomes a [`Mask`] (or [`Rle`], COCO's form of one), an
//!    [overlay](overlay_probabilities), a [`Sheet`] of pictures to compare, and a PNG file with
//!    its [`GenerationParameters`] inside.
//!
//! ```
//! use negkit_image::{Limits, PicturePreprocessor, decode_rgb};
//!
//! # let bytes = b"P3 2 1 255 255 0 0 0 0 255";
//! let picture = decode_rgb(bytes, "two-pixels.ppm", &Limits::default())?;
//! let pixel_values = PicturePreprocessor::clipseg(352).apply(&picture)?;
//! assert_eq!(pixel_values.dim(), (3, 352, 352));
//! # Ok::<(), negkit_image::Error>(())
//! ```
#![deny(missing_docs)]

mod atomic;
mod crop;
mod decode;
mod error;
mod infotext;
mod mask;
mod overlay;
mod png_file;
mod preprocess;
mod resize;
mod sheet;

pub use atomic::{is_partial, write_atomic};
pub use crop::crop_box_pil;
pub use decode::{Limits, decode_rgb, open_rgb};
pub use error::Error;
pub use infotext::GenerationParameters;
pub use mask::{Mask, Rle};
pub use overlay::{Outline, OverlayStyle, overlay_mask, overlay_probabilities};
pub use png_file::{PARAMETERS_KEY, read_png_text, write_png, write_png_luma};
pub use preprocess::{
    CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD, Normalization, PicturePreprocessor, ResizeTo,
};
pub use resize::{Filter, resize_bilinear_f32, resize_luma, resize_rgb};
pub use sheet::{Panel, Sheet};
