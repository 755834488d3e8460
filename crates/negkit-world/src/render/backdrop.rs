//! Places: what lies behind the things, made so that none of it could be taken for one.

use super::{
    Canvas, Ink, Pen, Rgb, blob, block, darker, disc, lighter, oval, polygon, soft, vary,
    vary_choice, vary_share,
};
use crate::catalog::Place;

/// Height of the floor's far edge, indoors.
const FLOOR: f32 = 66.;

pub(super) fn paint(canvas: &mut Canvas, place: Place, variation: u32) {
    let mut pen = canvas.pen([0., 0., 1., 1.], (100., 100.), false);
    match place {
        Place::Room => room(&mut pen, variation),
        Place::Kitchen => kitchen(&mut pen, variation),
        Place::Bathroom => bathroom(&mut pen, variation),
        Place::Bedroom => bedroom(&mut pen, variation),
        Place::Office => office(&mut pen, variation),
        Place::Street => street(&mut pen, variation),
        Place::Park => park(&mut pen, variation),
        Place::Beach => beach(&mut pen, variation),
        Place::Garden => garden(&mut pen, variation),
        Place::Farm => farm(&mut pen, variation),
        Place::Forest => forest(&mut pen, variation),
        Place::Harbor => harbor(&mut pen, variation),
    }
}

/// A band across the picture, a little wider than it so that its ends are clean.
fn band(pen: &mut Pen, top: f32, low: f32, ink: Ink) {
    pen.fill(block(-1., top, 102., low - top), ink);
}

fn sky(pen: &mut Pen, variation: u32, low: f32) {
    let tint = vary_choice(
        variation,
        1,
        &[
            [184, 220, 244],
            [198, 226, 240],
            [176, 214, 240],
            [206, 224, 236],
        ],
    );
    let strip = low / 3.;
    for (index, share) in [(0, 0.), (1, 0.22), (2, 0.45)] {
        let top = strip * index as f32;
        band(pen, top - 1., low, Ink::Flat(lighter(tint, share)));
    }
}

fn skirting(pen: &mut Pen) {
    band(pen, FLOOR - 3., FLOOR, Ink::Flat([240, 236, 226]));
    band(pen, FLOOR - 0.4, FLOOR + 0.5, Ink::Flat([150, 132, 114]));
}

fn planks(pen: &mut Pen, wood: Rgb) {
    band(pen, FLOOR, 101., Ink::Flat(wood));
    let seam = darker(wood, 0.14);
    for index in -3..=3 {
        let x = index as f32;
        pen.line(
            &[(50. + x * 15., FLOOR + 0.6), (50. + x * 27., 101.)],
            0.6,
            seam,
        );
    }
    for (y, x) in [(73., 30.), (84., 58.), (93., 12.)] {
        pen.line(&[(x, y), (x + 22., y)], 0.5, seam);
    }
}

fn room(pen: &mut Pen, variation: u32) {
    let wall = vary_choice(
        variation,
        1,
        &[
            [242, 228, 198],
            [226, 222, 206],
            [244, 214, 190],
            [232, 220, 176],
        ],
    );
    band(pen, -1., FLOOR, Ink::Flat(wall));
    for index in 0..6 {
        let x = 4. + 17. * index as f32;
        pen.fill(block(x, -1., 6., FLOOR), Ink::Flat(lighter(wall, 0.25)));
    }
    let wood = vary_choice(
        variation,
        2,
        &[[206, 166, 120], [196, 154, 112], [216, 180, 138]],
    );
    planks(pen, wood);
    skirting(pen);
}

fn grid(pen: &mut Pen, top: f32, low: f32, step: f32, colour: Rgb) {
    let mut y = top;
    while y <= low {
        band(pen, y - 0.35, y + 0.35, Ink::Flat(colour));
        y += step;
    }
    let mut x = step / 2.;
    while x < 100. {
        pen.fill(block(x - 0.35, top, 0.7, low - top), Ink::Flat(colour));
        x += step;
    }
}

