//! What is said to a chat model.

use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::{ImageFormat, RgbImage};
use serde::Serialize;

use crate::ChatError;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sets the tone.
    System,
    /// Asks.
    User,
    /// The model, in an example or an earlier turn.
    Assistant,
}

/// The form in which a picture is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PictureFormat {
    /// Without loss.
    Png,
    /// Smaller, at a quality of 1 to 100.
    Jpeg(u8),
}

impl PictureFormat {
    /// The picture as a data URL.
    fn data_url(self, picture: &RgbImage) -> Result<String, ChatError> {
        let mut bytes = Vec::new();
        let kind = match self {
            Self::Png => {
                picture.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)?;
                "png"
            }
            Self::Jpeg(quality) => {
                let quality = quality.clamp(1, 100);
                picture.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, quality))?;
                "jpeg"
            }
        };
        Ok(format!(
            "data:image/{kind};base64,{}",
            STANDARD.encode(bytes)
        ))
    }
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Message {
    role: Role,
    content: Content,
}

/// Bare words where there is no picture: some endpoints take nothing else.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part {
    ImageUrl { image_url: ImageUrl },
    Text { text: String },
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct ImageUrl {
    url: String,
}

impl Message {
    /// Words of anyone.
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Self {
            role,
            content: Content::Text(text.into()),
        }
    }

    /// Words of the one who asks.
    pub fn user(text: impl Into<String>) -> Self {
        Self::new(Role::User, text)
    }

    /// A picture and words about it.
    ///
    /// # Errors
    /// When the picture cannot be encoded (it has no pixels, or is too large for its format).
    pub fn about(
        picture: &RgbImage,
        format: PictureFormat,
        text: impl Into<String>,
    ) -> Result<Self, ChatError> {
        Ok(Self::about_url(format.data_url(picture)?, text))
    }

    /// A picture as its file is, and words about it: JPEG, PNG, WebP and GIF are known to endpoints
    /// and sent without being encoded anew.
    ///
    /// # Errors
    /// When the file is of another format, or the picture in it is broken.
    pub fn about_file(bytes: &[u8], text: impl Into<String>) -> Result<Self, ChatError> {
        let format = image::guess_format(bytes)?;
        let kind = match format {
            ImageFormat::Jpeg => "jpeg",
            ImageFormat::Png => "png",
            ImageFormat::WebP => "webp",
            ImageFormat::Gif => "gif",
            other => {
                let hint = image::error::ImageFormatHint::Exact(other);
                let error = image::error::UnsupportedError::from_format_and_kind(
                    hint.clone(),
                    image::error::UnsupportedErrorKind::Format(hint),
                );
                return Err(image::ImageError::Unsupported(error).into());
            }
        };
        // A broken picture would be paid for, and its answer would be about nothing.
        image::load_from_memory_with_format(bytes, format)?;
        let url = format!("data:image/{kind};base64,{}", STANDARD.encode(bytes));
        Ok(Self::about_url(url, text))
    }

    /// Encodes a picture once for many messages.
    pub(crate) fn encode(picture: &RgbImage, format: PictureFormat) -> Result<String, ChatError> {
        format.data_url(picture)
    }

    pub(crate) fn about_url(url: String, text: impl Into<String>) -> Self {
        let picture = Part::ImageUrl {
            image_url: ImageUrl { url },
        };
        let text = Part::Text { text: text.into() };
        Self {
            role: Role::User,
            content: Content::Parts(vec![picture, text]),
        }
    }
}
