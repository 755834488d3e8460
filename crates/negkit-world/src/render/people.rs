//! Men and women, and what they wear and hold.

use super::{
    Canvas, Ink, Pen, Points, Rgb, blob, block, curve, darker, disc, lighter, open, outline_of,
    oval, polygon, rgb, soft, vary_choice,
};
use crate::catalog::{Kind, State};
use crate::scene::Thing;

const SKIN: &[Rgb] = &[
    [248, 208, 176],
    [232, 182, 142],
    [203, 147, 104],
    [160, 106, 70],
    [118, 76, 50],
];
const HAIR: &[Rgb] = &[
    [58, 42, 34],
    [92, 58, 34],
    [38, 36, 40],
    [196, 150, 84],
    [120, 66, 40],
];
const SHOE: Rgb = [64, 58, 62];

/// Where the parts of a body are that others hang on.
struct Pose {
    head: (f32, f32),
    /// The hand that holds a bag.
    low_hand: (f32, f32),
    /// The hand that holds an umbrella.
    high_hand: (f32, f32),
    shoulder: (f32, f32),
}

pub(super) fn paint(canvas: &mut Canvas, thing: &Thing, colour: Rgb, first: usize) {
    let height = if thing.state == Some(State::Sitting) {
        48.
    } else {
        60.
    };
    let mut pen = canvas.pen(thing.frame, (24., height), thing.flipped);
    // Free space above the frame, in units of the design.
    let above = thing.frame[1] / thing.frame[3].max(1e-3) * height;
    let layer = |kind: Kind| {
        let position = thing.worn.iter().position(|worn| worn.kind == kind)?;
        let colour = thing.worn[position].colour.map_or([150, 150, 150], rgb);
        Some((first + 1 + position, colour))
    };
    let pose = match thing.state {
        Some(State::Sitting) => Pose {
            head: (10., 8.2),
            low_hand: (4.2, 33.),
            high_hand: (19.5, 24.),
            shoulder: (10., 18.5),
        },
        Some(State::Running) => Pose {
            head: (15., 8.2),
            low_hand: (3., 31.),
            high_hand: (21., 23.),
            shoulder: (13., 18.5),
        },
        _ => Pose {
            head: (12., 8.2),
            low_hand: (3.6, 34.5),
            high_hand: (21., 25.),
            shoulder: (12., 18.5),
        },
    };
    if let Some((layer, colour)) = layer(Kind::Umbrella) {
        pen.layer = Some(layer);
        umbrella(&mut pen, pose.high_hand, above, colour);
    }
    pen.layer = Some(first);
    let person = Person {
        woman: thing.kind == Kind::Woman,
        clothes: colour,
        skin: vary_choice(thing.variation, 1, SKIN),
        hair: vary_choice(thing.variation, 2, HAIR),
        holds_up: thing.wears(Kind::Umbrella),
        pose,
    };
    match thing.state {
        Some(State::Sitting) => person.sit(&mut pen),
        Some(State::Running) => person.run(&mut pen),
        _ => person.stand(&mut pen),
    }
    person.head(&mut pen);
    if let Some((layer, colour)) = layer(Kind::Bag) {
        pen.layer = Some(layer);
        bag(&mut pen, person.pose.low_hand, colour);
    }
    if let Some((layer, _)) = layer(Kind::Glasses) {
        pen.layer = Some(layer);
        glasses(&mut pen, person.pose.head);
    }
    if let Some((layer, colour)) = layer(Kind::Hat) {
        pen.layer = Some(layer);
        hat(&mut pen, person.pose.head, colour);
    }
}

struct Person {
    woman: bool,
    clothes: Rgb,
    skin: Rgb,
    hair: Rgb,
    holds_up: bool,
    pose: Pose,
}

impl Person {
    fn trousers(&self) -> Rgb {
        darker(self.clothes, 0.26)
    }

    fn arm(&self, pen: &mut Pen, points: Points) {
        pen.limb(points, 3.4, darker(self.clothes, 0.1));
        if let Some(&(x, y)) = points.last() {
            pen.shape(disc(x, y, 1.9), self.skin);
        }
    }

    fn leg(&self, pen: &mut Pen, points: Points) {
        let (width, colour) = if self.woman {
            (3.0, self.skin)
        } else {
            (4.4, self.trousers())
        };
        pen.limb(points, width, colour);
        if let Some(&(x, y)) = points.last() {
            pen.fill(soft(x - 1.9, y - 0.6, 5.4, 2.6, 1.3), Ink::Flat(SHOE));
        }
    }