fn kitchen(pen: &mut Pen, variation: u32) {
    let wall = vary_choice(
        variation,
        1,
        &[[250, 236, 214], [246, 232, 222], [240, 238, 220]],
    );
    band(pen, -1., 30., Ink::Flat(wall));
    let tile = vary_choice(
        variation,
        2,
        &[[252, 250, 244], [250, 246, 232], [244, 248, 242]],
    );
    band(pen, 30., FLOOR, Ink::Flat(tile));
    grid(pen, 32., FLOOR, 8.5, darker(tile, 0.16));
    let border = vary_choice(
        variation,
        3,
        &[[226, 170, 120], [150, 186, 160], [214, 150, 130]],
    );
    band(pen, 29., 32., Ink::Flat(border));
    // A floor of squares, drawn in a simple perspective.
    let (light, dark) = ([240, 230, 214], [206, 186, 164]);
    band(pen, FLOOR, 101., Ink::Flat(light));
    let rows = [FLOOR, 70., 75.5, 83., 93., 106.];
    let at = |column: f32, y: f32| 50. + column * (12. + (y - FLOOR) * 0.28);
    for (row, edge) in rows.windows(2).enumerate() {
        for column in -6..6 {
            if (row as i32 + column).rem_euclid(2) == 0 {
                let (from, to) = (column as f32, column as f32 + 1.);
                let (top, low) = (edge[0], edge[1]);
                let square = polygon(&[
                    (at(from, top), top),
                    (at(to, top), top),
                    (at(to, low), low),
                    (at(from, low), low),
                ]);
                pen.fill(square, Ink::Flat(dark));
            }
        }
    }
    band(pen, FLOOR - 1.2, FLOOR + 0.4, Ink::Flat([168, 148, 130]));
}

fn bathroom(pen: &mut Pen, variation: u32) {
    let tile = vary_choice(
        variation,
        1,
        &[[176, 216, 230], [186, 222, 226], [170, 208, 232]],
    );
    band(pen, -1., FLOOR, Ink::Flat(tile));
    grid(pen, 4., FLOOR, 10., lighter(tile, 0.6));
    band(pen, 12., 15., Ink::Flat(darker(tile, 0.22)));
    let floor = vary_choice(
        variation,
        2,
        &[[146, 172, 186], [156, 176, 182], [140, 164, 184]],
    );
    band(pen, FLOOR, 101., Ink::Flat(floor));
    for y in [72., 80., 90.] {
        band(pen, y - 0.3, y + 0.3, Ink::Flat(lighter(floor, 0.35)));
    }
    for index in -4..=4 {
        let x = index as f32;
        pen.line(
            &[(50. + x * 14., FLOOR), (50. + x * 25., 101.)],
            0.6,
            lighter(floor, 0.35),
        );
    }
    band(pen, FLOOR - 1., FLOOR + 0.6, Ink::Flat(lighter(tile, 0.7)));
}

fn bedroom(pen: &mut Pen, variation: u32) {
    let wall = vary_choice(
        variation,
        1,
        &[[230, 214, 232], [240, 212, 220], [218, 214, 236]],
    );
    band(pen, -1., FLOOR, Ink::Flat(wall));
    for row in 0..5 {
        for column in 0..7 {
            let x = 6. + 15. * column as f32 + if row % 2 == 0 { 0. } else { 7.5 };
            pen.fill(
                disc(x, 6. + 12. * row as f32, 1.3),
                Ink::Flat(lighter(wall, 0.5)),
            );
        }
    }
    let carpet = vary_choice(
        variation,
        2,
        &[[186, 164, 178], [190, 172, 164], [170, 164, 190]],
    );
    band(pen, FLOOR, 101., Ink::Flat(carpet));
    pen.fill(oval(50., 88., 46., 9.6), Ink::Flat(lighter(carpet, 0.3)));
    pen.fill(oval(50., 88., 41., 7.6), Ink::Flat(lighter(carpet, 0.16)));
    skirting(pen);
}

