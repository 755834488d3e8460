//! Comparison sheets: pictures side by side, each with a caption.

use ab_glyph::{Font, FontRef, Glyph, Point, PxScale, ScaleFont};
use image::{Rgb, RgbImage, imageops};

use crate::overlay::blend;
use crate::resize::{Filter, resize_rgb};
use crate::{Error, Limits};

const BACKGROUND: Rgb<u8> = Rgb([250, 250, 248]);
const FRAME: Rgb<u8> = Rgb([206, 206, 202]);
const INK: [u8; 3] = [28, 28, 32];
const MARGIN: u32 = 32;
/// Between panels of a row.
const COLUMN_GAP: u32 = 24;
/// Between rows.
const ROW_GAP: u32 = 32;
/// Between a picture and its caption, and below title and headings.
const TEXT_GAP: u32 = 10;
/// Pictures smaller than this are enlarged by a whole factor to about this size.
const SMALL_SIDE: u32 = 256;
/// Pictures larger than this are reduced to it.
const LARGE_SIDE: u32 = 768;
/// Room for a title or heading over few or narrow pictures.
const LEAST_WIDTH: u32 = 480;

/// Heights of letters, in pixels.
#[derive(Clone, Copy)]
struct TextSizes {
    title: f32,
    heading: f32,
    caption: f32,
}

impl TextSizes {
    /// Sheets of wide pictures are mostly looked at reduced, so their text grows with them.
    fn for_columns(columns: &[u32]) -> Self {
        let widest = columns.iter().copied().max().unwrap_or(0);
        let scale = (widest as f32 / 400.0).clamp(1.0, 1.6);
        Self {
            title: 32.0 * scale,
            heading: 25.0 * scale,
            caption: 21.0 * scale,
        }
    }
}

/// One picture of a [`Sheet`].
#[derive(Debug, Clone)]
pub struct Panel {
    /// The picture. Small ones (64 pixels, say) are enlarged by a whole factor, pixel by pixel;
    /// those of more than 768 pixels a side are reduced.
    pub image: RgbImage,
    /// The text under it; empty for none.
    pub caption: String,
}

/// Rows of pictures with captions on a light ground, to look at and to publish.
///
/// ```
/// use negkit_image::{Panel, Sheet};
///
/// let image = image::RgbImage::from_pixel(64, 64, image::Rgb([40, 90, 160]));
/// let panel = |caption: &str| Panel { image: image.clone(), caption: caption.into() };
/// let sheet = Sheet::new()
///     .title("a street without cars")
///     .row(vec![panel("stock"), panel("NegationCLIP")])
///     .render()?;
/// assert!(sheet.width() > 2 * 256 && sheet.height() > 256);
/// # Ok::<(), negkit_image::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Sheet {
    title: String,
    rows: Vec<Row>,
    captions_above: bool,
}

#[derive(Debug, Clone)]
struct Row {
    heading: String,
    panels: Vec<Panel>,
}

impl Sheet {
    /// An empty sheet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the title at the top.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Adds a row of pictures. Columns line up over all rows.
    #[must_use]
    pub fn row(self, panels: Vec<Panel>) -> Self {
        self.row_with_heading("", panels)
    }

    /// Adds a row of pictures with a line of text over it, the prompt they share for instance.
    #[must_use]
    pub fn row_with_heading(mut self, heading: impl Into<String>, panels: Vec<Panel>) -> Self {
        self.rows.push(Row {
            heading: heading.into(),
            panels,
        });
        self
    }

    /// Puts captions above the pictures and not under them.
    #[must_use]
    pub fn captions_above(mut self) -> Self {
        self.captions_above = true;
        self
    }

    /// Draws the sheet.
    ///
    /// # Errors
    /// [`Error::Shape`] for a sheet without pictures, a picture without pixels, and a sheet of
    /// more than [`Limits::PIL_MAX_PIXELS`].
    pub fn render(&self) -> Result<RgbImage, Error> {
        let type_case = TypeCase::new()?;
        let layout = self.lay_out(&type_case)?;
        let pixels = u64::from(layout.width) * u64::from(layout.height);
        if pixels > Limits::PIL_MAX_PIXELS {
            return Err(Error::Shape {
                operation: "comparison sheet",
                expected: format!("at most {} pixels in all", Limits::PIL_MAX_PIXELS),
                found: format!("{}x{}", layout.width, layout.height),
            });
        }
        let mut sheet = RgbImage::from_pixel(layout.width, layout.height, BACKGROUND);
        for picture in &layout.pictures {
            draw_framed(&mut sheet, picture);
        }
        for block in &layout.texts {
            type_case.draw(&mut sheet, block);
        }
        Ok(sheet)
    }

