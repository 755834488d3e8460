//! Outlines to masks, pixel for pixel as the tools that the datasets were made with.
//!
//! There is no one right answer to which pixels an outline covers. COCO's `maskApi.c` and PIL's
//! `ImageDraw` answer differently, along the edges by up to a pixel, which on small objects moves
//! an IoU by several hundredths. So both are here, each for the dataset that is scored with it.

use negkit_image::{Limits, Mask};

use crate::DataError;

/// Corners further from the picture than this are refused. Beyond it the reference tools overflow.
const MOST_COORDINATE: f64 = 1e6;

/// The outline at `index`, after a check of its corners.
fn checked(at: [f64; 2], part: impl Fn() -> String) -> Result<[f64; 2], DataError> {
    if at.iter().all(|c| c.abs() <= MOST_COORDINATE) {
        return Ok(at);
    }
    Err(DataError::Mask {
        part: part(),
        expected: format!("coordinates from -{MOST_COORDINATE} to {MOST_COORDINATE}"),
        found: format!("({}, {})", at[0], at[1]),
    })
}

fn blank(width: u32, height: u32) -> Result<Vec<bool>, DataError> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > Limits::PIL_MAX_PIXELS {
        return Err(DataError::Mask {
            part: "segmentation".to_owned(),
            expected: format!("a picture of 1 to {} pixels", Limits::PIL_MAX_PIXELS),
            found: format!("{width}x{height}"),
        });
    }
    Ok(vec![false; width as usize * height as usize])
}

/// The mask of COCO polygons, each as `x, y, x, y, …` in pixels: the union of what
/// `pycocotools.mask.frPyObjects` makes of them (`rleFrPoly` of `maskApi.c`).
///
/// # Errors
/// [`DataError::Mask`] for a polygon with fewer than three corners (of four numbers the reference
/// would silently make a *box*), an odd count of numbers, or a corner that is far outside or not
/// finite. What lies outside the picture is left out.
pub fn coco_mask(polygons: &[Vec<f64>], width: u32, height: u32) -> Result<Mask, DataError> {
    let mut columns = blank(width, height)?;
    for (index, polygon) in polygons.iter().enumerate() {
        let part = || format!("segmentation[{index}]");
        let (corners, odd) = polygon.as_chunks::<2>();
        if corners.len() < 3 || !odd.is_empty() {
            return Err(DataError::Mask {
                part: part(),
                expected: "x, y of three corners or more".to_owned(),
                found: format!("{} numbers", polygon.len()),
            });
        }
        let corners = corners
            .iter()
            .map(|&at| checked(at, part))
            .collect::<Result<Vec<_>, _>>()?;
        fill_between(&mut columns, &crossings(&corners, width, height));
    }
    let (w, h) = (width as usize, height as usize);
    let pixels = (0..w * h).map(|at| columns[at % w * h + at / w]).collect();
    Ok(Mask::new(width, height, pixels)?)
}

/// Where the outline crosses columns of pixels, as positions down the columns, sorted.
///
/// The outline is walked at five times the resolution. `maskApi.c` keeps all steps and looks at
/// them afterwards; here each is looked at when it is made.
fn crossings(corners: &[[f64; 2]], width: u32, height: u32) -> Vec<usize> {
    const SCALE: f64 = 5.;
    let (width, height) = (f64::from(width), f64::from(height));
    // C's conversion to int, towards zero, and not floor: it differs left of the picture.
    let scaled: Vec<[i64; 2]> = corners
        .iter()
        .map(|at| at.map(|c| (SCALE * c + 0.5) as i64))
        .collect();
    let mut found = Vec::new();
    let mut before: Option<[i64; 2]> = None;
    let mut step = |[u, v]: [i64; 2]| {
        if let Some([u0, v0]) = before.replace([u, v])
            && u != u0
        {
            let x = (if u < u0 { u } else { u - 1 }) as f64;
            let x = (x + 0.5) / SCALE - 0.5;
            if x.floor() == x && x >= 0. && x <= width - 1. {
                let y = (v.min(v0) as f64 + 0.5) / SCALE - 0.5;
                let y = y.clamp(0., height).ceil();
                found.push((x * height + y) as usize);
            }
        }
    };
    for (index, &from) in scaled.iter().enumerate() {
        let to = scaled[(index + 1) % scaled.len()];
        let ([mut xs, mut ys], [mut xe, mut ye]) = (from, to);
        let (dx, dy) = ((xe - xs).abs(), (ys - ye).abs());
        let along_x = dx >= dy;
        let flip = if along_x { xs > xe } else { ys > ye };
        if flip {
            (xs, xe, ys, ye) = (xe, xs, ye, ys);
        }
        let length = dx.max(dy);
        let slope = if along_x {
            (ye - ys) as f64 / dx as f64
        } else {
            (xe - xs) as f64 / dy as f64
        };
        for d in 0..=length {
            let t = if flip { length - d } else { d };
            let across = |start: i64| {
                // Two equal corners: 0 / 0 in the reference, whose step of one point is the same
                // pixel whatever NaN becomes, because it is a step in no direction.
                if length == 0 {
                    start
                } else {
                    (start as f64 + slope * t as f64 + 0.5) as i64
                }
            };
            step(if along_x {
                [xs + t, across(ys)]
            } else {
                [across(xs), ys + t]
            });
        }
    }
    found.sort_unstable();
    found
}