fn office(pen: &mut Pen, variation: u32) {
    let wall = vary_choice(
        variation,
        1,
        &[[206, 210, 214], [198, 204, 208], [212, 210, 206]],
    );
    band(pen, -1., FLOOR, Ink::Flat(wall));
    // A low partition of frosted glass across the whole room, lower than windows hang.
    let glass = super::mix(wall, [172, 214, 214], 0.7);
    let metal = [128, 136, 146];
    band(pen, 38., FLOOR, Ink::Flat(glass));
    for index in 0..4 {
        let x = 12. + 25.5 * index as f32;
        pen.fill(
            polygon(&[(x + 5., 38.), (x + 9., 38.), (x, FLOOR), (x - 4., FLOOR)]),
            Ink::Flat(lighter(glass, 0.3)),
        );
    }
    band(pen, 36.6, 38.6, Ink::Flat(metal));
    band(pen, FLOOR - 3., FLOOR, Ink::Flat(metal));
    for x in [0., 33.3, 66.7, 100.] {
        pen.fill(block(x - 0.7, 37., 1.4, FLOOR - 37.), Ink::Flat(metal));
    }
    band(pen, 3., 5., Ink::Flat(lighter(wall, 0.6)));
    let floor = vary_choice(
        variation,
        2,
        &[[150, 158, 170], [158, 160, 164], [142, 152, 160]],
    );
    band(pen, FLOOR, 101., Ink::Flat(floor));
    for y in [73., 82., 93.] {
        band(pen, y - 0.3, y + 0.3, Ink::Flat(darker(floor, 0.14)));
    }
}

fn street(pen: &mut Pen, variation: u32) {
    sky(pen, variation, 62.);
    let mut x = -4.;
    let mut index = 0;
    while x < 102. {
        let width = 11. + 8. * vary_share(variation, 10 + index);
        let top = 22. + 22. * vary_share(variation, 40 + index);
        let tone = vary_choice(
            variation,
            70 + index,
            &[[188, 192, 202], [176, 182, 194], [198, 196, 200]],
        );
        pen.fill(block(x, top, width + 0.5, 64. - top), Ink::Flat(tone));
        x += width;
        index += 1;
    }
    band(pen, 62., 71., Ink::Flat([206, 202, 196]));
    for index in 0..8 {
        let x = 2. + 13. * index as f32;
        pen.line(&[(x, 62.4), (x - 1.6, 70.6)], 0.5, [184, 180, 174]);
    }
    band(pen, 70.4, 72., Ink::Flat([160, 158, 156]));
    let asphalt = vary_choice(
        variation,
        2,
        &[[122, 124, 130], [130, 130, 134], [116, 120, 128]],
    );
    band(pen, 72., 101., Ink::Flat(asphalt));
    let shift = 16. * vary_share(variation, 3);
    for index in -1..5 {
        let x = shift + 24. * index as f32;
        pen.fill(block(x, 95., 13., 2.), Ink::Flat([236, 234, 222]));
    }
}

fn park(pen: &mut Pen, variation: u32) {
    sky(pen, variation, 60.);
    let shift = 24. * vary_share(variation, 2);
    pen.fill(oval(20. + shift, 62., 50., 18.), Ink::Flat([168, 206, 150]));
    pen.fill(oval(88. - shift, 64., 44., 15.), Ink::Flat([152, 196, 136]));
    let grass = vary_choice(
        variation,
        3,
        &[[154, 202, 108], [146, 196, 104], [162, 204, 112]],
    );
    band(pen, 58., 101., Ink::Flat(grass));
    let bend = 20. * vary_share(variation, 4) - 10.;
    let path = blob(&[
        (52. + bend, 58.),
        (58. + bend, 57.),
        (56., 66.),
        (40. + bend, 76.),
        (70., 90.),
        (84., 106.),
        (36., 106.),
        (34., 92.),
        (14. + bend, 76.),
        (46., 66.),
    ]);
    pen.fill(path, Ink::Flat([228, 212, 170]));
    tufts(pen, variation, darker(grass, 0.16), 62.);
}

/// Little strokes of grass.
fn tufts(pen: &mut Pen, variation: u32, colour: Rgb, top: f32) {
    for index in 0..7 {
        let x = 4. + 92. * vary_share(variation, 100 + index);
        let y = top + (97. - top) * vary_share(variation, 120 + index);
        pen.line(&[(x - 1., y - 1.4), (x, y), (x + 1., y - 1.6)], 0.6, colour);
    }
}

