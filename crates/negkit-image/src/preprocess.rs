//! From a picture to the numbers that a vision tower takes.

use std::fs;
use std::path::Path;

use image::RgbImage;
use ndarray::{Array3, Array4, Axis};
use serde::Deserialize;
use serde_json::Value;

use crate::crop::window;
use crate::resize::{Filter, resize_rgb};
use crate::{Error, Limits};

/// Mean of the red, green and blue samples (in 0..1) that OpenAI's CLIP was trained with.
pub const CLIP_MEAN: [f64; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
/// Standard deviation to go with [`CLIP_MEAN`].
pub const CLIP_STD: [f64; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];
/// Mean of the red, green and blue samples (in 0..1) of ImageNet; CLIPSeg uses it.
pub const IMAGENET_MEAN: [f64; 3] = [0.485, 0.456, 0.406];
/// Standard deviation to go with [`IMAGENET_MEAN`].
pub const IMAGENET_STD: [f64; 3] = [0.229, 0.224, 0.225];

/// The size that a picture is resized to before any crop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResizeTo {
    /// The short side gets this many pixels; the long side follows, its fraction cut off.
    ShortestEdge(u32),
    /// Exactly this size, whatever becomes of the proportions.
    Exact {
        /// Height in pixels.
        height: u32,
        /// Width in pixels.
        width: u32,
    },
}

/// What a published `preprocessor_config.json` does to a picture.
///
/// The steps and their arithmetic are those of `transformers`' PIL image processors
/// (`CLIPImageProcessor`, `ViTImageProcessor`, `BlipImageProcessor`): resize in 8 bits, centre crop, times
/// `rescale_factor`, minus mean, divided by standard deviation.
///
/// ```
/// use negkit_image::PicturePreprocessor;
///
/// let picture = image::RgbImage::from_pixel(640, 480, image::Rgb([255, 255, 255]));
/// let pixel_values = PicturePreprocessor::clip(224).apply(&picture)?;
/// assert_eq!(pixel_values.dim(), (3, 224, 224));
/// # Ok::<(), negkit_image::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct PicturePreprocessor {
    /// `do_resize`, `size` and `resample`.
    pub resize: Option<(ResizeTo, Filter)>,
    /// `do_center_crop` and `crop_size`: (height, width). A smaller picture is padded with black.
    pub center_crop: Option<(u32, u32)>,
    /// `do_rescale` and `rescale_factor`; usually 1/255.
    pub rescale_factor: Option<f64>,
    /// `do_normalize`, `image_mean` and `image_std`.
    pub normalize: Option<Normalization>,
}

/// Mean and standard deviation a channel (red, green, blue), in units of the rescaled samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalization {
    /// Subtracted.
    pub mean: [f64; 3],
    /// Divided by.
    pub std: [f64; 3],
}

impl PicturePreprocessor {
    /// OpenAI CLIP's preprocessing: short side to `size` (bicubic), centre crop `size` x `size`,
    /// CLIP's mean and standard deviation.
    #[must_use]
    pub fn clip(size: u32) -> Self {
        Self {
            resize: Some((ResizeTo::ShortestEdge(size), Filter::Bicubic)),
            center_crop: Some((size, size)),
            rescale_factor: Some(1.0 / 255.0),
            normalize: Some(Normalization {
                mean: CLIP_MEAN,
                std: CLIP_STD,
            }),
        }
    }

    /// CLIPSeg's preprocessing: squash to `size` x `size` (bilinear; published with 352),
    /// ImageNet's mean and standard deviation.
    #[must_use]
    pub fn clipseg(size: u32) -> Self {
        let square = ResizeTo::Exact {
            height: size,
            width: size,
        };
        Self {
            resize: Some((square, Filter::Bilinear)),
            center_crop: None,
            rescale_factor: Some(1.0 / 255.0),
            normalize: Some(Normalization {
                mean: IMAGENET_MEAN,
                std: IMAGENET_STD,
            }),
        }
    }

