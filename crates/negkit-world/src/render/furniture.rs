//! What stands in rooms.

use super::{
    Ink, Pen, Rgb, blob, block, darker, disc, lighter, outline_of, oval, polygon, soft, vary,
    vary_choice,
};
use crate::catalog::Kind;
use crate::scene::Thing;

const STEEL: Rgb = [178, 184, 192];

pub(super) fn paint(pen: &mut Pen, thing: &Thing, colour: Rgb) {
    match thing.kind {
        Kind::Chair => chair(pen, colour),
        Kind::Table => table(pen, colour),
        Kind::Sofa => sofa(pen, colour),
        Kind::Bed => bed(pen, colour),
        Kind::Lamp => lamp(pen, colour),
        Kind::Plant => plant(pen),
        Kind::Television => television(pen, thing.variation),
        Kind::Bookcase => bookcase(pen, thing.variation),
        Kind::Fridge => fridge(pen, colour),
        Kind::Oven => oven(pen, colour),
        Kind::Sink => sink(pen, colour),
        Kind::Toilet => toilet(pen, colour),
        _ => bathtub(pen, colour),
    }
}

fn chair(pen: &mut Pen, colour: Rgb) {
    let far = darker(colour, 0.3);
    pen.limb(&[(7., 20.), (7., 31.)], 1.6, far);
    pen.limb(&[(16., 20.), (16., 31.)], 1.6, far);
    pen.shape(soft(2.4, 1., 4.2, 21., 1.6), colour);
    pen.shape(soft(2.4, 17.6, 17.6, 4.6, 1.6), colour);
    pen.limb(&[(3.9, 22.), (3.9, 32.6)], 2.2, colour);
    pen.limb(&[(18.4, 22.), (18.4, 32.6)], 2.2, colour);
}

fn table(pen: &mut Pen, colour: Rgb) {
    let far = darker(colour, 0.3);
    pen.limb(&[(9., 6.), (9., 20.)], 2., far);
    pen.limb(&[(31., 6.), (31., 20.)], 2., far);
    pen.shape(block(3.4, 5., 33.2, 3.4), darker(colour, 0.16));
    pen.limb(&[(5., 7.), (5., 22.6)], 2.6, colour);
    pen.limb(&[(35., 7.), (35., 22.6)], 2.6, colour);
    pen.shape(soft(0.9, 1., 38.2, 4.8, 1.6), colour);
}

fn sofa(pen: &mut Pen, colour: Rgb) {
    pen.fill(block(5., 21.6, 2.6, 2.8), Ink::Flat([84, 66, 54]));
    pen.fill(block(40.4, 21.6, 2.6, 2.8), Ink::Flat([84, 66, 54]));
    pen.shape(soft(4., 1., 40., 17., 4.), colour);
    pen.line(&[(24., 2.), (24., 12.)], 0.8, outline_of(colour));
    pen.shape(soft(7., 11.6, 17., 6.6, 2.2), lighter(colour, 0.12));
    pen.shape(soft(24., 11.6, 17., 6.6, 2.2), lighter(colour, 0.12));
    pen.shape(block(5., 17.4, 38., 4.6), darker(colour, 0.1));
    pen.shape(soft(0.9, 8.4, 7.6, 14., 3.), colour);
    pen.shape(soft(39.5, 8.4, 7.6, 14., 3.), colour);
}

fn bed(pen: &mut Pen, colour: Rgb) {
    let wood = [176, 136, 100];
    pen.shape(soft(0.9, 1., 4.6, 25., 1.8), wood);
    pen.shape(soft(49., 11., 4., 15., 1.6), wood);
    pen.shape(block(4., 18.4, 46., 4.6), wood);
    pen.shape(soft(4.6, 12.4, 45., 7., 2.), [248, 246, 240]);
    pen.shape(soft(5.6, 7.4, 12.4, 6.6, 3.), [250, 248, 244]);
    let cover = blob(&[
        (17., 10.4),
        (30., 9.),
        (48., 9.4),
        (50., 11.),
        (50., 23.),
        (48., 23.6),
        (18., 23.4),
        (16., 22.),
    ]);
    pen.shape(cover, colour);
    pen.fill(
        soft(17.6, 10.4, 4., 12.2, 1.4),
        Ink::Flat(lighter(colour, 0.3)),
    );
}