fn beach(pen: &mut Pen, variation: u32) {
    sky(pen, variation, 50.);
    let sea = vary_choice(
        variation,
        2,
        &[[104, 180, 206], [92, 172, 204], [116, 188, 204]],
    );
    band(pen, 49., 72., Ink::Flat(sea));
    band(pen, 49., 53., Ink::Flat(darker(sea, 0.14)));
    waves(pen, variation, lighter(sea, 0.45), 55., 66.);
    let sand = vary_choice(
        variation,
        3,
        &[[240, 220, 166], [236, 214, 160], [244, 226, 178]],
    );
    let shore: Vec<(f32, f32)> = vec![
        (-4., 69.),
        (25., 66.4),
        (55., 70.4),
        (80., 67.),
        (104., 69.),
    ];
    for (lift, colour) in [(-1.8, [250, 252, 250]), (0., darker(sand, 0.1)), (2., sand)] {
        let mut points: Vec<(f32, f32)> = shore.iter().map(|&(x, y)| (x, y + lift)).collect();
        points.extend([(104., 102.), (-4., 102.)]);
        pen.fill(polygon(&points), Ink::Flat(colour));
    }
    for index in 0..9 {
        let x = 4. + 92. * vary_share(variation, 100 + index);
        let y = 74. + 22. * vary_share(variation, 120 + index);
        pen.fill(disc(x, y, 0.5), Ink::Flat(darker(sand, 0.18)));
    }
}

fn waves(pen: &mut Pen, variation: u32, colour: Rgb, top: f32, low: f32) {
    for index in 0..7 {
        let x = 2. + 86. * vary_share(variation, 200 + index);
        let y = top + (low - top) * (index as f32 / 6.);
        pen.line(
            &[(x, y), (x + 3., y - 0.8), (x + 6., y), (x + 9., y - 0.8)],
            0.8,
            colour,
        );
    }
}

fn garden(pen: &mut Pen, variation: u32) {
    sky(pen, variation, 60.);
    let hedge = [104, 150, 96];
    for index in 0..9 {
        let x = -2. + 13. * index as f32;
        let y = 45. + 2.4 * vary_share(variation, 10 + index);
        pen.fill(disc(x, y, 8.), Ink::Flat(hedge));
    }
    band(pen, 45., 62., Ink::Flat(hedge));
    band(pen, 56., 62., Ink::Flat(darker(hedge, 0.12)));
    if vary(variation, 2, 2) == 0 {
        let picket = [240, 234, 222];
        for index in 0..13 {
            let x = 1. + 8. * index as f32;
            pen.fill(
                polygon(&[
                    (x, 49.),
                    (x + 2., 46.4),
                    (x + 4., 49.),
                    (x + 4., 62.4),
                    (x, 62.4),
                ]),
                Ink::Flat(picket),
            );
        }
        band(pen, 51.4, 53.2, Ink::Flat(darker(picket, 0.1)));
        band(pen, 57.6, 59.4, Ink::Flat(darker(picket, 0.1)));
    }
    let lawn = vary_choice(
        variation,
        3,
        &[[140, 200, 116], [132, 194, 110], [150, 204, 112]],
    );
    band(pen, 62., 101., Ink::Flat(lawn));
    for index in 0..5 {
        let (x, low) = (-6. + 24. * index as f32, -30. + 36. * index as f32);
        let stripe = polygon(&[(x, 62.), (x + 12., 62.), (low + 18., 101.), (low, 101.)]);
        pen.fill(stripe, Ink::Flat(lighter(lawn, 0.16)));
    }
}

