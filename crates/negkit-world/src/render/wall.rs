//! What hangs on walls.

use super::{Ink, Pen, Rgb, block, disc, lighter, oval, polygon, vary, vary_choice};
use crate::catalog::Kind;
use crate::scene::Thing;

pub(super) fn paint(pen: &mut Pen, thing: &Thing, colour: Rgb) {
    match thing.kind {
        Kind::Mirror => mirror(pen),
        Kind::Window => window(pen),
        Kind::Clock => clock(pen, colour, thing.variation),
        _ => painting(pen, thing.variation),
    }
}

fn mirror(pen: &mut Pen) {
    pen.shape(oval(11., 15., 10.2, 14.2), [132, 122, 128]);
    pen.fill(oval(11., 15., 8.2, 12.), Ink::Lit([204, 212, 220]));
    let white = [252, 254, 255];
    pen.line(&[(6.4, 15.6), (12., 7.)], 1.9, white);
    pen.line(&[(8.4, 20.4), (15.4, 9.6)], 1.9, white);
}

fn window(pen: &mut Pen) {
    let frame = [250, 250, 246];
    pen.shape(block(1.8, 1., 26.4, 26.4), frame);
    pen.fill(block(4.4, 3.6, 21.2, 21.2), Ink::Lit([110, 186, 240]));
    pen.fill(block(13.8, 3., 2.4, 23.), Ink::Flat(frame));
    pen.fill(block(4., 13., 22., 2.4), Ink::Flat(frame));
    pen.shape(block(0.8, 26.6, 28.4, 2.6), frame);
}

fn clock(pen: &mut Pen, colour: Rgb, variation: u32) {
    pen.shape(disc(10., 10., 9.2), colour);
    pen.fill(disc(10., 10., 6.), Ink::Flat([252, 250, 240]));
    let dark = [40, 40, 48];
    for index in 0..12 {
        let angle = index as f32 * std::f32::consts::TAU / 12.;
        let (sin, cos) = angle.sin_cos();
        pen.fill(disc(10. + 5. * sin, 10. + 5. * cos, 0.4), Ink::Flat(dark));
    }
    for (salt, length, width) in [(1, 2.8, 1.3), (2, 4.4, 0.9)] {
        let angle = vary(variation, salt, 12) as f32 * std::f32::consts::TAU / 12.;
        let (sin, cos) = angle.sin_cos();
        pen.line(
            &[(10., 10.), (10. + length * sin, 10. - length * cos)],
            width,
            dark,
        );
    }
}

fn painting(pen: &mut Pen, variation: u32) {
    let gold = [214, 166, 66];
    pen.shape(block(0.9, 0.9, 28.2, 22.2), gold);
    pen.fill(block(2.2, 2.2, 25.6, 19.6), Ink::Flat(lighter(gold, 0.35)));
    let sky = vary_choice(
        variation,
        1,
        &[[246, 214, 170], [238, 190, 180], [250, 226, 160]],
    );
    pen.fill(block(4., 4., 22., 16.), Ink::Flat(sky));
    let ridge = vary_choice(
        variation,
        2,
        &[[126, 98, 140], [108, 118, 150], [150, 96, 96]],
    );
    pen.fill(
        polygon(&[(4., 16.), (10., 7.4), (15., 13.), (19., 9.), (26., 16.)]),
        Ink::Flat(ridge),
    );
    let meadow = vary_choice(
        variation,
        3,
        &[[112, 130, 80], [140, 128, 70], [96, 120, 104]],
    );
    pen.fill(
        polygon(&[(4., 14.6), (15., 16.4), (26., 13.8), (26., 20.), (4., 20.)]),
        Ink::Flat(meadow),
    );
}