    fn lay_out(&self, type_case: &TypeCase) -> Result<Layout, Error> {
        let rows: Vec<Vec<RgbImage>> = self
            .rows
            .iter()
            .map(|row| {
                row.panels
                    .iter()
                    .map(|panel| legible(&panel.image))
                    .collect()
            })
            .collect::<Result<_, _>>()?;
        let columns = column_widths(&rows);
        if columns.is_empty() {
            return Err(Error::Shape {
                operation: "comparison sheet",
                expected: "at least one picture".into(),
                found: format!("{} rows without pictures", rows.len()),
            });
        }
        let gaps = COLUMN_GAP * (columns.len() as u32 - 1);
        let mut inner = columns.iter().sum::<u32>() + gaps;
        if !self.title.is_empty() || self.rows.iter().any(|row| !row.heading.is_empty()) {
            inner = inner.max(LEAST_WIDTH - 2 * MARGIN);
        }
        let sizes = TextSizes::for_columns(&columns);

        let mut layout = Layout {
            width: inner + 2 * MARGIN,
            height: MARGIN,
            pictures: Vec::new(),
            texts: Vec::new(),
        };
        layout.place_text(type_case, &self.title, sizes.title, inner, 2 * TEXT_GAP);
        for (index, (row, pictures)) in self.rows.iter().zip(rows).enumerate() {
            if index > 0 {
                layout.height += ROW_GAP;
            }
            layout.place_text(type_case, &row.heading, sizes.heading, inner, TEXT_GAP);
            let captions = row.panels.iter().map(|panel| panel.caption.as_str());
            let panels = pictures.into_iter().zip(captions).collect();
            layout.place_panels(
                type_case,
                panels,
                &columns,
                sizes.caption,
                self.captions_above,
            );
        }
        layout.height += MARGIN;
        Ok(layout)
    }
}

/// A picture at a size at which it can be judged by eye.
fn legible(picture: &RgbImage) -> Result<RgbImage, Error> {
    let (width, height) = picture.dimensions();
    let side = width.max(height);
    if width == 0 || height == 0 {
        return Err(Error::Shape {
            operation: "comparison sheet",
            expected: "pictures of at least 1x1 pixels".into(),
            found: format!("{width}x{height}"),
        });
    }
    if side > LARGE_SIDE {
        let scale = |length: u32| {
            let scaled = u64::from(length) * u64::from(LARGE_SIDE) / u64::from(side);
            (scaled as u32).max(1)
        };
        return resize_rgb(picture, scale(width), scale(height), Filter::Bicubic);
    }
    let factor = ((SMALL_SIDE + side / 2) / side).max(1);
    resize_rgb(picture, width * factor, height * factor, Filter::Nearest)
}

fn column_widths(rows: &[Vec<RgbImage>]) -> Vec<u32> {
    let mut widths = vec![0; rows.iter().map(Vec::len).max().unwrap_or(0)];
    for row in rows {
        for (width, picture) in widths.iter_mut().zip(row) {
            *width = picture.width().max(*width);
        }
    }
    widths
}

/// Where everything goes; `height` is where the next thing goes.
struct Layout {
    width: u32,
    height: u32,
    pictures: Vec<Placed>,
    texts: Vec<TextBlock>,
}

struct Placed {
    image: RgbImage,
    left: u32,
    top: u32,
}

struct TextBlock {
    lines: Vec<String>,
    size: f32,
    left: u32,
    top: u32,
}

impl Layout {
    fn place_text(&mut self, type_case: &TypeCase, text: &str, size: f32, width: u32, gap: u32) {
        let lines = type_case.wrap(text, size, width);
        if lines.is_empty() {
            return;
        }
        let height = type_case.height(&lines, size);
        self.texts.push(TextBlock {
            lines,
            size,
            left: MARGIN,
            top: self.height,
        });
        self.height += height + gap;
    }

