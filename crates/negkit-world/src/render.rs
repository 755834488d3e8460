//! Draws scenes: flat shapes, lit from the upper left, at any resolution.
//!
//! Everything is a filled or stroked path. A thing is drawn in design units of its own (hundredths
//! of the picture's side for a thing of normal size), which a transform takes into its frame, so
//! that no shape knows the resolution. Masks come from the same calls: beside the picture, each
//! path is painted into label maps in which a thing has one colour channel and all others none.
//! Blending then leaves in each channel the share of the pixel that the thing covers after
//! everything drawn later, with the very anti-aliasing of the picture.

mod animals;
mod backdrop;
mod furniture;
mod outdoors;
mod people;
mod vehicles;
mod wall;

use image::RgbImage;
use tiny_skia::{
    Color, FillRule, GradientStop, LineCap, LineJoin, LinearGradient, Paint, Path, PathBuilder,
    Pixmap, Point, Rect, Shader, SpreadMode, Stroke, Transform,
};

use crate::catalog::{Colour, Kind, State, Zone};
use crate::scene::{Scene, Thing};
use crate::truth::{Layers, Rendering};

/// A colour, red green blue.
pub(crate) type Rgb = [u8; 3];

/// Smallest side that scenes are drawn at.
const SMALLEST_SIDE: u32 = 8;

/// Draws a scene into a square picture of `side` pixels (at least 8), with its truth.
pub fn render(scene: &Scene, side: u32) -> Rendering {
    let layers = Layers::of(scene);
    let mut canvas = Canvas::new(side, layers.count());
    backdrop::paint(&mut canvas, scene.place, scene.variation);
    for (thing, &first) in scene.things.iter().zip(layers.first()) {
        paint_thing(&mut canvas, thing, first);
    }
    let things = layers.truth(&canvas.labels);
    Rendering {
        picture: canvas.into_picture(),
        things,
    }
}

/// Draws the picture alone: the pixels of [`render`] in less time.
pub fn render_picture(scene: &Scene, side: u32) -> RgbImage {
    let mut canvas = Canvas::new(side, 0);
    backdrop::paint(&mut canvas, scene.place, scene.variation);
    for thing in &scene.things {
        paint_thing(&mut canvas, thing, 0);
    }
    canvas.into_picture()
}

/// The red, green and blue of a colour's name.
pub fn rgb(colour: Colour) -> [u8; 3] {
    match colour {
        Colour::Red => [218, 44, 40],
        Colour::Yellow => [250, 205, 30],
        Colour::Green => [34, 146, 62],
        Colour::Blue => [36, 98, 214],
        Colour::Purple => [146, 62, 186],
        Colour::White => [246, 246, 243],
        Colour::Black => [40, 40, 46],
        Colour::Brown => [134, 82, 42],
    }
}

/// `colour` with `share` of `other` mixed in.
fn mix(colour: Rgb, other: Rgb, share: f32) -> Rgb {
    let blend = |a: u8, b: u8| (f32::from(a) * (1. - share) + f32::from(b) * share).round() as u8;
    [
        blend(colour[0], other[0]),
        blend(colour[1], other[1]),
        blend(colour[2], other[2]),
    ]
}

/// `colour` made darker by `share`.
fn darker(colour: Rgb, share: f32) -> Rgb {
    mix(colour, [22, 22, 34], share)
}

/// `colour` made lighter by `share`.
fn lighter(colour: Rgb, share: f32) -> Rgb {
    mix(colour, [255, 255, 255], share)
}

fn luma(colour: Rgb) -> f32 {
    0.3 * f32::from(colour[0]) + 0.59 * f32::from(colour[1]) + 0.11 * f32::from(colour[2])
}

/// The outline of a shape of that colour: darker, but lighter around what is nearly black.
fn outline_of(colour: Rgb) -> Rgb {
    if luma(colour) < 60. {
        lighter(colour, 0.35)
    } else {
        darker(colour, 0.5)
    }
}

/// A number below `count`, of the variation's own for each `salt`.
fn vary(variation: u32, salt: u32, count: u32) -> u32 {
    let mut z = u64::from(variation) ^ (u64::from(salt) << 32) ^ 0x9e37_79b9_7f4a_7c15;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z >> 33) % u64::from(count.max(1))) as u32
}

