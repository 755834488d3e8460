//! Pictures of many scenes on one sheet, to look at.

use image::RgbImage;
use negkit_image::{Error, Panel, Sheet};

use crate::render::render_picture;
use crate::scene::{Scene, Size, Thing};

/// Draws the scenes at `side` pixels in rows of `columns`, each with what is in it under it.
///
/// # Errors
/// [`Error::Shape`] when there are no scenes, and when the sheet would be larger than a picture
/// may be.
pub fn contact_sheet(scenes: &[Scene], side: u32, columns: usize) -> Result<RgbImage, Error> {
    let mut sheet = Sheet::new();
    for row in scenes.chunks(columns.max(1)) {
        sheet = sheet.row(row.iter().map(|scene| panel(scene, side)).collect());
    }
    sheet.render()
}

fn panel(scene: &Scene, side: u32) -> Panel {
    Panel {
        image: render_picture(scene, side),
        caption: inventory(scene),
    }
}

/// All that is in a scene, tersely: "park: large running brown dog; sun".
pub fn inventory(scene: &Scene) -> String {
    let things: Vec<String> = scene.things.iter().map(describe).collect();
    format!("{}: {}", scene.place, things.join("; "))
}

fn describe(thing: &Thing) -> String {
    let mut words: Vec<&str> = Vec::new();
    match thing.size {
        Size::Small => words.push("small"),
        Size::Large => words.push("large"),
        Size::Normal => {}
    }
    words.extend(thing.state.map(|state| state.name()));
    words.extend(thing.colour.map(|colour| colour.name()));
    words.push(thing.kind.name());
    let mut text = words.join(" ");
    for (index, worn) in thing.worn.iter().enumerate() {
        text += if index == 0 { " with " } else { ", " };
        if let Some(colour) = worn.colour {
            text = format!("{text}{colour} ");
        }
        text += worn.kind.name();
    }
    text
}
