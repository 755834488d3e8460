//! Outlines of masks as polygons that give the mask back exactly.
//!
//! A polygon has no holes, so a part with holes is cut through each of them, straight down, until
//! no part has one; the union of the parts is the mask. COCO's rasteriser takes polygons along the
//! pixels' edges, PhraseCut's (PIL, filled with its outline) along their centres: the two forms
//! differ by that half pixel.

use std::collections::HashMap;

use negkit_image::Mask;

/// A closed outline as x, y points; the last point joins the first.
pub type Polygon = Vec<[u32; 2]>;

/// Outlines along the pixels' edges, as COCO has them.
pub fn corner_polygons(mask: &Mask) -> Vec<Polygon> {
    parts(mask)
        .iter()
        .map(|part| {
            let walk = part.walk();
            let corners: Vec<[u32; 2]> = walk.iter().map(|step| step.corner).collect();
            straightened(&corners)
        })
        .collect()
}

/// Outlines along the pixels' centres, as PhraseCut has them: polygons that PIL fills together
/// with their outlines.
pub fn pixel_polygons(mask: &Mask) -> Vec<Polygon> {
    parts(mask)
        .iter()
        .map(|part| {
            let mut pixels: Vec<[u32; 2]> = part.walk().iter().map(|step| step.pixel).collect();
            pixels.dedup();
            if pixels.len() > 1 && pixels.first() == pixels.last() {
                pixels.pop();
            }
            let mut points = straightened(&pixels);
            // PIL refuses a polygon of one point.
            while points.len() < 3 {
                points.push(points[points.len() - 1]);
            }
            points
        })
        .collect()
}

/// Leaves out points on the straight line between their neighbours.
fn straightened(points: &[[u32; 2]]) -> Vec<[u32; 2]> {
    let count = points.len();
    if count < 3 {
        return points.to_vec();
    }
    let delta = |a: [u32; 2], b: [u32; 2]| {
        [
            i64::from(b[0]) - i64::from(a[0]),
            i64::from(b[1]) - i64::from(a[1]),
        ]
    };
    let kept: Vec<[u32; 2]> = (0..count)
        .filter(|&i| {
            let before = delta(points[(i + count - 1) % count], points[i]);
            let after = delta(points[i], points[(i + 1) % count]);
            before != after
        })
        .map(|i| points[i])
        .collect();
    if kept.is_empty() {
        points.to_vec()
    } else {
        kept
    }
}

/// A connected set of pixels (over edges, not corners) in the box around it.
struct Part {
    left: u32,
    top: u32,
    width: usize,
    height: usize,
    inside: Vec<bool>,
}

/// A step along an outline, the part to its right: from which corner, beside which pixel.
struct Step {
    corner: [u32; 2],
    pixel: [u32; 2],
}

impl Part {
    fn at(&self, x: isize, y: isize) -> bool {
        x >= 0
            && y >= 0
            && (x as usize) < self.width
            && (y as usize) < self.height
            && self.inside[y as usize * self.width + x as usize]
    }

    /// The middle column of a hole, a part of the background that does not reach the outside
    /// over edges.
    fn hole_column(&self) -> Option<usize> {
        let (width, height) = (self.width, self.height);
        let mut seen = self.inside.clone();
        let flood = |start: Vec<usize>, seen: &mut Vec<bool>| {
            let mut stack = start;
            let mut reached = Vec::new();
            while let Some(at) = stack.pop() {
                if std::mem::replace(&mut seen[at], true) {
                    continue;
                }
                reached.push(at);
                let (x, y) = (at % width, at / width);
                if x > 0 {
                    stack.push(at - 1);
                }
                if x + 1 < width {
                    stack.push(at + 1);
                }
                if y > 0 {
                    stack.push(at - width);
                }
                if y + 1 < height {
                    stack.push(at + width);
                }
            }
            reached
        };
        let rim = (0..width * height)
            .filter(|at| {
                let (x, y) = (at % width, at / width);
                x == 0 || y == 0 || x + 1 == width || y + 1 == height
            })
            .collect();
        flood(rim, &mut seen);
        let first = seen.iter().position(|&seen| !seen)?;
        let hole = flood(vec![first], &mut seen);
        let columns = hole.iter().map(|at| at % width);
        let (least, most) = (columns.clone().min()?, columns.max()?);
        Some((least + most) / 2)
    }

    /// The outline of a part without holes, clockwise from its topmost left pixel.
    fn walk(&self) -> Vec<Step> {
        // Directions in clockwise order: right, down, left, up; for each the corner of the pixel
        // that its edge starts at.
        const MOVES: [(isize, isize); 4] = [(1, 0), (0, 1), (-1, 0), (0, -1)];
        let Some(start) = self.inside.iter().position(|&inside| inside) else {
            return Vec::new();
        };
        let (start_x, start_y) = ((start % self.width) as isize, (start / self.width) as isize);
        let (mut x, mut y, mut direction) = (start_x, start_y, 0);
        let mut steps = Vec::new();
        loop {
            // The pixel to the right of a step from a corner in each direction.
            let (pixel_x, pixel_y) = match direction {
                0 => (x, y),
                1 => (x - 1, y),
                2 => (x - 1, y - 1),
                _ => (x, y - 1),
            };
            steps.push(Step {
                corner: [self.left + x as u32, self.top + y as u32],
                pixel: [self.left + pixel_x as u32, self.top + pixel_y as u32],
            });
            let (dx, dy) = MOVES[direction];
            x += dx;
            y += dy;
            // At the next corner: right where the pixel to the right ahead is outside, straight on
            // where only the one to the left is, else left.
            let (right_ahead, left_ahead) = match direction {
                0 => (self.at(x, y), self.at(x, y - 1)),
                1 => (self.at(x - 1, y), self.at(x, y)),
                2 => (self.at(x - 1, y - 1), self.at(x - 1, y)),
                _ => (self.at(x, y - 1), self.at(x - 1, y - 1)),
            };
            direction = match (right_ahead, left_ahead) {
                (false, _) => (direction + 1) % 4,
                (true, false) => direction,
                (true, true) => (direction + 3) % 4,
            };
            if (x, y, direction) == (start_x, start_y, 0) {
                return steps;
            }
        }
    }
}