/// A number from 0 to 1, of the variation's own for each `salt`.
fn vary_share(variation: u32, salt: u32) -> f32 {
    vary(variation, salt, 1000) as f32 / 999.
}

/// One of the choices, of the variation's own for each `salt`.
fn vary_choice(variation: u32, salt: u32, choices: &[Rgb]) -> Rgb {
    let index = vary(variation, salt, choices.len() as u32) as usize;
    choices.get(index).copied().unwrap_or([128, 128, 128])
}

/// The picture in work, and beside it the label maps.
struct Canvas {
    picture: Option<Pixmap>,
    /// Three layers each, one a colour channel.
    labels: Vec<Pixmap>,
    side: u32,
}

impl Canvas {
    fn new(side: u32, layers: usize) -> Self {
        let side = side.max(SMALLEST_SIDE);
        let labels = (0..layers.div_ceil(3)).filter_map(|_| Pixmap::new(side, side));
        Self {
            picture: Pixmap::new(side, side),
            labels: labels.collect(),
            side,
        }
    }

    /// A pen for a frame in shares of the side, which `design` units wide and high cover.
    fn pen(&mut self, frame: [f32; 4], design: (f32, f32), flipped: bool) -> Pen<'_> {
        let side = self.side as f32;
        let (sx, sy) = (frame[2] / design.0 * side, frame[3] / design.1 * side);
        let (x, y) = (frame[0] * side, frame[1] * side);
        let transform = if flipped {
            Transform::from_row(-sx, 0., 0., sy, x + frame[2] * side, y)
        } else {
            Transform::from_row(sx, 0., 0., sy, x, y)
        };
        Pen {
            canvas: self,
            transform,
            flipped,
            layer: None,
        }
    }

    fn into_picture(self) -> RgbImage {
        let Some(picture) = self.picture else {
            return RgbImage::new(self.side, self.side);
        };
        let pixels = picture.pixels();
        let mut out = RgbImage::new(self.side, self.side);
        // The backdrop covers everything, so that every pixel is opaque.
        for (to, from) in out.pixels_mut().zip(pixels) {
            to.0 = [from.red(), from.green(), from.blue()];
        }
        out
    }
}

/// What a path is painted with.
#[derive(Clone, Copy)]
enum Ink {
    /// Evenly.
    Flat(Rgb),
    /// Lighter at the upper left, darker at the lower right.
    Lit(Rgb),
    /// Evenly, letting through what is below; never part of a thing.
    Glaze(Rgb, f32),
}

/// Draws in the units of one design.
struct Pen<'a> {
    canvas: &'a mut Canvas,
    transform: Transform,
    flipped: bool,
    /// The layer that the strokes belong to; none for props, which hide things but are none.
    layer: Option<usize>,
}

type Points<'p> = &'p [(f32, f32)];

