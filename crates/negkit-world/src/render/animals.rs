//! Dogs, cats, birds, horses, cows and sheep, seen from the side, looking to the right.

use tiny_skia::Transform;

use super::{
    Ink, Pen, Points, Rgb, blob, curve, darker, disc, lighter, luma, mix, outline_of, oval,
    polygon, soft, union,
};
use crate::catalog::{Kind, State};
use crate::scene::Thing;

const EYE: Rgb = [26, 24, 28];

pub(super) fn paint(pen: &mut Pen, thing: &Thing, colour: Rgb) {
    let state = thing.state.unwrap_or(State::Standing);
    match thing.kind {
        Kind::Dog => dog(pen, state, colour),
        Kind::Cat => cat(pen, state, colour),
        Kind::Bird if state == State::Flying => flying_bird(pen, colour),
        Kind::Bird => perched_bird(pen, colour),
        Kind::Horse => horse(pen, state, colour),
        Kind::Cow => cow(pen, state, colour),
        _ => sheep(pen, state, colour),
    }
}

/// A marking on fur of that colour: visible on it, but of its family.
fn marking(colour: Rgb) -> Rgb {
    if luma(colour) < 60. {
        lighter(colour, 0.24)
    } else {
        darker(colour, 0.34)
    }
}

fn eye(pen: &mut Pen, x: f32, y: f32, r: f32, fur: Rgb) {
    if luma(fur) < 60. {
        pen.fill(disc(x, y, r * 1.35), Ink::Flat([236, 224, 170]));
    }
    pen.fill(disc(x, y, r), Ink::Flat(EYE));
}

fn legs(pen: &mut Pen, width: f32, colour: Rgb, legs: &[Points]) {
    for leg in legs {
        pen.limb(leg, width, colour);
    }
}

fn dog(pen: &mut Pen, state: State, colour: Rgb) {
    let far = marking(colour);
    match state {
        State::Sitting => {
            pen.limb(&[(6., 21.), (2.6, 20.), (1.4, 16.)], 2.2, colour);
            pen.limb(&[(15.4, 14.), (15.2, 22.3)], 2.6, far);
            let body = blob(&[
                (12., 7.),
                (20., 7.),
                (19.5, 16.),
                (16., 23.2),
                (5., 24.4),
                (4., 16.),
                (9., 12.),
            ]);
            pen.shape(body, colour);
            pen.limb(&[(18., 13.), (18.2, 22.3)], 2.6, colour);
            pen.limb(&[(9., 22.4), (13.5, 22.4)], 2.2, colour);
            dog_head(pen, 19., 6.4, colour);
        }
        State::Running => {
            pen.limb(&[(5., 10.), (1.4, 7.)], 2.2, colour);
            legs(
                pen,
                2.4,
                far,
                &[
                    &[(8., 14.), (6.4, 17.6), (2., 19.)],
                    &[(18., 14.), (22., 17.), (24., 20.5)],
                ],
            );
            let body = blob(&[
                (4., 8.),
                (12., 8.6),
                (21., 6.),
                (22., 15.),
                (13., 15.4),
                (4., 16.),
            ]);
            pen.shape(body, colour);
            legs(
                pen,
                2.4,
                colour,
                &[
                    &[(7., 14.), (4., 19.), (1.6, 22.)],
                    &[(19., 13.), (23.6, 16.), (26.4, 18.)],
                ],
            );
            dog_head(pen, 22.2, 5.8, colour);
        }
        _ => {
            pen.limb(&[(5., 10.), (2.4, 7.), (2.8, 3.)], 2.2, colour);
            legs(
                pen,
                2.6,
                far,
                &[&[(8.8, 14.), (8.8, 22.2)], &[(17.2, 14.), (17.2, 22.2)]],
            );
            let body = blob(&[
                (3.4, 8.),
                (12., 8.6),
                (21., 7.),
                (22., 16.),
                (13., 15.6),
                (3.4, 17.),
            ]);
            pen.shape(body, colour);
            legs(
                pen,
                2.6,
                colour,
                &[&[(6., 14.), (6., 22.2)], &[(19.8, 14.), (19.8, 22.2)]],
            );
            dog_head(pen, 21.6, 6., colour);
        }
    }
}

fn dog_head(pen: &mut Pen, x: f32, y: f32, colour: Rgb) {
    let head = union([
        blob(&[
            (x - 4.6, y - 4.4),
            (x + 2.4, y - 5.),
            (x + 3.4, y + 3.6),
            (x - 3.6, y + 4.4),
        ]),
        soft(x, y - 0.8, 6., 4.4, 2.),
    ]);
    pen.shape(head, colour);
    pen.fill(disc(x + 5.6, y + 0.2, 1.1), Ink::Flat(EYE));
    eye(pen, x + 1.2, y - 1.4, 0.8, colour);
    let ear = blob(&[
        (x - 4.2, y - 4.6),
        (x - 0.6, y - 4.2),
        (x - 1.2, y + 4.6),
        (x - 5., y + 4.),
    ]);
    pen.shape(ear, marking(colour));
}