    /// Reads a `preprocessor_config.json` (or a `processor_config.json` that holds one under
    /// `image_processor`).
    ///
    /// # Errors
    /// [`Error::Read`] and those of [`from_json`](Self::from_json).
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let json = fs::read(path).map_err(|source| Error::read(path, source))?;
        Self::from_json(&json, &path.display().to_string())
    }

    /// Reads the JSON text of a `preprocessor_config.json`; `name` is what errors call it.
    ///
    /// Knows the types `CLIPImageProcessor`, `CLIPFeatureExtractor`, `ViTImageProcessor`,
    /// `ViTFeatureExtractor` and `BlipImageProcessor` (also with the suffixes `Fast` and `Pil`). Absent fields get the
    /// defaults of that type in `transformers`.
    ///
    /// # Errors
    /// [`Error::Config`] for text that is not JSON, another type, or a field with a value that
    /// would have to be guessed at.
    pub fn from_json(json: &[u8], name: &str) -> Result<Self, Error> {
        let reader = ConfigReader { name };
        let mut value: Value = serde_json::from_slice(json)
            .map_err(|error| reader.error("(whole file)", "a JSON object", error.to_string()))?;
        if let Some(nested) = value.get_mut("image_processor").filter(|v| v.is_object()) {
            value = nested.take();
        }
        let config: RawConfig = serde_json::from_value(value).map_err(|error| {
            reader.error(
                "(whole file)",
                "the fields of an image processor",
                error.to_string(),
            )
        })?;
        reader.read(&config)
    }

    /// The (height, width) of [`apply`](Self::apply)'s result for a picture of this size.
    ///
    /// # Errors
    /// [`Error::Shape`] when a size is zero.
    pub fn output_size(&self, width: u32, height: u32) -> Result<(u32, u32), Error> {
        if let Some(crop) = self.center_crop {
            return Ok(crop);
        }
        Ok(self.resized(width, height)?.unwrap_or((height, width)))
    }

    /// The (height, width) after the resize; `None` without one.
    fn resized(&self, width: u32, height: u32) -> Result<Option<(u32, u32)>, Error> {
        let shortest = match self.resize {
            None => return Ok(None),
            Some((ResizeTo::Exact { height, width }, _)) => return Ok(Some((height, width))),
            Some((ResizeTo::ShortestEdge(shortest), _)) => shortest,
        };
        let (short, long) = (width.min(height), width.max(height));
        // `int(size * long / short)` of Python: an exact product, one division, truncated.
        let new_long = f64::from(shortest) * f64::from(long) / f64::from(short);
        if short == 0 || new_long > f64::from(u32::MAX) {
            return Err(Error::Shape {
                operation: "resize by the shortest edge",
                expected: "a picture of at least 1x1 pixels and moderate proportions".into(),
                found: format!("{width}x{height}"),
            });
        }
        let new_long = new_long as u32;
        Ok(Some(if width <= height {
            (new_long, shortest)
        } else {
            (shortest, new_long)
        }))
    }

    /// Pixel values `[3, height, width]` (red, green, blue) of a picture.
    ///
    /// # Errors
    /// [`Error::Shape`] when the picture, or what it would be resized to, has no pixels or too
    /// many ([`Limits::PIL_MAX_PIXELS`]).
    pub fn apply(&self, picture: &RgbImage) -> Result<Array3<f32>, Error> {
        let resized = match (
            self.resize,
            self.resized(picture.width(), picture.height())?,
        ) {
            (Some((_, filter)), Some((height, width))) => {
                Some(resize_rgb(picture, width, height, filter)?)
            }
            _ => None,
        };
        let resized = resized.as_ref().unwrap_or(picture);
        let cropped = match self.center_crop {
            Some((height, width)) => Some(center_crop(resized, height, width)?),
            None => None,
        };
        let picture = cropped.as_ref().unwrap_or(resized);

        let values = [0, 1, 2].map(|channel| self.sample_values(channel));
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let samples = picture.as_raw();
        Ok(Array3::from_shape_fn((3, height, width), |(c, y, x)| {
            values[c][usize::from(samples[(y * width + x) * 3 + c])]
        }))
    }

    /// Pixel values `[n, 3, height, width]` of pictures that all come out at the same size.
    ///
    /// # Errors
    /// As [`apply`](Self::apply); [`Error::Shape`] too for no pictures at all, and for pictures
    /// that come out at different sizes (only possible without a crop).
    pub fn apply_batch<'a>(
        &self,
        pictures: impl IntoIterator<Item = &'a RgbImage>,
    ) -> Result<Array4<f32>, Error> {
        let values: Vec<Array3<f32>> = pictures
            .into_iter()
            .map(|picture| self.apply(picture))
            .collect::<Result<_, _>>()?;
        let Some(first) = values.first() else {
            return Err(Error::Shape {
                operation: "batch of pictures",
                expected: "at least one picture".into(),
                found: "none".into(),
            });
        };
        let (_, height, width) = first.dim();
        let views: Vec<_> = values.iter().map(|values| values.view()).collect();
        ndarray::stack(Axis(0), &views).map_err(|_| {
            let odd = values.iter().position(|other| other.dim() != first.dim());
            let odd = odd.unwrap_or_default();
            let (_, h, w) = values[odd].dim();
            Error::Shape {
                operation: "batch of pictures",
                expected: format!("pixel values of {width}x{height} as from the first picture"),
                found: format!("{w}x{h} from picture {} of the batch", odd + 1),
            }
        })
    }

    /// What each of the 256 samples of a channel becomes. Precision follows numpy's: the product
    /// in f64 and rounded to f32, mean and standard deviation in f32.
    fn sample_values(&self, channel: usize) -> [f32; 256] {
        std::array::from_fn(|sample| {
            let sample = sample as f64;
            let value = self.rescale_factor.map_or(sample, |factor| sample * factor) as f32;
            match self.normalize {
                Some(Normalization { mean, std }) => {
                    (value - mean[channel] as f32) / std[channel] as f32
                }
                None => value,
            }
        })
    }
}