    fn back_hair(&self, pen: &mut Pen) {
        if self.woman {
            let (x, y) = self.pose.head;
            let path = soft(x - 6.6, y - 6.2, 13.2, 19., 6.);
            pen.shape(path, self.hair);
        }
    }

    fn raised_arm(&self, pen: &mut Pen) {
        let (x, y) = self.pose.shoulder;
        let elbow = (x + 6.6, y + 11.);
        self.arm(pen, &[(x + 4.6, y - 0.6), elbow, self.pose.high_hand]);
    }

    fn stand(&self, pen: &mut Pen) {
        self.back_hair(pen);
        self.leg(pen, &[(9.2, 36.), (8.8, 57.2)]);
        self.leg(pen, &[(14.8, 36.), (15.2, 57.2)]);
        self.neck(pen);
        self.arm(pen, &[(6.8, 18.), (4.4, 26.), self.pose.low_hand]);
        if self.woman {
            pen.shape(
                blob(&[
                    (6., 15.5),
                    (12., 14.5),
                    (18., 15.5),
                    (16., 27.),
                    (20., 43.),
                    (21., 46.),
                    (3., 46.),
                    (4., 43.),
                    (8., 27.),
                ]),
                self.clothes,
            );
        } else {
            pen.shape(soft(6., 15., 12., 23.5, 3.5), self.clothes);
            pen.line(&[(12., 39.), (12., 44.)], 0.9, outline_of(self.trousers()));
        }
        if self.holds_up {
            self.raised_arm(pen);
        } else {
            self.arm(pen, &[(17.2, 18.), (19.6, 26.), (20.4, 34.5)]);
        }
    }

    fn sit(&self, pen: &mut Pen) {
        pen.prop(|pen| pen.shape(soft(3.5, 35.5, 13., 11.8, 2.), [168, 166, 162]));
        self.back_hair(pen);
        self.neck(pen);
        self.arm(pen, &[(7., 18.), (5., 25.), self.pose.low_hand]);
        self.leg(pen, &[(10., 34.), (18.5, 34.), (19., 45.4)]);
        if self.woman {
            pen.shape(
                blob(&[
                    (5., 15.),
                    (10., 14.5),
                    (15., 15.),
                    (14., 27.),
                    (22., 29.),
                    (22., 37.5),
                    (15., 39.5),
                    (5., 38.),
                    (6., 27.),
                ]),
                self.clothes,
            );
        } else {
            pen.limb(&[(9.5, 34.), (18.3, 34.)], 5., self.trousers());
            pen.shape(soft(4.6, 15., 11., 21.5, 3.5), self.clothes);
        }
        if self.holds_up {
            self.raised_arm(pen);
        } else {
            self.arm(pen, &[(12.5, 18.5), (14., 26.), (18.5, 30.5)]);
        }
    }

    fn run(&self, pen: &mut Pen) {
        self.arm(pen, &[(11., 19.), (4.4, 23.5), self.pose.low_hand]);
        self.back_hair(pen);
        self.leg(pen, &[(9.4, 37.), (8., 46.), (2.2, 51.4)]);
        self.leg(pen, &[(10.6, 37.), (18., 43.), (19., 56.)]);
        self.neck(pen);
        if self.woman {
            pen.shape(
                blob(&[
                    (8., 15.5),
                    (13., 14.),
                    (18., 15.5),
                    (15.5, 27.),
                    (19., 40.),
                    (17., 46.),
                    (1.5, 42.5),
                    (5., 37.),
                    (8., 26.),
                ]),
                self.clothes,
            );
        } else {
            pen.limb(&[(10.3, 37.), (17., 42.3)], 5., self.trousers());
            pen.shape(
                blob(&[
                    (7.5, 15.),
                    (13., 14.),
                    (19., 15.),
                    (17., 28.),
                    (14.5, 39.5),
                    (10., 39.5),
                    (5., 38.),
                    (7., 28.),
                ]),
                self.clothes,
            );
        }
        if self.holds_up {
            self.raised_arm(pen);
        } else {
            self.arm(pen, &[(14., 19.), (17., 28.), (22., 24.)]);
        }
    }

    fn neck(&self, pen: &mut Pen) {
        let (x, y) = self.pose.head;
        pen.fill(
            block(x - 1.7, y + 3.6, 3.4, 5.),
            Ink::Flat(darker(self.skin, 0.12)),
        );
    }