impl Pen<'_> {
    /// Runs `draw` with the design moved, scaled or leaned.
    fn within(&mut self, change: Transform, draw: impl FnOnce(&mut Self)) {
        let before = self.transform;
        self.transform = before.pre_concat(change);
        draw(self);
        self.transform = before;
    }

    /// Runs `draw` for strokes that belong to no thing.
    fn prop(&mut self, draw: impl FnOnce(&mut Self)) {
        let before = self.layer.take();
        draw(self);
        self.layer = before;
    }

    fn fill(&mut self, path: Option<Path>, ink: Ink) {
        let Some(path) = path else { return };
        let paint = self.paint(ink, path.bounds());
        let transform = self.transform;
        if let Some(picture) = &mut self.canvas.picture {
            picture.fill_path(&path, &paint, FillRule::Winding, transform, None);
        }
        if !matches!(ink, Ink::Glaze(..)) {
            self.label(|map, paint| {
                map.fill_path(&path, paint, FillRule::Winding, transform, None);
            });
        }
    }

    fn stroke(&mut self, path: Option<&Path>, width: f32, ink: Ink) {
        let Some(path) = path else { return };
        let stroke = Stroke {
            width,
            line_cap: LineCap::Round,
            line_join: LineJoin::Round,
            ..Stroke::default()
        };
        let paint = self.paint(ink, path.bounds());
        let transform = self.transform;
        if let Some(picture) = &mut self.canvas.picture {
            picture.stroke_path(path, &paint, &stroke, transform, None);
        }
        if !matches!(ink, Ink::Glaze(..)) {
            self.label(|map, paint| map.stroke_path(path, paint, &stroke, transform, None));
        }
    }

    /// A shape of a thing: lit, with a thin outline.
    fn shape(&mut self, path: Option<Path>, colour: Rgb) {
        self.stroke(path.as_ref(), 1.3, Ink::Flat(outline_of(colour)));
        self.fill(path, Ink::Lit(colour));
    }

    fn paint(&self, ink: Ink, bounds: Rect) -> Paint<'static> {
        let shader = match ink {
            Ink::Flat(colour) => Shader::SolidColor(opaque(colour)),
            Ink::Glaze([r, g, b], alpha) => {
                let mut color = Color::from_rgba8(r, g, b, 255);
                color.set_alpha(alpha);
                Shader::SolidColor(color)
            }
            Ink::Lit(colour) => self.light(colour, bounds),
        };
        Paint {
            shader,
            anti_alias: true,
            ..Paint::default()
        }
    }

    fn light(&self, colour: Rgb, bounds: Rect) -> Shader<'static> {
        let (mut from, mut to) = (bounds.left(), bounds.right());
        if self.flipped {
            std::mem::swap(&mut from, &mut to);
        }
        LinearGradient::new(
            Point::from_xy(from, bounds.top()),
            Point::from_xy(to, bounds.bottom()),
            vec![
                GradientStop::new(0., opaque(lighter(colour, 0.16))),
                GradientStop::new(1., opaque(darker(colour, 0.17))),
            ],
            SpreadMode::Pad,
            Transform::identity(),
        )
        .unwrap_or(Shader::SolidColor(opaque(colour)))
    }

    /// Paints the same into every label map: this layer's channel full, all others nothing.
    fn label(&mut self, draw: impl Fn(&mut Pixmap, &Paint)) {
        let layer = self.layer;
        for (index, map) in self.canvas.labels.iter_mut().enumerate() {
            let mut channels = [0u8; 3];
            if let Some(layer) = layer.filter(|layer| layer / 3 == index) {
                channels[layer % 3] = 255;
            }
            let paint = Paint {
                shader: Shader::SolidColor(opaque(channels)),
                anti_alias: true,
                ..Paint::default()
            };
            draw(map, &paint);
        }
    }

    fn line(&mut self, points: Points, width: f32, colour: Rgb) {
        self.stroke(open(points).as_ref(), width, Ink::Flat(colour));
    }

    /// A limb: a thick line with an outline.
    fn limb(&mut self, points: Points, width: f32, colour: Rgb) {
        let path = open(points);
        self.stroke(path.as_ref(), width + 1.1, Ink::Flat(outline_of(colour)));
        self.stroke(path.as_ref(), width, Ink::Lit(colour));
    }

    /// A soft shadow on the ground, around the middle of its long axis.
    fn shadow(&mut self, cx: f32, cy: f32, rx: f32) {
        let ry = (rx * 0.14).clamp(1.0, 2.6);
        self.fill(
            oval(cx, cy, rx * 1.06, ry * 1.25),
            Ink::Glaze([10, 14, 30], 0.12),
        );
        self.fill(
            oval(cx, cy, rx * 0.9, ry * 0.85),
            Ink::Glaze([10, 14, 30], 0.18),
        );
    }
}

fn opaque([r, g, b]: Rgb) -> Color {
    Color::from_rgba8(r, g, b, 255)
}

fn oval(cx: f32, cy: f32, rx: f32, ry: f32) -> Option<Path> {
    PathBuilder::from_oval(Rect::from_xywh(cx - rx, cy - ry, 2. * rx, 2. * ry)?)
}

fn disc(cx: f32, cy: f32, r: f32) -> Option<Path> {
    oval(cx, cy, r, r)
}

fn block(x: f32, y: f32, w: f32, h: f32) -> Option<Path> {
    Some(PathBuilder::from_rect(Rect::from_xywh(x, y, w, h)?))
}

/// A rectangle with round corners.
fn soft(x: f32, y: f32, w: f32, h: f32, r: f32) -> Option<Path> {
    let r = r.min(w / 2.).min(h / 2.);
    let mut b = PathBuilder::new();
    b.move_to(x + r, y);
    b.line_to(x + w - r, y);
    b.quad_to(x + w, y, x + w, y + r);
    b.line_to(x + w, y + h - r);
    b.quad_to(x + w, y + h, x + w - r, y + h);
    b.line_to(x + r, y + h);
    b.quad_to(x, y + h, x, y + h - r);
    b.line_to(x, y + r);
    b.quad_to(x, y, x + r, y);
    b.close();
    b.finish()
}