/// `transformers.image_transforms.center_crop`: rounds down where the crop starts, pads with black
/// (one more at the left or top when the rest is odd) where the picture is smaller.
fn center_crop(picture: &RgbImage, height: u32, width: u32) -> Result<RgbImage, Error> {
    let pixels = u64::from(height) * u64::from(width);
    if pixels == 0 || pixels > Limits::PIL_MAX_PIXELS {
        return Err(Error::Shape {
            operation: "centre crop",
            expected: format!("a crop of 1 to {} pixels", Limits::PIL_MAX_PIXELS),
            found: format!("{width}x{height}"),
        });
    }
    // Floor division, also below zero: there it makes the padding the reference's ceil.
    let start = |picture: u32, crop: u32| (i64::from(picture) - i64::from(crop)).div_euclid(2);
    let left = start(picture.width(), width);
    let top = start(picture.height(), height);
    Ok(window(picture, left, top, width, height))
}

/// `preprocessor_config.json`, field for field.
#[derive(Debug, Deserialize)]
struct RawConfig {
    image_processor_type: Option<String>,
    feature_extractor_type: Option<String>,
    do_resize: Option<bool>,
    size: Option<Value>,
    resample: Option<Value>,
    do_center_crop: Option<bool>,
    crop_size: Option<Value>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    do_normalize: Option<bool>,
    image_mean: Option<Value>,
    image_std: Option<Value>,
    do_pad: Option<bool>,
    do_flip_channel_order: Option<bool>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Clip,
    Vit,
    Blip,
}

struct ConfigReader<'a> {
    name: &'a str,
}