    fn head(&self, pen: &mut Pen) {
        let (x, y) = self.pose.head;
        pen.shape(oval(x, y, 5.4, 5.9), self.skin);
        let hair = if self.woman {
            blob(&[
                (x - 6.6, y + 1.),
                (x - 6.6, y - 7.),
                (x + 6.6, y - 7.),
                (x + 6.6, y + 1.),
                (x + 4.5, y - 2.4),
                (x, y - 4.2),
                (x - 4.5, y - 2.4),
            ])
        } else {
            blob(&[
                (x - 6., y - 0.5),
                (x - 6.2, y - 7.),
                (x + 6.2, y - 7.),
                (x + 6., y - 0.5),
                (x + 4.6, y - 3.),
                (x - 4.6, y - 3.),
            ])
        };
        pen.fill(hair, Ink::Lit(self.hair));
        let ink = Ink::Flat([44, 34, 34]);
        pen.fill(disc(x - 1.6, y + 0.4, 0.75), ink);
        pen.fill(disc(x + 2.4, y + 0.4, 0.75), ink);
        let mouth = curve((x - 1.4, y + 3.), (x + 0.4, y + 4.2), (x + 2.2, y + 3.));
        pen.stroke(mouth.as_ref(), 0.7, Ink::Flat(darker(self.skin, 0.5)));
    }
}

fn hat(pen: &mut Pen, (x, y): (f32, f32), colour: Rgb) {
    let crown = blob(&[
        (x - 5.4, y - 2.),
        (x - 5.4, y - 9.5),
        (x, y - 10.2),
        (x + 5.4, y - 9.5),
        (x + 5.4, y - 2.),
    ]);
    pen.shape(crown, colour);
    pen.fill(
        block(x - 4.6, y - 5., 9.2, 1.5),
        Ink::Flat(outline_of(colour)),
    );
    pen.shape(soft(x - 9., y - 4., 18., 3., 1.5), colour);
}

fn glasses(pen: &mut Pen, (x, y): (f32, f32)) {
    let dark = [24, 24, 30];
    for (from, to) in [(-5.4, -4.4), (4.8, 5.6), (-0.4, 1.2)] {
        pen.line(&[(x + from, y + 0.2), (x + to, y + 0.2)], 1.2, dark);
    }
    for centre in [-2.3, 3.0] {
        let lens = disc(x + centre, y + 0.5, 2.2);
        pen.fill(lens.clone(), Ink::Flat([206, 226, 238]));
        pen.stroke(lens.as_ref(), 1.35, Ink::Flat(dark));
        pen.fill(disc(x + centre + 0.2, y + 0.5, 0.65), Ink::Flat(dark));
    }
}

fn umbrella(pen: &mut Pen, hand: (f32, f32), above: f32, colour: Rgb) {
    let top = (-13.5f32).max(1.6 - above);
    let middle = 12.;
    pen.line(
        &[(hand.0, hand.1 + 3.), (middle + 0.6, top + 2.)],
        1.5,
        [92, 88, 92],
    );
    pen.line(
        &[(middle, top - 0.6), (middle, top + 2.)],
        1.2,
        [92, 88, 92],
    );
    let (left, right, low) = (middle - 16.2, middle + 16.2, top + 11.5);
    let mut b = tiny_skia::PathBuilder::new();
    b.move_to(left, low);
    b.cubic_to(left + 1.5, top - 3.6, right - 1.5, top - 3.6, right, low);
    let step = (right - left) / 4.;
    for rib in 0..4 {
        let from = right - step * rib as f32;
        b.quad_to(from - step / 2., low - 3.4, from - step, low);
    }
    b.close();
    pen.shape(b.finish(), colour);
    let seam = outline_of(colour);
    for rib in 1..4 {
        let x = left + step * rib as f32;
        let path = curve(
            (middle, top),
            ((x + middle) / 2. + (x - middle) * 0.3, top + 3.),
            (x, low),
        );
        pen.stroke(path.as_ref(), 0.7, Ink::Flat(seam));
    }
}

fn bag(pen: &mut Pen, (x, y): (f32, f32), colour: Rgb) {
    let left = (x - 5.2).max(-2.4);
    let handle = open(&[
        (left + 2.6, y + 3.),
        (x - 0.6, y - 0.5),
        (x + 0.6, y - 0.5),
        (left + 8., y + 3.),
    ]);
    pen.stroke(handle.as_ref(), 1.3, Ink::Flat(outline_of(colour)));
    let body = polygon(&[
        (left + 0.8, y + 2.4),
        (left + 9.8, y + 2.4),
        (left + 10.6, y + 12.6),
        (left, y + 12.6),
    ]);
    pen.shape(body, colour);
    pen.fill(
        block(left + 0.8, y + 5., 9.2, 1.),
        Ink::Flat(darker(lighter(colour, 0.1), 0.35)),
    );
}