    /// Pictures of one row share their lower edge when captions are under them and their upper
    /// edge when captions are above, so that the captions start on one line.
    fn place_panels(
        &mut self,
        type_case: &TypeCase,
        panels: Vec<(RgbImage, &str)>,
        columns: &[u32],
        size: f32,
        captions_above: bool,
    ) {
        let captions: Vec<Vec<String>> = panels
            .iter()
            .zip(columns)
            .map(|((_, caption), &column)| type_case.wrap(caption, size, column))
            .collect();
        let text_height = captions
            .iter()
            .map(|lines| type_case.height(lines, size))
            .max()
            .unwrap_or(0);
        let gap = if text_height > 0 { TEXT_GAP } else { 0 };
        let picture_height = panels
            .iter()
            .map(|(image, _)| image.height())
            .max()
            .unwrap_or(0);
        let pictures_top = self.height + if captions_above { text_height + gap } else { 0 };
        let mut left = MARGIN;
        for (((image, _), lines), &column) in panels.into_iter().zip(captions).zip(columns) {
            let text_top = if captions_above {
                self.height + text_height - type_case.height(&lines, size)
            } else {
                pictures_top + picture_height + gap
            };
            let picture_top = if captions_above {
                pictures_top
            } else {
                pictures_top + picture_height - image.height()
            };
            self.texts.push(TextBlock {
                lines,
                size,
                left,
                top: text_top,
            });
            self.pictures.push(Placed {
                image,
                left,
                top: picture_top,
            });
            left += column + COLUMN_GAP;
        }
        self.height += picture_height + gap + text_height;
    }
}

fn draw_framed(sheet: &mut RgbImage, picture: &Placed) {
    let (width, height) = picture.image.dimensions();
    let frame = RgbImage::from_pixel(width + 2, height + 2, FRAME);
    let (left, top) = (i64::from(picture.left), i64::from(picture.top));
    imageops::replace(sheet, &frame, left - 1, top - 1);
    imageops::replace(sheet, &picture.image, left, top);
}

/// The font, and how to set text with it.
struct TypeCase {
    font: FontRef<'static>,
}

impl TypeCase {
    fn new() -> Result<Self, Error> {
        let font = FontRef::try_from_slice(epaint_default_fonts::UBUNTU_LIGHT)
            .map_err(|error| Error::Font(error.to_string()))?;
        Ok(Self { font })
    }

    fn line_height(&self, size: f32) -> f32 {
        let font = self.font.as_scaled(PxScale::from(size));
        font.height() + font.line_gap()
    }

    fn height(&self, lines: &[String], size: f32) -> u32 {
        (self.line_height(size) * lines.len() as f32).ceil() as u32
    }

    /// The glyphs of one line from the origin at its baseline, and where the line ends.
    fn set_line(&self, line: &str, size: f32) -> (Vec<Glyph>, f32) {
        let scale = PxScale::from(size);
        let font = self.font.as_scaled(scale);
        let mut glyphs = Vec::new();
        let mut x = 0.0;
        let mut previous = None;
        for character in line.chars().filter(|c| !c.is_control()) {
            let id = font.glyph_id(character);
            if let Some(previous) = previous {
                x += font.kern(previous, id);
            }
            glyphs.push(id.with_scale_and_position(scale, Point { x, y: 0.0 }));
            x += font.h_advance(id);
            previous = Some(id);
        }
        (glyphs, x)
    }

    fn fits(&self, line: &str, size: f32, width: u32) -> bool {
        self.set_line(line, size).1 <= width as f32
    }

    /// Breaks text into lines of at most `width` pixels: at its own line breaks, between words,
    /// and within a word that is longer than a line.
    fn wrap(&self, text: &str, size: f32, width: u32) -> Vec<String> {
        let mut lines = Vec::new();
        for paragraph in text.trim_end().lines() {
            let mut line = String::new();
            for word in paragraph.split_whitespace() {
                let longer = if line.is_empty() {
                    word.to_string()
                } else {
                    format!("{line} {word}")
                };
                if self.fits(&longer, size, width) {
                    line = longer;
                    continue;
                }
                if !line.is_empty() {
                    lines.push(std::mem::take(&mut line));
                }
                for character in word.chars() {
                    line.push(character);
                    if !self.fits(&line, size, width) && line.chars().nth(1).is_some() {
                        line.pop();
                        lines.push(std::mem::replace(&mut line, character.to_string()));
                    }
                }
            }
            lines.push(line);
        }
        lines
    }

    fn draw(&self, sheet: &mut RgbImage, block: &TextBlock) {
        let ascent = self.font.as_scaled(PxScale::from(block.size)).ascent();
        for (index, line) in block.lines.iter().enumerate() {
            let baseline =
                block.top as f32 + (self.line_height(block.size) * index as f32 + ascent).round();
            for mut glyph in self.set_line(line, block.size).0 {
                glyph.position.x += block.left as f32;
                glyph.position.y = baseline;
                self.draw_glyph(sheet, glyph);
            }
        }
    }

