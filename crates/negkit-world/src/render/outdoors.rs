//! What stands under the open sky, and what is in it.

use super::{
    Ink, Pen, Rgb, blob, block, curve, darker, disc, lighter, outline_of, oval, polygon, soft,
    vary, vary_choice, vary_share,
};
use crate::catalog::Kind;
use crate::scene::Thing;

pub(super) fn paint(pen: &mut Pen, thing: &Thing, colour: Rgb) {
    match thing.kind {
        Kind::Tree => tree(pen, thing.variation),
        Kind::Bench => bench(pen, colour),
        Kind::Flower => flower(pen, colour),
        Kind::Ball => ball(pen, colour),
        Kind::House => house(pen, colour),
        Kind::Rock => rock(pen, thing.variation),
        Kind::Hydrant => hydrant(pen, colour),
        Kind::Tent => tent(pen, colour),
        Kind::Sun => sun(pen),
        Kind::Cloud => cloud(pen, thing.variation),
        Kind::Kite => kite(pen, colour),
        _ => balloon(pen, colour),
    }
}

fn tree(pen: &mut Pen, variation: u32) {
    let trunk = [122, 84, 54];
    pen.shape(
        polygon(&[(14.6, 30.), (19.4, 30.), (21., 57.), (13., 57.)]),
        trunk,
    );
    let leaf = vary_choice(variation, 1, &[[70, 142, 66], [54, 126, 70], [92, 152, 62]]);
    if vary(variation, 2, 3) == 0 {
        for (top, low, half) in [(18., 40., 15.6), (9., 28., 12.6), (1., 16., 9.)] {
            pen.shape(
                polygon(&[(17., top), (17. + half, low), (17. - half, low)]),
                leaf,
            );
        }
        return;
    }
    let crown = [
        (8.6, 26., 7.8),
        (25.4, 26., 7.8),
        (9.6, 14.6, 8.2),
        (24.4, 14.6, 8.2),
        (17., 9.6, 8.8),
        (17., 28., 9.),
    ];
    for (x, y, r) in crown {
        pen.fill(disc(x, y, r + 0.65), Ink::Flat(outline_of(leaf)));
    }
    for (x, y, r) in crown {
        pen.fill(disc(x, y, r), Ink::Lit(leaf));
    }
    pen.fill(disc(17., 20., 9.4), Ink::Flat(leaf));
    pen.fill(disc(12., 13., 3.4), Ink::Flat(lighter(leaf, 0.18)));
    pen.fill(disc(22., 24., 3.), Ink::Flat(darker(leaf, 0.14)));
}

fn bench(pen: &mut Pen, colour: Rgb) {
    let iron = [84, 86, 92];
    for x in [6., 36.] {
        pen.line(&[(x, 3.), (x, 22.6)], 2., iron);
        pen.line(&[(x - 2.4, 22.8), (x + 2.4, 22.8)], 1.6, iron);
    }
    pen.shape(soft(0.9, 1.2, 40.2, 4.2, 1.), colour);
    pen.shape(soft(0.9, 6.6, 40.2, 4.2, 1.), colour);
    pen.shape(soft(0.9, 13.4, 40.2, 4.6, 1.4), colour);
}

fn flower(pen: &mut Pen, colour: Rgb) {
    let stem = [62, 134, 58];
    pen.line(&[(9., 10.), (9., 28.6)], 1.8, stem);
    pen.shape(blob(&[(9., 26.), (2., 25.), (1.4, 19.), (7.6, 21.)]), stem);
    pen.shape(
        blob(&[(9., 23.), (16., 22.), (16.6, 16.), (10.4, 18.)]),
        stem,
    );
    let petals: Vec<(f32, f32)> = (0..6)
        .map(|index| {
            let (sin, cos) = (index as f32 * std::f32::consts::TAU / 6. + 0.3).sin_cos();
            (9. + 4.9 * sin, 8.6 + 4.9 * cos)
        })
        .collect();
    for &(x, y) in &petals {
        pen.fill(disc(x, y, 3.7), Ink::Flat(outline_of(colour)));
    }
    for &(x, y) in &petals {
        pen.fill(disc(x, y, 3.1), Ink::Flat(colour));
    }
    let heart = if colour[0] > 240 && colour[2] < 80 {
        [176, 100, 40]
    } else {
        [248, 200, 60]
    };
    pen.fill(disc(9., 8.6, 2.7), Ink::Lit(heart));
}

