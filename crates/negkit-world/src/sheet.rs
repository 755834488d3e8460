//! Pictures of many scenes on one sheet, to look at.

use image::RgbImage;
use negkit_image::{Error, Limits, Panel, Sheet};

use crate::render::render_picture;
use crate::scene::{Scene, Size, Thing};

/// A sheet shows larger pictures at this side ([`Panel::image`]).
const SHOWN_SIDE: u32 = 768;

/// Draws the scenes at `side` pixels in rows of `columns`, each with what is in it under it.
///
/// # Errors
/// [`Error::Shape`] when there are no scenes, and when the sheet would be larger than a picture
/// may be.
pub fn contact_sheet(scenes: &[Scene], side: u32, columns: usize) -> Result<RgbImage, Error> {
    // Scenes that can fit on no sheet are not drawn before that is said.
    let least = scenes.len() as u64 * u64::from(side.min(SHOWN_SIDE)).pow(2);
    if least > Limits::PIL_MAX_PIXELS {
        return Err(Error::Shape {
            operation: "contact sheet",
            expected: format!("at most {} pixels in all", Limits::PIL_MAX_PIXELS),
            found: format!("{} pictures of {side}x{side}", scenes.len()),
        });
    }
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
    if things.is_empty() {
        return format!("{}, empty", scene.place);
    }
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
    let colour = thing.colour.map(|colour| colour.name());
    if thing.kind.is_person() {
        words.push(thing.kind.name());
        words.extend(colour.into_iter().flat_map(|colour| ["in", colour]));
    } else {
        words.extend(colour);
        words.push(thing.kind.name());
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use crate::catalog::{Colour, Kind, Place, State};
    use crate::scene::{Wish, Worn};

    #[test]
    fn a_scene_is_told_with_all_its_attributes() {
        let mut man = Wish::new(Kind::Man);
        man.colour = Some(Colour::Red);
        man.state = Some(State::Sitting);
        man.size = Some(Size::Large);
        let worn = |kind, colour| Worn { kind, colour };
        man.worn = Some(vec![
            worn(Kind::Hat, Some(Colour::Blue)),
            worn(Kind::Glasses, None),
        ]);
        let scene = Scene::compose(3, Place::Beach, &[man]);
        assert_eq!(
            inventory(&scene),
            "beach: large sitting man in red with blue hat, glasses"
        );
        let empty = Scene::compose(3, Place::Beach, &[]);
        assert_eq!(inventory(&empty), "beach, empty");
    }

    #[test]
    fn a_sheet_has_a_panel_a_scene() {
        let scenes: Vec<Scene> = (0..5).map(Scene::sample).collect();
        let (two, five) = (
            contact_sheet(&scenes, 64, 2).unwrap(),
            contact_sheet(&scenes, 64, 5).unwrap(),
        );
        assert!(two.height() > 3 * 64 && two.width() > 2 * 64);
        assert!(five.width() > 2 * two.width() && five.height() < two.height());
        assert!(contact_sheet(&[], 64, 3).is_err());
    }
}
