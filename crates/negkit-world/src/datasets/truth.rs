//! What a dataset tells of a picture, read off its scene and its rendering.

use image::RgbImage;
use negkit_image::{Mask, Rle};

use super::outline::{Polygon, corner_polygons, pixel_polygons};
use crate::catalog::Kind;
use crate::render::render;
use crate::scene::Scene;

/// Annotation ids of a picture are its id times this, plus their number: unique in a dataset, and
/// known without the pictures before.
pub(super) const MOST_ANNOTATIONS: u64 = 100;

/// One object that is seen in a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectTruth {
    /// Its annotation id.
    pub id: u64,
    /// Its kind.
    pub kind: Kind,
    /// The position of the thing in the scene.
    pub thing: usize,
    /// The position among the things it wears, if it is one of those.
    pub worn: Option<usize>,
    /// The number of its pixels.
    pub area: u64,
    /// Left, top, width, height in pixels.
    pub bbox: [u32; 4],
    /// Its outlines along the pixels' edges.
    pub corners: Vec<Polygon>,
    /// Its outlines along the pixels' centres.
    pub centres: Vec<Polygon>,
    /// Its mask.
    pub rle: Rle,
}

/// A picture's scene and what is seen of it.
#[derive(Debug, Clone, PartialEq)]
pub struct PictureTruth {
    /// The picture's id.
    pub id: u64,
    /// Its file's name.
    pub file_name: String,
    /// Its scene.
    pub scene: Scene,
    /// Width and height in pixels.
    pub side: u32,
    /// The objects, in the scene's order; those of which no pixel is seen are left out.
    pub objects: Vec<ObjectTruth>,
}

impl PictureTruth {
    /// Renders the scene: its picture, and what a dataset tells of it.
    pub fn of(id: u64, file_name: String, scene: Scene, side: u32) -> (RgbImage, Self) {
        let rendering = render(&scene, side);
        let mut objects: Vec<ObjectTruth> = Vec::new();
        for (i, (thing, truth)) in scene.things.iter().zip(&rendering.things).enumerate() {
            let mut add = |kind: Kind, worn: Option<usize>, mask: &Mask| {
                let number = objects.len() as u64 + 1;
                if mask.area() > 0 && number < MOST_ANNOTATIONS {
                    let rle = Rle::from_mask(mask);
                    objects.push(ObjectTruth {
                        id: id * MOST_ANNOTATIONS + number,
                        kind,
                        thing: i,
                        worn,
                        area: mask.area(),
                        bbox: rle.bounding_box(),
                        corners: corner_polygons(mask),
                        centres: pixel_polygons(mask),
                        rle,
                    });
                }
            };
            add(thing.kind, None, &truth.visible);
            for (k, (worn, mask)) in thing.worn.iter().zip(&truth.worn).enumerate() {
                add(worn.kind, Some(k), mask);
            }
        }
        let truth = Self {
            id,
            file_name,
            scene,
            side,
            objects,
        };
        (rendering.picture, truth)
    }

    /// The object of a thing (`worn` none) or of something it wears, if it is seen.
    pub fn object(&self, thing: usize, worn: Option<usize>) -> Option<&ObjectTruth> {
        self.objects
            .iter()
            .find(|object| object.thing == thing && object.worn == worn)
    }
}