fn ball(pen: &mut Pen, colour: Rgb) {
    pen.shape(disc(8.5, 8.5, 7.7), colour);
    let seam = Ink::Flat(lighter(outline_of(colour), 0.1));
    pen.stroke(
        curve((1.6, 6.), (8.5, 10.5), (15.4, 6.)).as_ref(),
        0.9,
        seam,
    );
    pen.stroke(
        curve((6., 1.4), (10.6, 8.5), (6., 15.6)).as_ref(),
        0.9,
        seam,
    );
    let x = if pen.flipped { 11.6 } else { 5.4 };
    pen.fill(oval(x, 4.6, 1.7, 1.4), Ink::Flat(lighter(colour, 0.65)));
}

fn house(pen: &mut Pen, colour: Rgb) {
    let roof = [150, 78, 66];
    pen.shape(block(32., 4., 5., 12.), darker(roof, 0.15));
    pen.shape(block(4.4, 21., 37.2, 28.4), colour);
    pen.shape(polygon(&[(0.8, 22.4), (23., 1.4), (45.2, 22.4)]), roof);
    let door = if colour[0] < 160 && colour[2] < 80 {
        [222, 204, 170]
    } else {
        [112, 76, 52]
    };
    pen.shape(block(19., 34., 8.4, 15.4), door);
    pen.fill(disc(25.4, 42., 0.7), Ink::Flat([240, 210, 120]));
    // Closed shutters: a house's panes would be windows, which are a kind of their own.
    for x in [8., 31.] {
        pen.shape(block(x, 28., 7.4, 8.), [232, 226, 212]);
        for index in 1..4 {
            let y = 28. + 2. * index as f32;
            pen.line(&[(x + 0.8, y), (x + 6.6, y)], 0.5, [176, 168, 152]);
        }
    }
}

fn rock(pen: &mut Pen, variation: u32) {
    let stone = vary_choice(
        variation,
        1,
        &[[142, 142, 148], [150, 144, 138], [128, 132, 140]],
    );
    let bump = 2. * vary_share(variation, 2);
    let base = polygon(&[
        (1., 18.),
        (2.4, 10.),
        (8., 3. + bump),
        (15., 1.),
        (22., 4. + bump),
        (26.6, 11.),
        (27., 18.),
    ]);
    pen.shape(base, stone);
    pen.fill(
        polygon(&[
            (4., 10.6),
            (8.6, 4.6 + bump),
            (15., 2.4),
            (13., 8.),
            (7., 11.),
        ]),
        Ink::Flat(lighter(stone, 0.28)),
    );
    pen.fill(
        polygon(&[(16., 9.), (22., 5.6 + bump), (25.4, 17.4), (18., 17.4)]),
        Ink::Flat(darker(stone, 0.2)),
    );
    pen.line(
        &[(13., 8.), (16., 12.), (14., 17.)],
        0.7,
        darker(stone, 0.4),
    );
}

fn hydrant(pen: &mut Pen, colour: Rgb) {
    let iron = [96, 98, 104];
    pen.shape(soft(1., 10.4, 14., 4.4, 1.4), darker(colour, 0.14));
    pen.shape(block(4., 6., 8., 17.6), colour);
    pen.shape(
        blob(&[(3., 7.), (3.6, 0.6), (12.4, 0.6), (13., 7.)]),
        colour,
    );
    pen.shape(soft(2.6, 5.6, 10.8, 2.4, 1.), colour);
    pen.fill(disc(8., 12.6, 2.), Ink::Flat(iron));
    pen.fill(block(7., 0.2, 2., 1.6), Ink::Flat(iron));
    pen.shape(soft(2., 22.6, 12., 3., 0.8), darker(colour, 0.2));
}