/// Fills between the first and the second crossing, the third and the fourth, and so on.
fn fill_between(columns: &mut [bool], crossings: &[usize]) {
    for pair in crossings.chunks(2) {
        let end = pair.get(1).copied().unwrap_or(columns.len());
        columns[pair[0].min(end)..end].fill(true);
    }
}

/// The mask of PhraseCut polygons, each a list of x, y points in pixels: the union of what PIL's
/// `ImageDraw.polygon(points, outline=1, fill=1)` draws, with the points truncated to integers
/// (`polygons_to_mask` of PhraseCut's `data_transfer.py`).
///
/// Polygons with fewer than two points are passed over, as they are there; two points draw a line.
///
/// # Errors
/// [`DataError::Mask`] for a point that is far outside the picture or not finite. What lies
/// outside the picture is left out.
pub fn pil_mask<'a>(
    polygons: impl IntoIterator<Item = &'a [[f64; 2]]>,
    width: u32,
    height: u32,
) -> Result<Mask, DataError> {
    let mut canvas = Canvas {
        width: width as usize,
        height: height as usize,
        pixels: blank(width, height)?,
    };
    for (index, polygon) in polygons.into_iter().enumerate() {
        if polygon.len() < 2 {
            continue;
        }
        let points = polygon
            .iter()
            .map(|&at| {
                let at = checked(at, || format!("polygon {index}"))?;
                Ok(at.map(|c| c as i32))
            })
            .collect::<Result<Vec<_>, DataError>>()?;
        canvas.fill(&points);
    }
    Ok(Mask::new(width, height, canvas.pixels)?)
}

/// `Imaging` of mode L, as far as `Draw.c` needs it.
struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<bool>,
}

/// A side of a polygon, `Edge` in `Draw.c`.
struct Edge {
    x0: i32,
    y0: i32,
    x_min: i32,
    y_min: i32,
    x_max: i32,
    y_max: i32,
    dx: f32,
}

impl Edge {
    /// `add_edge`.
    fn new([x0, y0]: [i32; 2], [x1, y1]: [i32; 2]) -> Self {
        Self {
            x0,
            y0,
            x_min: x0.min(x1),
            y_min: y0.min(y1),
            x_max: x0.max(x1),
            y_max: y0.max(y1),
            dx: if y0 == y1 {
                0.
            } else {
                (x1 - x0) as f32 / (y1 - y0) as f32
            },
        }
    }

    fn x_at(&self, y: i32) -> f32 {
        (y - self.y0) as f32 * self.dx + self.x0 as f32
    }

    fn ends_at(&self, y: i32) -> bool {
        y == self.y_min || y == self.y_max
    }

    fn spans(&self, y: i32) -> bool {
        y >= self.y_min && y <= self.y_max
    }
}