    fn draw_glyph(&self, sheet: &mut RgbImage, glyph: Glyph) {
        // Spaces have no outline.
        let Some(outline) = self.font.outline_glyph(glyph) else {
            return;
        };
        let (left, top) = (
            outline.px_bounds().min.x as i64,
            outline.px_bounds().min.y as i64,
        );
        outline.draw(|x, y, coverage| {
            let (x, y) = (left + i64::from(x), top + i64::from(y));
            if let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y))
                && let Some(pixel) = sheet.get_pixel_mut_checked(x, y)
            {
                blend(&mut pixel.0, INK, coverage);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    const CAPTION_SIZE: f32 = 21.0;

    fn panel(width: u32, height: u32, caption: &str) -> Panel {
        Panel {
            image: RgbImage::from_pixel(width, height, Rgb([200, 30, 30])),
            caption: caption.into(),
        }
    }

    fn dark_pixels(sheet: &RgbImage) -> usize {
        sheet
            .pixels()
            .filter(|pixel| pixel.0.iter().all(|&s| s < 110))
            .count()
    }

    #[test]
    fn small_pictures_grow_by_a_whole_factor_and_large_ones_shrink() {
        let size = |w, h| legible(&RgbImage::new(w, h)).unwrap().dimensions();
        assert_eq!(size(64, 64), (256, 256));
        assert_eq!(size(48, 64), (192, 256));
        assert_eq!(size(224, 224), (224, 224));
        assert_eq!(size(512, 512), (512, 512));
        assert_eq!(size(3000, 1500), (768, 384));
        assert_eq!(size(9000, 1), (768, 1));
    }

    #[test]
    fn every_latin_1_letter_has_a_glyph() {
        let type_case = TypeCase::new().unwrap();
        for c in (0x20..=0x7e).chain(0xa0..=0xff).filter_map(char::from_u32) {
            // U+00AD, the soft hyphen, is only ever shown at the end of a line.
            assert!(type_case.font.glyph_id(c).0 != 0 || c == '\u{ad}', "{c:?}");
        }
    }

    #[test]
    fn wrapped_lines_fit_and_keep_every_word() {
        let type_case = TypeCase::new().unwrap();
        let text = "a man who is not wearing a hat, Grüße aus Ñuñoa\n\
                    donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichen end";
        for width in [1, 60, 160, 500] {
            let lines = type_case.wrap(text, CAPTION_SIZE, width);
            for line in &lines {
                let single = line.chars().count() == 1;
                assert!(
                    single || type_case.fits(line, CAPTION_SIZE, width),
                    "{line:?}"
                );
            }
            let letters = |s: &str| s.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            assert_eq!(letters(&lines.concat()), letters(text));
        }
    }

    #[test]
    fn captions_make_room_for_themselves() {
        let long = "one two three four five six seven eight nine ten ".repeat(4);
        let without = Sheet::new()
            .row(vec![panel(256, 256, "")])
            .render()
            .unwrap();
        let short = Sheet::new()
            .row(vec![panel(256, 256, "one")])
            .render()
            .unwrap();
        let tall = Sheet::new()
            .row(vec![panel(256, 256, &long)])
            .render()
            .unwrap();
        assert!(without.height() < short.height() && short.height() < tall.height());
        assert_eq!(dark_pixels(&without), 0);
        assert!(dark_pixels(&short) > 20);
        assert!(dark_pixels(&tall) > 30 * dark_pixels(&short));
        let last_row = tall.rows().next_back().unwrap();
        assert!(last_row.into_iter().all(|&pixel| pixel == BACKGROUND));
    }

    #[test]
    fn pictures_keep_their_pixels_wherever_captions_go() {
        let sheet = Sheet::new()
            .title("title")
            .row(vec![panel(64, 64, "a"), panel(64, 32, "b")])
            .row_with_heading("heading", vec![panel(10, 10, "c")]);
        let expected = 256 * 256 + 256 * 128 + 260 * 260;
        for sheet in [sheet.clone(), sheet.captions_above()] {
            let rendered = sheet.render().unwrap();
            let red = rendered
                .pixels()
                .filter(|pixel| pixel.0 == [200, 30, 30])
                .count();
            assert_eq!(red, expected);
        }
    }

    #[test]
    fn nothing_to_show_is_an_error() {
        for sheet in [
            Sheet::new(),
            Sheet::new().row(vec![]),
            Sheet::new().row(vec![panel(0, 3, "x")]),
        ] {
            assert!(matches!(sheet.render(), Err(Error::Shape { .. })));
        }
    }
}