fn lamp(pen: &mut Pen, colour: Rgb) {
    let stand = [104, 100, 104];
    pen.shape(oval(9., 43.6, 6., 1.6), stand);
    pen.line(&[(9., 15.), (9., 43.)], 1.8, stand);
    let glow = [255, 240, 170];
    pen.fill(oval(9., 16.4, 3., 1.6), Ink::Flat(glow));
    pen.shape(
        polygon(&[(5., 1.), (13., 1.), (17.2, 16.), (0.8, 16.)]),
        colour,
    );
}

fn plant(pen: &mut Pen) {
    let leaf = [58, 142, 68];
    for (points, colour) in [
        (
            [(11., 24.), (1., 18.), (0.6, 7.), (9., 13.)],
            darker(leaf, 0.15),
        ),
        (
            [(11., 24.), (21., 18.), (21.4, 7.), (13., 13.)],
            darker(leaf, 0.15),
        ),
        ([(11., 24.), (4., 12.), (5.6, -1.), (12., 9.)], leaf),
        ([(11., 24.), (18., 12.), (16.4, -1.), (10., 9.)], leaf),
    ] {
        pen.shape(blob(&points), colour);
    }
    pen.line(&[(11., 12.), (11., 23.)], 1., darker(leaf, 0.3));
    let pot = [198, 108, 68];
    pen.shape(
        polygon(&[(4.6, 23.), (17.4, 23.), (15.4, 33.), (6.6, 33.)]),
        pot,
    );
    pen.shape(soft(3.6, 21., 14.8, 3.6, 1.), pot);
}

fn television(pen: &mut Pen, variation: u32) {
    let wood = [150, 118, 90];
    pen.shape(soft(3., 24.6, 28., 7.4, 1.2), wood);
    pen.line(&[(17., 25.2), (17., 31.4)], 0.7, outline_of(wood));
    pen.fill(block(13., 21.4, 8., 3.2), Ink::Flat([58, 58, 64]));
    pen.shape(soft(0.9, 1., 32.2, 21., 1.8), [38, 38, 44]);
    let screen = vary_choice(
        variation,
        1,
        &[[92, 172, 186], [116, 150, 190], [136, 176, 150]],
    );
    pen.fill(block(3., 3., 28., 16.8), Ink::Lit(screen));
    pen.fill(
        polygon(&[(6., 3.), (12., 3.), (5., 19.8), (3., 19.8), (3., 11.)]),
        Ink::Flat(lighter(screen, 0.4)),
    );
}

fn bookcase(pen: &mut Pen, variation: u32) {
    let wood = [158, 112, 74];
    pen.shape(block(0.9, 1., 30.2, 48.), wood);
    let spines: &[Rgb] = &[
        [196, 74, 62],
        [72, 112, 168],
        [222, 180, 82],
        [86, 140, 98],
        [232, 224, 206],
        [128, 84, 140],
    ];
    for shelf in 0..4 {
        let top = 3. + 11.6 * shelf as f32;
        pen.fill(block(3., top, 26., 9.6), Ink::Flat([92, 64, 44]));
        let mut x = 3.6;
        for book in 0..6 {
            let salt = shelf * 8 + book;
            let tall = 6.4 + 0.8 * vary(variation, salt, 4) as f32;
            let wide = 3. + 0.4 * vary(variation, salt + 64, 3) as f32;
            let colour = vary_choice(variation, salt + 128, spines);
            pen.fill(block(x, top + 9.6 - tall, wide, tall), Ink::Flat(colour));
            x += wide + 0.5;
        }
    }
}

fn fridge(pen: &mut Pen, colour: Rgb) {
    pen.fill(block(3., 49.6, 20., 2.), Ink::Flat([70, 70, 76]));
    pen.shape(soft(0.9, 1., 24.2, 49.6, 2.4), colour);
    pen.line(&[(1.4, 18.), (24.6, 18.)], 1.1, outline_of(colour));
    pen.line(&[(5., 9.), (5., 15.)], 1.7, STEEL);
    pen.line(&[(5., 22.), (5., 33.)], 1.7, STEEL);
}