/// The mask as connected parts without holes.
fn parts(mask: &Mask) -> Vec<Part> {
    let (width, height) = (mask.width() as usize, mask.height() as usize);
    let mut pending = connected(mask.pixels(), width, height, 0, 0);
    let mut done = Vec::new();
    while let Some(part) = pending.pop() {
        let Some(column) = part.hole_column() else {
            done.push(part);
            continue;
        };
        for keep_left in [true, false] {
            let pixels: Vec<bool> = part
                .inside
                .iter()
                .enumerate()
                .map(|(at, &inside)| inside && (at % part.width <= column) == keep_left)
                .collect();
            pending.extend(connected(
                &pixels,
                part.width,
                part.height,
                part.left,
                part.top,
            ));
        }
    }
    done.sort_by_key(|part| (part.top, part.left));
    done
}

fn connected(pixels: &[bool], width: usize, height: usize, left: u32, top: u32) -> Vec<Part> {
    let mut label = vec![usize::MAX; pixels.len()];
    let mut members: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut count = 0;
    for start in 0..pixels.len() {
        if !pixels[start] || label[start] != usize::MAX {
            continue;
        }
        let mut stack = vec![start];
        label[start] = count;
        let own = members.entry(count).or_default();
        while let Some(at) = stack.pop() {
            own.push(at);
            let (x, y) = (at % width, at / width);
            let around = [
                (x > 0).then(|| at - 1),
                (x + 1 < width).then_some(at + 1),
                (y > 0).then(|| at - width),
                (y + 1 < height).then_some(at + width),
            ];
            for next in around.into_iter().flatten() {
                if pixels[next] && label[next] == usize::MAX {
                    label[next] = count;
                    stack.push(next);
                }
            }
        }
        count += 1;
    }
    (0..count)
        .filter_map(|label| {
            let own = members.remove(&label)?;
            let xs = own.iter().map(|at| at % width);
            let ys = own.iter().map(|at| at / width);
            let (x0, x1) = (xs.clone().min()?, xs.max()?);
            let (y0, y1) = (ys.clone().min()?, ys.max()?);
            let part_width = x1 - x0 + 1;
            let mut inside = vec![false; part_width * (y1 - y0 + 1)];
            for at in &own {
                inside[(at / width - y0) * part_width + at % width - x0] = true;
            }
            Some(Part {
                left: left + x0 as u32,
                top: top + y0 as u32,
                width: part_width,
                height: y1 - y0 + 1,
                inside,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn mask(rows: &[&str]) -> Mask {
        let pixels = rows.iter().flat_map(|row| row.bytes().map(|b| b == b'#'));
        Mask::new(rows[0].len() as u32, rows.len() as u32, pixels.collect()).unwrap()
    }

    /// Even-odd test of pixel centres against polygons along edges.
    fn filled(polygons: &[Polygon], width: u32, height: u32) -> Vec<bool> {
        let mut pixels = Vec::new();
        for y in 0..height {
            for x in 0..width {
                let (cx, cy) = (f64::from(x) + 0.5, f64::from(y) + 0.5);
                pixels.push(polygons.iter().any(|polygon| {
                    let mut inside = false;
                    for i in 0..polygon.len() {
                        let [ax, ay] = polygon[i].map(f64::from);
                        let [bx, by] = polygon[(i + 1) % polygon.len()].map(f64::from);
                        if (ay > cy) != (by > cy) && cx < ax + (cy - ay) / (by - ay) * (bx - ax) {
                            inside = !inside;
                        }
                    }
                    inside
                }));
            }
        }
        pixels
    }

    #[test]
    fn outlines_of_simple_shapes() {
        let square = mask(&["....", ".##.", ".##.", "...."]);
        assert_eq!(corner_polygons(&square), [[[1, 1], [3, 1], [3, 3], [1, 3]]]);
        assert_eq!(pixel_polygons(&square), [[[1, 1], [2, 1], [2, 2], [1, 2]]]);
        let dot = mask(&["#"]);
        assert_eq!(corner_polygons(&dot), [[[0, 0], [1, 0], [1, 1], [0, 1]]]);
        assert_eq!(pixel_polygons(&dot), [[[0, 0], [0, 0], [0, 0]]]);
        assert!(corner_polygons(&mask(&["..", ".."])).is_empty());
    }

    #[test]
    fn polygons_give_any_mask_back_holes_and_all() {
        let ring = mask(&["###", "#.#", "###"]);
        assert_eq!(filled(&corner_polygons(&ring), 3, 3), ring.pixels());
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..200 {
            let (width, height) = (rng.random_range(1..12), rng.random_range(1..12));
            let share = rng.random_range(0.2..0.9);
            let pixels = (0..width * height)
                .map(|_| rng.random_bool(share))
                .collect();
            let mask = Mask::new(width, height, pixels).unwrap();
            assert_eq!(
                filled(&corner_polygons(&mask), width, height),
                mask.pixels()
            );
            for polygon in pixel_polygons(&mask) {
                assert!(polygon.iter().all(|&[x, y]| mask.contains(x, y)));
            }
        }
    }
}