fn cat(pen: &mut Pen, state: State, colour: Rgb) {
    let far = marking(colour);
    match state {
        State::Sitting => {
            let tail = curve((15., 20.5), (24.5, 22.), (22., 12.));
            pen.stroke(tail.as_ref(), 3.2, Ink::Flat(outline_of(colour)));
            pen.stroke(tail.as_ref(), 2.2, Ink::Flat(colour));
            let body = blob(&[(7.5, 7.), (15.5, 7.), (20., 23.), (11.5, 24.2), (3., 23.)]);
            pen.shape(body, colour);
            pen.line(&[(10., 17.), (10., 22.)], 0.7, outline_of(colour));
            pen.line(&[(13., 17.), (13., 22.)], 0.7, outline_of(colour));
            cat_head(pen, 11.5, 7., colour);
        }
        State::Running => {
            let tail = curve((5., 12.), (1.6, 9.), (1.6, 3.6));
            pen.stroke(tail.as_ref(), 3., Ink::Flat(outline_of(colour)));
            pen.stroke(tail.as_ref(), 2., Ink::Flat(colour));
            legs(
                pen,
                2.,
                far,
                &[
                    &[(6., 14.), (4., 17.), (2., 18.)],
                    &[(16., 14.), (20., 17.5)],
                ],
            );
            let body = blob(&[
                (2.8, 9.),
                (10., 10.),
                (18., 8.),
                (19., 15.4),
                (11., 15.),
                (3., 17.),
            ]);
            pen.shape(body, colour);
            legs(
                pen,
                2.,
                colour,
                &[
                    &[(5.4, 15.), (2., 20.5)],
                    &[(17., 14.), (21.5, 15.6), (23.6, 17.4)],
                ],
            );
            cat_head(pen, 18.6, 7., colour);
        }
        _ => {
            let tail = curve((4.6, 12.), (-1., 8.), (4., 2.));
            pen.stroke(tail.as_ref(), 3., Ink::Flat(outline_of(colour)));
            pen.stroke(tail.as_ref(), 2., Ink::Flat(colour));
            legs(
                pen,
                2.1,
                far,
                &[&[(7.4, 14.), (7.4, 21.6)], &[(15., 14.), (15., 21.6)]],
            );
            let body = blob(&[
                (2.4, 8.6),
                (10., 9.6),
                (18., 8.6),
                (19., 16.4),
                (10., 16.),
                (2.6, 17.6),
            ]);
            pen.shape(body, colour);
            legs(
                pen,
                2.1,
                colour,
                &[&[(5., 14.), (5., 21.6)], &[(17.4, 14.), (17.4, 21.6)]],
            );
            cat_head(pen, 18.6, 7., colour);
        }
    }
}

fn cat_head(pen: &mut Pen, x: f32, y: f32, colour: Rgb) {
    let head = union([
        oval(x, y, 5.3, 4.6),
        polygon(&[(x - 5.2, y + 0.5), (x - 4.8, y - 6.6), (x - 0.6, y - 3.4)]),
        polygon(&[(x + 0.6, y - 3.4), (x + 4.8, y - 6.6), (x + 5.2, y + 0.5)]),
    ]);
    pen.shape(head, colour);
    for side in [-1., 1.] {
        let eye = [186, 200, 60];
        pen.fill(oval(x + 2.2 * side, y - 0.2, 1.15, 1.25), Ink::Flat(eye));
        pen.fill(oval(x + 2.2 * side, y - 0.2, 0.55, 1.1), Ink::Flat(EYE));
        let from = (x + 2. * side, y + 2.);
        pen.line(&[from, (x + 5.6 * side, y + 1.6)], 0.35, marking(colour));
    }
    pen.fill(oval(x, y + 1.7, 0.9, 0.7), Ink::Flat([214, 120, 124]));
}

const BEAK: Rgb = [240, 140, 30];

fn flying_bird(pen: &mut Pen, colour: Rgb) {
    let far = blob(&[
        (11., 11.),
        (9., 5.),
        (12., 0.2),
        (16., 1.6),
        (15.6, 8.),
        (15.5, 11.5),
    ]);
    pen.shape(far, darker(colour, 0.22));
    pen.shape(
        polygon(&[
            (6.5, 11.5),
            (0.8, 9.2),
            (1.6, 12.6),
            (0.9, 15.6),
            (7., 14.2),
        ]),
        colour,
    );
    pen.shape(
        blob(&[
            (3.5, 12.),
            (12., 8.6),
            (20., 9.),
            (20.5, 15.),
            (12., 17.),
            (5., 15.),
        ]),
        colour,
    );
    pen.shape(polygon(&[(20.4, 9.4), (23.6, 10.8), (20.4, 12.4)]), BEAK);
    pen.shape(disc(18.6, 10.4, 3.2), colour);
    eye(pen, 19.4, 9.8, 0.75, colour);
    let near = blob(&[
        (8., 12.5),
        (3., 6.),
        (2.6, 0.),
        (7., 1.4),
        (12.5, 7.),
        (14., 12.6),
        (11., 14.),
    ]);
    pen.shape(near, mix(colour, [255, 255, 255], 0.1));
}

