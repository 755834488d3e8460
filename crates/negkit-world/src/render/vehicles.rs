//! Cars, buses, trucks, bicycles and boats, driving to the right.

use tiny_skia::Transform;

use super::{Ink, Pen, Rgb, blob, block, darker, disc, lighter, oval, polygon, soft};
use crate::catalog::{Kind, State};
use crate::scene::Thing;

const GLASS: Rgb = [204, 228, 240];
const TYRE: Rgb = [48, 48, 54];
const STEEL: Rgb = [186, 190, 196];
const STREAK: Rgb = [58, 62, 78];
const DUST: Rgb = [236, 230, 218];

pub(super) fn paint(pen: &mut Pen, thing: &Thing, colour: Rgb) {
    let (draw, width, height): (fn(&mut Pen, Rgb, bool), f32, f32) = match thing.kind {
        Kind::Car => (car, 46., 23.),
        Kind::Bus => (bus, 56., 34.),
        Kind::Truck => (truck, 54., 32.),
        Kind::Bicycle => (bicycle, 36., 26.),
        _ => (boat, 44., 40.),
    };
    let moving = thing.state == Some(State::Moving);
    if !moving {
        draw(pen, colour, false);
        return;
    }
    // The vehicle gives up a part of its frame for what it leaves behind.
    let share = 0.82;
    pen.prop(|pen| streaks(pen, width * (1. - share), height, thing.kind == Kind::Boat));
    let lean = Transform::from_row(
        share,
        0.,
        -0.07,
        0.97,
        width * (1. - share) + 0.068 * height,
        0.03 * height,
    );
    pen.within(lean, |pen| draw(pen, colour, true));
}

/// Lines of speed, and dust near the ground (spray on water).
fn streaks(pen: &mut Pen, width: f32, height: f32, water: bool) {
    for (share, from, to) in [(0.3, 0.35, 1.7), (0.48, 0.1, 1.5), (0.66, 0.4, 1.7)] {
        let y = height * share;
        pen.line(&[(width * from, y), (width * to, y)], 1.3, STREAK);
    }
    let puff = if water { [250, 252, 255] } else { DUST };
    let base = height - 2.4;
    for (x, dy, r) in [(0.3, 0.3, 1.9), (0.75, -1.0, 2.7), (1.2, -0.1, 2.3)] {
        pen.fill(
            disc(width * x, base + dy, r + 0.4),
            Ink::Flat(darker(puff, 0.22)),
        );
        pen.fill(disc(width * x, base + dy, r), Ink::Flat(puff));
    }
}

fn wheel(pen: &mut Pen, x: f32, y: f32, r: f32) {
    pen.fill(disc(x, y, r), Ink::Flat(TYRE));
    pen.fill(disc(x, y, r * 0.5), Ink::Lit(STEEL));
}

/// Wedges before the wheels of what stands still.
fn wedge(pen: &mut Pen, x: f32, y: f32) {
    pen.prop(|pen| {
        pen.fill(
            polygon(&[(x, y), (x + 3.4, y), (x, y - 2.6)]),
            Ink::Flat([146, 146, 150]),
        );
    });
}

fn car(pen: &mut Pen, colour: Rgb, moving: bool) {
    let cabin = blob(&[
        (8., 11.),
        (14., 1.),
        (20., 0.6),
        (31., 0.6),
        (34., 2.),
        (41., 11.),
        (40., 12.),
        (9., 12.),
    ]);
    pen.shape(cabin, colour);
    pen.fill(
        polygon(&[(13.4, 9.4), (16.8, 3.4), (23., 3.), (23., 9.4)]),
        Ink::Flat(GLASS),
    );
    pen.fill(
        polygon(&[(25., 9.4), (25., 3.), (30.6, 3.4), (35.6, 9.4)]),
        Ink::Flat(GLASS),
    );
    pen.shape(soft(1., 8.8, 44., 10.4, 4.), colour);
    pen.fill(block(2., 15.6, 42., 1.4), Ink::Flat(darker(colour, 0.3)));
    pen.line(&[(24., 10.), (24., 17.)], 0.6, darker(colour, 0.3));
    pen.fill(oval(43.2, 12.2, 1.5, 1.6), Ink::Flat([255, 236, 150]));
    pen.fill(soft(1.2, 10.8, 1.8, 3., 0.8), Ink::Flat([206, 60, 50]));
    wheel(pen, 11., 18.2, 4.5);
    wheel(pen, 35., 18.2, 4.5);
    if !moving {
        wedge(pen, 39.4, 22.6);
    }
}

fn bus(pen: &mut Pen, colour: Rgb, moving: bool) {
    pen.shape(soft(0.9, 1.2, 54.2, 28., 3.6), colour);
    for index in 0..5 {
        pen.fill(
            soft(3.4 + 8.4 * index as f32, 5., 7., 8.4, 1.),
            Ink::Flat(GLASS),
        );
    }
    pen.fill(soft(46., 5., 8., 9.6, 1.2), Ink::Flat(lighter(GLASS, 0.3)));
    pen.fill(block(46., 16.6, 5.6, 12.), Ink::Flat(darker(colour, 0.25)));
    pen.fill(
        block(1.6, 21.6, 43.4, 1.8),
        Ink::Flat(lighter(colour, 0.45)),
    );
    pen.fill(oval(54., 25., 1.1, 1.7), Ink::Flat([255, 236, 150]));
    wheel(pen, 12., 28.8, 4.8);
    wheel(pen, 40., 28.8, 4.8);
    if !moving {
        wedge(pen, 45., 33.6);
    }
}