fn farm(pen: &mut Pen, variation: u32) {
    sky(pen, variation, 56.);
    band(pen, 50., 60., Ink::Flat([196, 206, 140]));
    pen.fill(
        oval(28. + 40. * vary_share(variation, 2), 56., 46., 8.),
        Ink::Flat([206, 200, 128]),
    );
    let field = vary_choice(
        variation,
        3,
        &[[232, 208, 122], [222, 204, 128], [214, 206, 124]],
    );
    band(pen, 56., 101., Ink::Flat(field));
    for index in -6..=6 {
        let x = index as f32;
        let row = polygon(&[
            (50. + x * 9. - 1., 56.),
            (50. + x * 9. + 1., 56.),
            (50. + x * 24. + 4., 101.),
            (50. + x * 24. - 4., 101.),
        ]);
        pen.fill(row, Ink::Flat(darker([172, 190, 96], 0.03)));
    }
    let rail = [176, 150, 120];
    for index in 0..6 {
        let x = 6. + 18. * index as f32;
        pen.fill(block(x, 52., 1.8, 11.), Ink::Flat(rail));
    }
    band(pen, 54., 55.4, Ink::Flat(rail));
    band(pen, 58.4, 59.8, Ink::Flat(rail));
}

fn forest(pen: &mut Pen, variation: u32) {
    let mist = vary_choice(
        variation,
        1,
        &[[200, 220, 204], [192, 216, 206], [206, 220, 196]],
    );
    band(pen, -1., 64., Ink::Flat(mist));
    for (layer, share, count) in [(0, 0.18, 7), (1, 0.34, 6)] {
        let trunk = super::mix(mist, [84, 92, 76], share * 1.5);
        for index in 0..count {
            let salt = 10 + layer * 20 + index;
            let x = 100. * (index as f32 + vary_share(variation, salt)) / count as f32;
            let width = 1.8 + 1.8 * layer as f32 + vary_share(variation, salt + 200);
            pen.fill(block(x, -1., width, 66.), Ink::Flat(trunk));
        }
    }
    let moss = vary_choice(
        variation,
        2,
        &[[128, 150, 96], [136, 148, 104], [120, 146, 104]],
    );
    pen.fill(oval(30., 66., 60., 6.), Ink::Flat(moss));
    band(pen, 63., 101., Ink::Flat(moss));
    for index in 0..9 {
        let x = 3. + 94. * vary_share(variation, 100 + index);
        let y = 68. + 28. * vary_share(variation, 120 + index);
        pen.fill(
            oval(x, y, 3., 0.8),
            Ink::Flat(super::mix(moss, [150, 116, 76], 0.45)),
        );
    }
    tufts(pen, variation, darker(moss, 0.2), 68.);
}

fn harbor(pen: &mut Pen, variation: u32) {
    sky(pen, variation, 48.);
    band(pen, 45., 49., Ink::Flat([178, 190, 196]));
    for index in 0..6 {
        let x = 5. + 17. * index as f32 + 7. * vary_share(variation, 10 + index);
        let top = 24. + 10. * vary_share(variation, 30 + index);
        pen.line(&[(x, top), (x, 46.)], 0.7, [166, 178, 188]);
        pen.line(&[(x, top), (x + 4.5, 45.)], 0.4, [182, 194, 204]);
    }
    let water = vary_choice(
        variation,
        2,
        &[[92, 150, 178], [84, 142, 172], [104, 158, 178]],
    );
    band(pen, 48.6, 74., Ink::Flat(water));
    waves(pen, variation, lighter(water, 0.4), 52., 67.);
    let stone = vary_choice(
        variation,
        3,
        &[[196, 188, 178], [188, 184, 180], [204, 192, 174]],
    );
    band(pen, 70., 74.5, Ink::Flat(darker(stone, 0.32)));
    band(pen, 73., 101., Ink::Flat(stone));
    for y in [80., 89.] {
        band(pen, y - 0.3, y + 0.3, Ink::Flat(darker(stone, 0.14)));
    }
    for (row, (top, low)) in [(73., 80.), (80., 89.), (89., 101.)]
        .into_iter()
        .enumerate()
    {
        for index in 0..5 {
            let x = 8. + 24. * index as f32 + if row % 2 == 0 { 0. } else { 12. };
            pen.line(&[(x, top), (x, low)], 0.5, darker(stone, 0.14));
        }
    }
    for x in [16., 50., 84.] {
        pen.fill(
            soft(x - 1.8, 69.4, 3.6, 5., 1.2),
            Ink::Flat([104, 104, 110]),
        );
    }
}