fn tent(pen: &mut Pen, colour: Rgb) {
    pen.shape(
        polygon(&[(19., 2.), (30., 1.6), (43., 31.), (30., 31.)]),
        darker(colour, 0.25),
    );
    pen.shape(polygon(&[(19., 1.6), (36., 31.), (1., 31.)]), colour);
    pen.fill(
        polygon(&[(19., 9.), (25., 31.), (13., 31.)]),
        Ink::Flat([62, 54, 58]),
    );
    pen.fill(
        polygon(&[(19., 9.), (15.4, 31.), (11., 31.)]),
        Ink::Flat(lighter(colour, 0.3)),
    );
    pen.line(&[(1., 31.2), (43., 31.2)], 0.8, outline_of(colour));
}

fn sun(pen: &mut Pen) {
    let gold = [255, 200, 40];
    for index in 0..12 {
        let (sin, cos) = (index as f32 * std::f32::consts::TAU / 12.).sin_cos();
        pen.line(
            &[
                (10. + 7.4 * sin, 10. + 7.4 * cos),
                (10. + 9. * sin, 10. + 9. * cos),
            ],
            1.5,
            [250, 170, 30],
        );
    }
    pen.fill(disc(10., 10., 6.4), Ink::Flat([244, 166, 30]));
    pen.fill(disc(10., 10., 5.8), Ink::Lit(gold));
}

fn cloud(pen: &mut Pen, variation: u32) {
    let lift = 1.6 * vary_share(variation, 1);
    let puffs = [
        (7., 10.4, 4.6),
        (13.6, 6.6 + lift, 5.4),
        (21.4, 6.8 - lift * 0.5, 5.2),
        (27.4, 10., 4.8),
    ];
    let (white, edge) = ([250, 252, 255], [150, 172, 198]);
    for (x, y, r) in puffs {
        pen.fill(disc(x, y, r + 0.6), Ink::Flat(edge));
    }
    pen.fill(soft(2., 9., 30., 6.6, 3.2), Ink::Flat(edge));
    for (x, y, r) in puffs {
        pen.fill(disc(x, y, r), Ink::Flat(white));
    }
    pen.fill(soft(2.6, 9.4, 28.8, 5.6, 2.8), Ink::Flat(white));
    pen.fill(soft(4., 12.4, 26., 2.4, 1.2), Ink::Flat([222, 232, 244]));
}

fn kite(pen: &mut Pen, colour: Rgb) {
    let tail = curve((9., 17.), (3., 21.), (9., 24.));
    pen.stroke(tail.as_ref(), 0.9, Ink::Flat([92, 84, 92]));
    for (x, y) in [(5.8, 20.4), (8.4, 23.6)] {
        let bow = polygon(&[
            (x - 2., y - 1.2),
            (x - 2., y + 1.2),
            (x + 2., y - 1.2),
            (x + 2., y + 1.2),
        ]);
        pen.fill(bow, Ink::Flat(colour));
    }
    pen.line(&[(9., 24.), (13., 27.4)], 0.9, [92, 84, 92]);
    pen.shape(
        polygon(&[(14., 0.8), (21.2, 7.), (9., 18.), (2.4, 5.)]),
        colour,
    );
    pen.fill(
        polygon(&[(14., 0.8), (12.2, 6.), (2.4, 5.)]),
        Ink::Flat(lighter(colour, 0.35)),
    );
    pen.fill(
        polygon(&[(21.2, 7.), (12.2, 6.), (9., 18.)]),
        Ink::Flat(darker(colour, 0.2)),
    );
    pen.line(&[(14., 0.8), (9., 18.)], 0.8, outline_of(colour));
    pen.line(&[(2.4, 5.), (21.2, 7.)], 0.8, outline_of(colour));
}

fn balloon(pen: &mut Pen, colour: Rgb) {
    let string = curve((8.5, 19.), (5., 24.), (9.4, 29.4));
    pen.stroke(string.as_ref(), 0.9, Ink::Flat([92, 84, 92]));
    pen.shape(polygon(&[(8.5, 17.4), (10.4, 20.4), (6.6, 20.4)]), colour);
    pen.shape(oval(8.5, 9.6, 7.7, 8.9), colour);
    let x = if pen.flipped { 11.6 } else { 5.4 };
    pen.fill(oval(x, 5.8, 1.6, 2.4), Ink::Flat(lighter(colour, 0.6)));
}