fn truck(pen: &mut Pen, colour: Rgb, moving: bool) {
    pen.fill(block(2., 23.4, 50., 3.), Ink::Flat([86, 88, 96]));
    pen.shape(block(1., 1.2, 33., 22.6), colour);
    for index in 1..4 {
        let x = 1. + 8.25 * index as f32;
        pen.line(&[(x, 3.), (x, 22.)], 0.8, darker(colour, 0.25));
    }
    let cab = polygon(&[
        (36.4, 26.),
        (36.4, 8.),
        (46., 8.),
        (52., 16.),
        (53., 18.),
        (53., 26.),
    ]);
    pen.shape(cab, colour);
    pen.fill(
        polygon(&[(40., 16.), (40., 10.2), (45.2, 10.2), (49.6, 16.)]),
        Ink::Flat(GLASS),
    );
    pen.fill(oval(52., 22., 1.1, 1.5), Ink::Flat([255, 236, 150]));
    for x in [9., 18.6, 45.] {
        wheel(pen, x, 27., 4.6);
    }
    if !moving {
        wedge(pen, 49.6, 31.6);
    }
}

fn bicycle(pen: &mut Pen, colour: Rgb, moving: bool) {
    for x in [8.4, 27.6] {
        let ring = disc(x, 17.6, 6.8);
        pen.stroke(ring.as_ref(), 2., Ink::Flat(TYRE));
        for (dx, dy) in [(5.6, 0.), (0., 5.6), (4., 4.), (4., -4.)] {
            pen.line(&[(x - dx, 17.6 - dy), (x + dx, 17.6 + dy)], 0.35, STEEL);
        }
        let guard = disc(x, 17.6, 5.2);
        pen.stroke(guard.as_ref(), 1.5, Ink::Flat(colour));
    }
    let dark = darker(colour, 0.45);
    let tubes: [&[(f32, f32)]; 3] = [
        &[
            (8.4, 17.6),
            (13.6, 8.4),
            (24.8, 8.4),
            (16.6, 17.6),
            (8.4, 17.6),
        ],
        &[(12.6, 5.4), (16.6, 17.6)],
        &[(23.6, 4.), (27.6, 17.6)],
    ];
    for tube in tubes {
        pen.line(tube, 3.1, dark);
    }
    for tube in tubes {
        pen.line(tube, 2.4, colour);
    }
    pen.line(&[(9.6, 4.8), (15.2, 4.8)], 2.4, TYRE);
    pen.line(&[(27., 2.4), (23.6, 3.4), (21.6, 2.6)], 1.6, TYRE);
    pen.fill(disc(16.6, 17.6, 1.7), Ink::Flat(TYRE));
    if !moving {
        pen.line(&[(16.6, 18.), (13., 24.6)], 1.1, [110, 112, 118]);
    }
}

fn boat(pen: &mut Pen, colour: Rgb, moving: bool) {
    let mast = [120, 96, 74];
    pen.line(&[(20., 2.), (20., 30.)], 1.5, mast);
    let cloth = [250, 248, 240];
    pen.shape(blob_sail(22., 3., 36., 25.), cloth);
    if moving {
        pen.shape(polygon(&[(18.4, 5.), (18.4, 25.), (7., 25.)]), cloth);
    } else {
        // An anchored boat has one sail up and its rope in the water.
        pen.line(&[(5., 31.), (1.4, 37.6)], 0.7, [90, 84, 78]);
    }
    pen.line(&[(20., 2.), (25., 3.4), (20., 4.8)], 1.1, colour);
    let hull = polygon(&[(1.4, 27.4), (42.8, 27.4), (36., 38.4), (8., 38.4)]);
    pen.shape(hull, colour);
    pen.fill(
        polygon(&[(2.6, 28.), (41.8, 28.), (40.6, 30.2), (3.8, 30.2)]),
        Ink::Flat(lighter(colour, 0.5)),
    );
    pen.prop(|pen| {
        let wave = [214, 234, 246];
        for index in 0..5 {
            let x = 3. + 8. * index as f32;
            pen.line(
                &[(x, 38.6), (x + 2., 37.6), (x + 4., 38.6), (x + 6., 37.6)],
                1.3,
                wave,
            );
        }
    });
}

/// A sail between a mast at `x`, from `top` to `low`, and a corner at `out`.
fn blob_sail(x: f32, top: f32, out: f32, low: f32) -> Option<tiny_skia::Path> {
    let mut b = tiny_skia::PathBuilder::new();
    b.move_to(x, top);
    b.quad_to(out - 1., (top + low) * 0.45, out, low);
    b.line_to(x, low);
    b.close();
    b.finish()
}