fn polygon(points: Points) -> Option<Path> {
    let mut b = trace(points);
    b.close();
    b.finish()
}

fn open(points: Points) -> Option<Path> {
    trace(points).finish()
}

fn trace(points: Points) -> PathBuilder {
    let mut b = PathBuilder::new();
    for (index, &(x, y)) in points.iter().enumerate() {
        if index == 0 {
            b.move_to(x, y);
        } else {
            b.line_to(x, y);
        }
    }
    b
}

/// A closed curve through the middles of the points' connections, with the points as controls.
fn blob(points: Points) -> Option<Path> {
    let (&first, &last) = (points.first()?, points.last()?);
    let middle = |a: (f32, f32), b: (f32, f32)| ((a.0 + b.0) / 2., (a.1 + b.1) / 2.);
    let mut b = PathBuilder::new();
    let start = middle(last, first);
    b.move_to(start.0, start.1);
    for (index, &point) in points.iter().enumerate() {
        let next = points.get(index + 1).copied().unwrap_or(first);
        let end = middle(point, next);
        b.quad_to(point.0, point.1, end.0, end.1);
    }
    b.close();
    b.finish()
}

/// Several outlines as one path: their union, for shapes that overlap without a seam.
fn union<const N: usize>(paths: [Option<Path>; N]) -> Option<Path> {
    let mut b = PathBuilder::new();
    for path in paths.iter().flatten() {
        b.push_path(path);
    }
    b.finish()
}

/// A curve from a point over a control point to another.
fn curve(from: (f32, f32), control: (f32, f32), to: (f32, f32)) -> Option<Path> {
    let mut b = PathBuilder::new();
    b.move_to(from.0, from.1);
    b.quad_to(control.0, control.1, to.0, to.1);
    b.finish()
}

/// Draws a thing with its shadow and all that it wears; its layers begin at `first`.
fn paint_thing(canvas: &mut Canvas, thing: &Thing, first: usize) {
    let traits = thing.kind.traits();
    let (width, height) = (traits.width * 100., traits.height * 100.);
    let grounded = traits.zone == Zone::Ground && thing.state != Some(State::Flying);
    let mut pen = canvas.pen(thing.frame, (width, height), thing.flipped);
    if grounded && thing.kind != Kind::Boat {
        pen.shadow(width / 2., height - 0.6, width * 0.48);
    }
    pen.layer = Some(first);
    let colour = thing.colour.map_or([150, 150, 150], rgb);
    match thing.kind {
        Kind::Man | Kind::Woman => people::paint(canvas, thing, colour, first),
        Kind::Dog | Kind::Cat | Kind::Bird | Kind::Horse | Kind::Cow | Kind::Sheep => {
            animals::paint(&mut pen, thing, colour);
        }
        Kind::Car | Kind::Bus | Kind::Truck | Kind::Bicycle | Kind::Boat => {
            vehicles::paint(&mut pen, thing, colour);
        }
        Kind::Mirror | Kind::Window | Kind::Clock | Kind::Painting => {
            wall::paint(&mut pen, thing, colour);
        }
        Kind::Chair
        | Kind::Table
        | Kind::Sofa
        | Kind::Bed
        | Kind::Lamp
        | Kind::Plant
        | Kind::Television
        | Kind::Bookcase
        | Kind::Fridge
        | Kind::Oven
        | Kind::Sink
        | Kind::Toilet
        | Kind::Bathtub => furniture::paint(&mut pen, thing, colour),
        Kind::Tree
        | Kind::Bench
        | Kind::Flower
        | Kind::Ball
        | Kind::House
        | Kind::Rock
        | Kind::Hydrant
        | Kind::Tent
        | Kind::Sun
        | Kind::Cloud
        | Kind::Kite
        | Kind::Balloon => outdoors::paint(&mut pen, thing, colour),
        // Worn and held things are drawn with the person who has them.
        Kind::Hat | Kind::Glasses | Kind::Umbrella | Kind::Bag => {}
    }
}

#[cfg(test)]
mod tests;