impl ConfigReader<'_> {
    fn error(&self, field: &str, expected: impl Into<String>, found: impl Into<String>) -> Error {
        Error::Config {
            name: self.name.into(),
            field: field.into(),
            expected: expected.into(),
            found: found.into(),
        }
    }

    fn read(&self, config: &RawConfig) -> Result<PicturePreprocessor, Error> {
        let kind = self.kind(config)?;
        // BLIP's processor resizes to one exact size and never looks at `do_pad`.
        let pads = config.do_pad.filter(|_| kind != Kind::Blip);
        let refused = [
            ("do_pad", pads),
            ("do_flip_channel_order", config.do_flip_channel_order),
        ];
        for (field, value) in refused {
            if value == Some(true) {
                return Err(self.error(field, "false, or no such field", "true"));
            }
        }
        let wanted = |field: Option<bool>, default: bool| field.unwrap_or(default);
        let resize = if wanted(config.do_resize, true) {
            Some((self.size(config, kind)?, self.filter(config, kind)?))
        } else {
            None
        };
        let center_crop = if wanted(config.do_center_crop, kind == Kind::Clip) {
            Some(self.crop_size(config, kind)?)
        } else {
            None
        };
        let rescale_factor =
            wanted(config.do_rescale, true).then(|| config.rescale_factor.unwrap_or(1.0 / 255.0));
        let normalize = if wanted(config.do_normalize, true) {
            Some(self.normalization(config, kind)?)
        } else {
            None
        };
        Ok(PicturePreprocessor {
            resize,
            center_crop,
            rescale_factor,
            normalize,
        })
    }

    fn kind(&self, config: &RawConfig) -> Result<Kind, Error> {
        let (field, name) = match (&config.image_processor_type, &config.feature_extractor_type) {
            (Some(name), _) => ("image_processor_type", name.as_str()),
            (None, Some(name)) => ("feature_extractor_type", name.as_str()),
            (None, None) => ("image_processor_type", "no such field"),
        };
        let base = ["Fast", "Pil"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .unwrap_or(name);
        match base {
            "CLIPImageProcessor" | "CLIPFeatureExtractor" => Ok(Kind::Clip),
            "ViTImageProcessor" | "ViTFeatureExtractor" => Ok(Kind::Vit),
            "BlipImageProcessor" => Ok(Kind::Blip),
            _ => Err(self.error(
                field,
                "CLIPImageProcessor, CLIPFeatureExtractor, ViTImageProcessor, ViTFeatureExtractor \
                 or BlipImageProcessor",
                name,
            )),
        }
    }

    fn size(&self, config: &RawConfig, kind: Kind) -> Result<ResizeTo, Error> {
        const EXPECTED: &str =
            r#"pixels as N, {"shortest_edge": N} or {"height": N, "width": N}, N at least 1"#;
        let square = |side| ResizeTo::Exact {
            height: side,
            width: side,
        };
        let Some(value) = &config.size else {
            return Ok(match kind {
                Kind::Clip => ResizeTo::ShortestEdge(224),
                Kind::Vit => square(224),
                Kind::Blip => square(384),
            });
        };
        let size = match (side(value), kind) {
            (Some(side), Kind::Clip) => Some(ResizeTo::ShortestEdge(side)),
            (Some(side), Kind::Vit | Kind::Blip) => Some(square(side)),
            (None, _) => height_width(value)
                .map(|(height, width)| ResizeTo::Exact { height, width })
                .or_else(|| match sole_field(value, "shortest_edge") {
                    Some(value) => side(value).map(ResizeTo::ShortestEdge),
                    None => None,
                }),
        };
        size.ok_or_else(|| self.error("size", EXPECTED, value.to_string()))
    }

    fn crop_size(&self, config: &RawConfig, kind: Kind) -> Result<(u32, u32), Error> {
        let value = match (&config.crop_size, kind) {
            (None, Kind::Clip) => return Ok((224, 224)),
            (None, Kind::Vit | Kind::Blip) => &Value::Null,
            (Some(value), _) => value,
        };
        side(value)
            .map(|side| (side, side))
            .or_else(|| height_width(value))
            .ok_or_else(|| {
                self.error(
                    "crop_size",
                    r#"pixels as N or {"height": N, "width": N}, N at least 1"#,
                    value.to_string(),
                )
            })
    }

    fn filter(&self, config: &RawConfig, kind: Kind) -> Result<Filter, Error> {
        let Some(value) = &config.resample else {
            return Ok(match kind {
                Kind::Clip | Kind::Blip => Filter::Bicubic,
                Kind::Vit => Filter::Bilinear,
            });
        };
        value.as_u64().and_then(Filter::from_pil).ok_or_else(|| {
            self.error(
                "resample",
                "0 (nearest), 2 (bilinear) or 3 (bicubic)",
                value.to_string(),
            )
        })
    }

    fn normalization(&self, config: &RawConfig, kind: Kind) -> Result<Normalization, Error> {
        let (mean, std) = match kind {
            Kind::Clip | Kind::Blip => (CLIP_MEAN, CLIP_STD),
            Kind::Vit => ([0.5; 3], [0.5; 3]),
        };
        let mean = self.channels("image_mean", config.image_mean.as_ref(), mean)?;
        let std = self.channels("image_std", config.image_std.as_ref(), std)?;
        if std.iter().any(|&s| s as f32 == 0.0) {
            return Err(self.error("image_std", "numbers other than 0", format!("{std:?}")));
        }
        Ok(Normalization { mean, std })
    }

    fn channels(
        &self,
        field: &str,
        value: Option<&Value>,
        default: [f64; 3],
    ) -> Result<[f64; 3], Error> {
        let Some(value) = value else {
            return Ok(default);
        };
        let numbers = match value {
            Value::Number(number) => number.as_f64().map(|number| [number; 3]),
            other => serde_json::from_value(other.clone()).ok(),
        };
        numbers
            .ok_or_else(|| self.error(field, "three numbers (red, green, blue)", value.to_string()))
    }
}

fn side(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok().filter(|&side| side > 0)
}

fn height_width(value: &Value) -> Option<(u32, u32)> {
    let object = value.as_object().filter(|object| object.len() == 2)?;
    Some((side(object.get("height")?)?, side(object.get("width")?)?))
}

fn sole_field<'a>(value: &'a Value, field: &str) -> Option<&'a Value> {
    value
        .as_object()
        .filter(|object| object.len() == 1)?
        .get(field)
}
