//! What is true of a scene's pixels: which thing is seen where.

use image::RgbImage;
use negkit_image::Mask;
use tiny_skia::Pixmap;

use crate::catalog::Kind;
use crate::scene::Scene;

/// A scene's picture with its truth.
#[derive(Debug, Clone)]
pub struct Rendering {
    /// The picture, square.
    pub picture: RgbImage,
    /// One for each of the scene's things, in their order.
    pub things: Vec<ThingTruth>,
}

/// Where a thing is seen.
///
/// A pixel is a thing's when the thing covers more than half of it after everything drawn later
/// is subtracted, so that no pixel belongs to two.
#[derive(Debug, Clone)]
pub struct ThingTruth {
    /// The pixels of the thing that are seen. A person's hold the hat and the glasses, but neither
    /// umbrella nor bag; shadows, stools and speed lines are no part of a thing.
    pub visible: Mask,
    /// The pixels seen of each thing that it wears or holds, in the order of `Thing::worn`.
    pub worn: Vec<Mask>,
    /// Left, top, width and height of the box around `visible`, in pixels; none when nothing of
    /// the thing is seen.
    pub frame: Option<[u32; 4]>,
}

/// Numbers of the layers that a scene's things are painted in.
pub(crate) struct Layers {
    /// Layer of each thing; those of what it wears follow.
    first: Vec<usize>,
    /// Kinds worn by each thing.
    worn: Vec<Vec<Kind>>,
    count: usize,
}

impl Layers {
    pub(crate) fn of(scene: &Scene) -> Self {
        let mut first = Vec::with_capacity(scene.things.len());
        let mut worn = Vec::with_capacity(scene.things.len());
        let mut count = 0;
        for thing in &scene.things {
            first.push(count);
            worn.push(thing.worn.iter().map(|worn| worn.kind).collect());
            count += 1 + thing.worn.len();
        }
        Self { first, worn, count }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn first(&self) -> &[usize] {
        &self.first
    }

    /// Reads the truth off the label maps.
    pub(crate) fn truth(&self, labels: &[Pixmap]) -> Vec<ThingTruth> {
        let Some(map) = labels.first() else {
            return Vec::new();
        };
        let (width, height) = (map.width(), map.height());
        let owners = self.owners();
        let entities = owners.iter().map(|&owner| owner + 1).max().unwrap_or(0);
        let area = width as usize * height as usize;
        let mut masks = vec![vec![false; area]; self.count];
        let mut owned = vec![vec![false; area]; entities];
        let mut cover = vec![0u16; self.count];
        let mut shares = vec![0u16; entities];
        for pixel in 0..area {
            read_cover(labels, pixel, &mut cover);
            shares.fill(0);
            for (layer, &owner) in owners.iter().enumerate() {
                shares[owner] += cover[layer];
            }
            let most = shares.iter().enumerate().max_by_key(|&(_, share)| *share);
            // More than half of 255; rounding could give two things 128 each, hence the maximum.
            let Some((entity, _)) = most.filter(|&(_, &share)| share > 127) else {
                continue;
            };
            owned[entity][pixel] = true;
            for (layer, &owner) in owners.iter().enumerate() {
                masks[layer][pixel] = owner == entity && cover[layer] > 127;
            }
        }
        let mask = |pixels: &Vec<bool>| {
            let values: Vec<f32> = pixels.iter().map(|&inside| f32::from(inside)).collect();
            Mask::from_threshold(&values, width, height, 0.5)
        };
        let mut things = Vec::with_capacity(self.first.len());
        for (&first, worn) in self.first.iter().zip(&self.worn) {
            let (Ok(visible), Ok(worn)) = (
                mask(&owned[owners[first]]),
                (0..worn.len())
                    .map(|i| mask(&masks[first + 1 + i]))
                    .collect(),
            ) else {
                continue;
            };
            let frame = frame(&visible);
            things.push(ThingTruth {
                visible,
                worn,
                frame,
            });
        }
        things
    }

    /// For each layer the entity whose pixels it adds to: hat and glasses are part of the person.
    fn owners(&self) -> Vec<usize> {
        let mut owners = Vec::with_capacity(self.count);
        let mut next = 0;
        for worn in &self.worn {
            let person = next;
            next += 1;
            owners.push(person);
            for kind in worn {
                if matches!(kind, Kind::Hat | Kind::Glasses) {
                    owners.push(person);
                } else {
                    owners.push(next);
                    next += 1;
                }
            }
        }
        owners
    }
}

fn read_cover(labels: &[Pixmap], pixel: usize, cover: &mut [u16]) {
    for (channels, map) in cover.chunks_mut(3).zip(labels) {
        let Some(label) = map.pixels().get(pixel) else {
            continue;
        };
        let values = [label.red(), label.green(), label.blue()];
        for (to, from) in channels.iter_mut().zip(values) {
            *to = u16::from(from);
        }
    }
}

/// Left, top, width and height of the box around a mask's pixels.
pub(crate) fn frame(mask: &Mask) -> Option<[u32; 4]> {
    let width = mask.width() as usize;
    let inside = mask
        .pixels()
        .iter()
        .enumerate()
        .filter(|&(_, &inside)| inside);
    let mut range: Option<[usize; 4]> = None;
    for (index, _) in inside {
        let (x, y) = (index % width, index / width);
        let [left, top, right, bottom] = range.unwrap_or([x, y, x, y]);
        range = Some([left.min(x), top.min(y), right.max(x), bottom.max(y)]);
    }
    let [left, top, right, bottom] = range?;
    let pixels = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    Some([
        pixels(left),
        pixels(top),
        pixels(right - left + 1),
        pixels(bottom - top + 1),
    ])
}