fn oven(pen: &mut Pen, colour: Rgb) {
    pen.shape(soft(0.9, 3., 26.2, 28.4, 1.4), colour);
    pen.fill(block(1., 2.2, 26., 2.), Ink::Flat([60, 60, 66]));
    for x in [4., 16.] {
        pen.fill(soft(x, 0.8, 8., 1.8, 0.8), Ink::Flat([60, 60, 66]));
    }
    for index in 0..4 {
        pen.fill(
            disc(5.4 + 5.7 * index as f32, 8., 1.5),
            Ink::Flat([74, 74, 82]),
        );
    }
    pen.line(&[(5., 13.), (23., 13.)], 1.5, STEEL);
    pen.shape(soft(4.4, 15.6, 19.2, 11.6, 1.4), [52, 48, 52]);
    pen.fill(soft(6.4, 17.6, 15.2, 7.6, 1.), Ink::Lit([236, 150, 60]));
}

fn sink(pen: &mut Pen, colour: Rgb) {
    pen.shape(
        polygon(&[(10., 16.), (16., 16.), (17.4, 33.), (8.6, 33.)]),
        colour,
    );
    pen.stroke(
        super::curve((13., 10.), (12.8, 1.), (17., 2.4)).as_ref(),
        2.,
        Ink::Flat([128, 134, 144]),
    );
    pen.line(&[(17., 2.6), (17.2, 5.4)], 2., [128, 134, 144]);
    let bowl = blob(&[
        (0.6, 9.),
        (13., 9.),
        (25.4, 9.),
        (24., 19.),
        (13., 20.6),
        (2., 19.),
    ]);
    pen.shape(bowl, colour);
    pen.shape(soft(0.9, 8.4, 24.2, 3.4, 1.6), colour);
    pen.fill(oval(13., 10., 9., 1.), Ink::Flat([150, 190, 212]));
}

fn toilet(pen: &mut Pen, colour: Rgb) {
    pen.shape(soft(1., 1.6, 8., 16., 1.6), colour);
    pen.shape(soft(0.9, 0.9, 8.4, 3., 1.2), lighter(colour, 0.2));
    pen.fill(block(6.4, 5.6, 2., 1.4), Ink::Flat(STEEL));
    let foot = blob(&[(6., 22.), (17., 22.), (14.6, 28.), (17., 34.), (6., 34.)]);
    pen.shape(foot, colour);
    let bowl = blob(&[
        (3., 17.),
        (12., 18.),
        (22., 17.),
        (21., 25.),
        (14., 28.),
        (5., 27.),
    ]);
    pen.shape(bowl, colour);
    pen.shape(soft(6., 15.6, 15.2, 3.2, 1.6), darker(colour, 0.12));
}

fn bathtub(pen: &mut Pen, colour: Rgb) {
    for x in [8., 39.] {
        pen.shape(
            blob(&[(x - 1., 20.), (x + 4., 20.), (x + 3., 24.), (x, 24.)]),
            STEEL,
        );
    }
    pen.line(
        &[(44., 8.), (44., 2.), (39.6, 2.), (39.6, 4.2)],
        1.6,
        [128, 134, 144],
    );
    for (x, y, r) in [
        (8., 7., 2.6),
        (13., 5.6, 3.2),
        (19., 6.6, 3.),
        (25., 6.2, 2.6),
        (30.5, 7., 2.2),
    ] {
        pen.fill(disc(x, y, r + 0.4), Ink::Flat([178, 204, 220]));
        pen.fill(disc(x, y, r), Ink::Flat([244, 250, 254]));
    }
    let tub = blob(&[
        (1.6, 7.),
        (25., 8.),
        (48.4, 7.),
        (46., 21.6),
        (40., 22.4),
        (10., 22.4),
        (4., 21.6),
    ]);
    pen.shape(tub, colour);
    pen.shape(soft(0.9, 7., 48.2, 3.4, 1.7), colour);
}