fn perched_bird(pen: &mut Pen, colour: Rgb) {
    pen.prop(|pen| {
        let wood = [112, 78, 54];
        pen.limb(&[(12.4, 17.), (12., 18.6)], 3., wood);
        pen.limb(&[(2., 17.4), (22., 16.6)], 1.7, wood);
        pen.limb(&[(19., 16.8), (22., 14.4)], 0.9, wood);
    });
    pen.line(&[(10.4, 13.), (10.2, 16.)], 0.9, BEAK);
    pen.line(&[(13., 13.), (13., 16.)], 0.9, BEAK);
    pen.shape(
        polygon(&[(8.5, 9.), (1.6, 12.6), (1.4, 15.4), (9.5, 13.6)]),
        darker(colour, 0.2),
    );
    let body = blob(&[
        (6., 8.),
        (13., 4.),
        (19.5, 6.),
        (18.5, 13.),
        (12., 16.),
        (6., 14.4),
    ]);
    pen.shape(body, colour);
    pen.shape(polygon(&[(19.6, 3.6), (23.2, 5.2), (19.6, 6.6)]), BEAK);
    pen.shape(disc(17., 4.9, 3.9), colour);
    eye(pen, 18., 4.2, 0.9, colour);
    pen.shape(
        blob(&[(7., 8.4), (13., 6.6), (15., 10.6), (10., 13.6), (3.4, 13.4)]),
        darker(colour, 0.2),
    );
}

fn horse(pen: &mut Pen, state: State, colour: Rgb) {
    let (far, hair) = (darker(colour, 0.2), marking(colour));
    let running = state == State::Running;
    if running {
        pen.stroke(
            curve((6., 16.), (2., 15.), (1.4, 20.)).as_ref(),
            2.6,
            Ink::Flat(hair),
        );
        legs(
            pen,
            2.7,
            far,
            &[
                &[(9., 22.), (9., 27.), (13., 30.5)],
                &[(22., 22.), (28., 25.), (28., 30.)],
            ],
        );
    } else {
        pen.stroke(
            curve((6., 15.), (2., 17.), (3., 26.)).as_ref(),
            3.,
            Ink::Flat(hair),
        );
        legs(
            pen,
            2.7,
            far,
            &[&[(10.4, 22.), (10.4, 34.4)], &[(20.4, 22.), (20.4, 34.4)]],
        );
    }
    let neck = polygon(&[(18., 15.), (25., 4.4), (30.4, 6.), (26.6, 13.), (25.4, 21.)]);
    let body = blob(&[
        (3.4, 13.),
        (14., 14.4),
        (26., 13.),
        (27., 25.),
        (15., 23.6),
        (4., 25.),
    ]);
    pen.shape(union([neck, body]), colour);
    if running {
        legs(
            pen,
            2.9,
            colour,
            &[
                &[(7., 21.), (5.4, 28.), (1.8, 32.)],
                &[(24., 21.), (31., 24.), (33.6, 29.)],
            ],
        );
    } else {
        legs(
            pen,
            2.9,
            colour,
            &[&[(7., 21.), (7., 34.2)], &[(23.6, 21.), (23.6, 34.2)]],
        );
    }
    let head = blob(&[
        (24., 3.),
        (29., 2.6),
        (34.4, 8.6),
        (34.6, 12.4),
        (31., 12.2),
        (25., 9.4),
    ]);
    pen.shape(head, colour);
    pen.shape(polygon(&[(25.4, 4.2), (26.4, 0.8), (28.4, 3.8)]), colour);
    let mane = blob(&[
        (24., 2.),
        (28., 3.),
        (22.5, 10.),
        (20.5, 16.),
        (16., 15.),
        (20.5, 8.),
    ]);
    pen.fill(mane, Ink::Flat(hair));
    eye(pen, 29.2, 6.2, 0.9, colour);
    pen.fill(disc(33., 10.6, 0.6), Ink::Flat(hair));
}