/// `ImagingDrawPolygon`'s list of sides. A horizontal side that goes on in the direction of the
/// one before it becomes part of it.
fn edges(points: &[[i32; 2]]) -> Vec<Edge> {
    let mut edges: Vec<Edge> = Vec::with_capacity(points.len());
    for (index, pair) in points.windows(2).enumerate() {
        let ([x0, y0], [x1, y1]) = (pair[0], pair[1]);
        if y0 == y1
            && index > 0
            && points[index - 1][1] == y0
            && let Some(last) = edges.last_mut()
        {
            let before = points[index - 1][0];
            if x1 > x0 && x0 > before {
                last.x_max = x1;
                continue;
            }
            if x1 < x0 && x0 < before {
                last.x_min = x1;
                continue;
            }
        }
        edges.push(Edge::new(pair[0], pair[1]));
    }
    if let (Some(&first), Some(&last)) = (points.first(), points.last())
        && first != last
    {
        edges.push(Edge::new(last, first));
    }
    edges
}

/// `ROUND_UP`: to the nearest, halves away from zero.
fn round_up(x: f32) -> i32 {
    if x >= 0. {
        (x + 0.5).floor() as i32
    } else {
        -(f64::from(x.abs()) + 0.5).floor() as i32
    }
}

/// `ROUND_DOWN`: to the nearest, halves towards zero.
fn round_down(x: f32) -> i32 {
    if x >= 0. {
        (x - 0.5).ceil() as i32
    } else {
        -(f64::from(x.abs()) - 0.5).ceil() as i32
    }
}

impl Canvas {
    /// `hline8`: a row of pixels, both ends included.
    fn row(&mut self, from: i32, y: i32, to: i32) {
        let Ok(y) = usize::try_from(y) else { return };
        let Ok(to) = usize::try_from(to) else { return };
        let from = usize::try_from(from).unwrap_or(0);
        if y < self.height && from < self.width && from <= to {
            let to = to.min(self.width - 1);
            self.pixels[y * self.width + from..=y * self.width + to].fill(true);
        }
    }

    /// `ImagingDrawPolygon` with `fill`. `ImageDraw.polygon` draws an outline besides only where
    /// its colour differs from the filling's, which is not so here: the filling counts the pixels
    /// that its sides touch as inside.
    fn fill(&mut self, points: &[[i32; 2]]) {
        let edges = edges(points);
        // `polygon_generic`, which begins with the picture's last row for the first, and with row
        // 0 for the last.
        let mut first = self.height as i32 - 1;
        let mut last = 0;
        for edge in &edges {
            first = first.min(edge.y_min);
            last = last.max(edge.y_max);
            if edge.y_min == edge.y_max {
                self.row(edge.x_min, edge.y_min, edge.x_max);
            }
        }
        let sloped: Vec<&Edge> = edges.iter().filter(|e| e.y_min != e.y_max).collect();
        let last = last.min(self.height as i32);
        let mut crossings = Vec::with_capacity(sloped.len() * 2);
        for y in first.max(0)..=last {
            crossings.clear();
            for (index, edge) in sloped.iter().enumerate() {
                if !edge.spans(y) {
                    continue;
                }
                let x = edge.x_at(y);
                if y == edge.y_max && y < last {
                    // Twice, so that the sides above and below a corner stay in pairs.
                    crossings.extend([x, x]);
                } else if edge.ends_at(y) && edge.dx != 0. {
                    crossings.push(joined(x, y, edge, &sloped[..index]));
                } else {
                    crossings.push(x);
                }
            }
            crossings.sort_by(f32::total_cmp);
            for pair in crossings.as_chunks::<2>().0 {
                self.row(round_up(pair[0]), y, round_down(pair[1]));
            }
        }
    }
}

/// Where `edge` meets row `y`, moved so that a flat corner with a side before it has no gap
/// ("Connect discontiguous corners").
fn joined(x: f32, y: i32, edge: &Edge, before: &[&Edge]) -> f32 {
    for other in before {
        if !other.ends_at(y) || other.dx == 0. || x.round() != other.x_at(y).round() {
            continue;
        }
        let next = if y == edge.y_max { y - 1 } else { y + 1 };
        if !other.spans(next) {
            continue;
        }
        let (own, others) = (edge.x_at(next), other.x_at(next));
        return if x > own + 1. && x > others + 1. {
            own.max(others).round() + 1.
        } else if x < own - 1. && x < others - 1. {
            own.min(others).round() - 1.
        } else {
            x
        };
    }
    x
}