fn cow(pen: &mut Pen, state: State, colour: Rgb) {
    let patch = if luma(colour) < 60. {
        [206, 200, 196]
    } else if luma(colour) > 200. {
        [92, 86, 88]
    } else {
        [232, 214, 190]
    };
    let far = darker(colour, 0.2);
    let running = state == State::Running;
    let tail: Points = if running {
        &[(4., 10.), (1.4, 8.4)]
    } else {
        &[(4., 10.), (1.8, 13.), (2., 19.)]
    };
    pen.limb(tail, 1., colour);
    if let Some(&(x, y)) = tail.last() {
        pen.fill(disc(x, y, 1.4), Ink::Flat(marking(colour)));
    }
    if running {
        legs(
            pen,
            2.9,
            far,
            &[&[(8., 19.), (11.6, 26.)], &[(23., 19.), (28.6, 24.)]],
        );
    } else {
        legs(
            pen,
            3.,
            far,
            &[&[(10.4, 19.), (10.4, 28.2)], &[(22., 19.), (22., 28.2)]],
        );
        pen.fill(oval(12.6, 21.6, 2.6, 1.9), Ink::Flat([238, 168, 168]));
    }
    pen.shape(soft(3.4, 7.4, 25., 14., 4.6), colour);
    pen.fill(
        blob(&[(6., 8.), (13., 8.), (13., 15.), (7., 16.)]),
        Ink::Flat(patch),
    );
    pen.fill(
        blob(&[(16., 13.), (23., 12.), (23., 20.), (17., 20.6)]),
        Ink::Flat(patch),
    );
    if running {
        legs(
            pen,
            3.1,
            colour,
            &[
                &[(7., 19.), (2.6, 26.)],
                &[(25.6, 19.), (31.6, 22.), (33., 26.4)],
            ],
        );
    } else {
        legs(
            pen,
            3.1,
            colour,
            &[&[(6.4, 19.), (6.4, 28.)], &[(25.6, 19.), (25.6, 28.)]],
        );
    }
    let horn = [240, 226, 190];
    pen.limb(&[(28.4, 4.6), (27.6, 1.4)], 1.3, horn);
    pen.limb(&[(33.4, 4.6), (34.4, 1.4)], 1.3, horn);
    pen.shape(oval(26., 6.6, 2.4, 1.4), colour);
    pen.shape(
        blob(&[
            (26.4, 3.2),
            (35., 3.),
            (36., 12.),
            (33., 16.4),
            (28.6, 16.),
            (26.4, 11.),
        ]),
        colour,
    );
    pen.shape(soft(28.6, 10.8, 8.2, 5., 2.4), [238, 176, 170]);
    pen.fill(disc(31., 13.2, 0.6), Ink::Flat([150, 80, 84]));
    pen.fill(disc(34.4, 13.2, 0.6), Ink::Flat([150, 80, 84]));
    eye(pen, 29.6, 7.2, 0.85, colour);
    eye(pen, 33.4, 7.2, 0.85, colour);
}

fn sheep(pen: &mut Pen, state: State, colour: Rgb) {
    let bare = if luma(colour) < 60. {
        [166, 150, 136]
    } else {
        [70, 64, 66]
    };
    if state == State::Running {
        legs(
            pen,
            2.,
            bare,
            &[
                &[(8., 18.), (3., 22.6)],
                &[(10., 18.), (8., 23.)],
                &[(19., 18.), (25., 22.)],
                &[(20., 18.), (22., 23.)],
            ],
        );
    } else {
        for x in [7.6, 11., 17.4, 20.8] {
            pen.limb(&[(x, 17.), (x, 23.6)], 2., bare);
        }
    }
    let wool: Vec<(f32, f32, f32)> = vec![
        (5., 12.6, 4.),
        (8., 7.6, 4.2),
        (14., 5.8, 4.6),
        (20., 7.2, 4.2),
        (22.6, 12., 4.),
        (19.4, 16.6, 4.),
        (13.6, 17.6, 4.2),
        (8., 16.8, 4.),
    ];
    let edge = outline_of(colour);
    for &(x, y, r) in &wool {
        pen.fill(disc(x, y, r + 0.6), Ink::Flat(edge));
    }
    for &(x, y, r) in &wool {
        pen.fill(disc(x, y, r), Ink::Lit(colour));
    }
    pen.fill(oval(13.8, 11.8, 8., 6.), Ink::Flat(colour));
    pen.within(Transform::from_translate(24.4, 9.2), |pen| {
        pen.shape(oval(-3.4, -1., 2.4, 1.3), bare);
        pen.shape(
            blob(&[(-3.6, -4.6), (3.4, -4.6), (5.6, 3.), (2.4, 6.), (-2.4, 5.)]),
            bare,
        );
        pen.fill(disc(1.2, -0.6, 1.1), Ink::Flat([250, 250, 250]));
        pen.fill(disc(1.4, -0.6, 0.6), Ink::Flat(EYE));
        pen.shape(
            blob(&[(-4., -6.), (2.6, -6.4), (3., -2.6), (-3.6, -2.)]),
            colour,
        );
    });
}
