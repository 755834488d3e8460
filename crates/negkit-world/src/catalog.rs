//! What there is in the world: places, kinds of objects, colours, states, and what is likely where.

use serde::{Deserialize, Serialize};

/// Defines a plain enumeration whose members have a name in captions and a place in a list of all.
macro_rules! named {
    ($(#[$meta:meta])* $type:ident { $($(#[$doc:meta])* $member:ident = $name:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $type { $($(#[$doc])* #[doc = concat!("\"", $name, "\"")] $member,)+ }

        impl $type {
            /// All members, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$member),+];

            /// The word for it in captions, in the singular.
            pub fn name(self) -> &'static str {
                match self { $(Self::$member => $name),+ }
            }

            /// The member of that name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|member| member.name() == name)
            }

            /// Its position in [`Self::ALL`].
            pub fn index(self) -> usize {
                self as usize
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

named! {
    /// Where a scene plays.
    Place {
        Room = "room",
        Kitchen = "kitchen",
        Bathroom = "bathroom",
        Bedroom = "bedroom",
        Office = "office",
        Street = "street",
        Park = "park",
        Beach = "beach",
        Garden = "garden",
        Farm = "farm",
        Forest = "forest",
        Harbor = "harbor",
    }
}

named! {
    /// Colour of a thing (for a person: of the clothes).
    Colour {
        Red = "red",
        Yellow = "yellow",
        Green = "green",
        Blue = "blue",
        Purple = "purple",
        White = "white",
        Black = "black",
        Brown = "brown",
    }
}

named! {
    /// What a person or an animal does, or the state that a vehicle is in.
    State {
        Standing = "standing",
        Sitting = "sitting",
        Running = "running",
        Flying = "flying",
        Perched = "perched",
        Parked = "parked",
        Moving = "moving",
    }
}

named! {
    /// Kind of an object.
    Kind {
        Man = "man",
        Woman = "woman",
        Dog = "dog",
        Cat = "cat",
        Bird = "bird",
        Horse = "horse",
        Cow = "cow",
        Sheep = "sheep",
        Car = "car",
        Bus = "bus",
        Truck = "truck",
        Bicycle = "bicycle",
        Boat = "boat",
        Chair = "chair",
        Table = "table",
        Sofa = "sofa",
        Bed = "bed",
        Lamp = "lamp",
        Plant = "plant",
        Television = "television",
        Bookcase = "bookcase",
        Fridge = "fridge",
        Oven = "oven",
        Sink = "sink",
        Toilet = "toilet",
        Bathtub = "bathtub",
        Mirror = "mirror",
        Window = "window",
        Clock = "clock",
        Painting = "painting",
        Tree = "tree",
        Bench = "bench",
        Flower = "flower",
        Ball = "ball",
        House = "house",
        Rock = "rock",
        Hydrant = "hydrant",
        Tent = "tent",
        Sun = "sun",
        Cloud = "cloud",
        Kite = "kite",
        Balloon = "balloon",
        Hat = "hat",
        Glasses = "glasses",
        Umbrella = "umbrella",
        Bag = "bag",
    }
}

/// Where things of a kind are found in a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Zone {
    /// They stand on the ground.
    Ground,
    /// They hang on a wall, indoors.
    Wall,
    /// They are in the sky, outdoors.
    Sky,
    /// A person wears or holds them.
    Person,
}

/// What is fixed about a kind.
#[derive(Debug, Clone, Copy)]
pub struct Traits {
    /// The word for several.
    pub plural: &'static str,
    /// Where it is found.
    pub zone: Zone,
    /// Width of a thing of normal size, as a share of the picture's side.
    pub width: f32,
    /// Height of a thing of normal size, as a share of the picture's side.
    pub height: f32,
    /// Colours that it comes in. Empty when its colour is its nature and never named (a tree).
    pub colours: &'static [Colour],
    /// States that it can be in. Empty when it has none.
    pub states: &'static [State],
}

const ANY: &[Colour] = Colour::ALL;
const FUR: &[Colour] = &[Colour::White, Colour::Black, Colour::Brown];
const CLOTHES: &[Colour] = &[
    Colour::Red,
    Colour::Yellow,
    Colour::Green,
    Colour::Blue,
    Colour::Purple,
    Colour::White,
    Colour::Black,
];
const PAINT: &[Colour] = CLOTHES;
const WHITEWARE: &[Colour] = &[Colour::White, Colour::Blue, Colour::Green, Colour::Black];
const PETALS: &[Colour] = &[
    Colour::Red,
    Colour::Yellow,
    Colour::Blue,
    Colour::Purple,
    Colour::White,
];
const NATURAL: &[Colour] = &[];
const STILL: &[State] = &[];
const PERSON: &[State] = &[State::Standing, State::Sitting, State::Running];
const PET: &[State] = &[State::Standing, State::Sitting, State::Running];
const GRAZER: &[State] = &[State::Standing, State::Running];
const BIRD: &[State] = &[State::Flying, State::Perched];
const VEHICLE: &[State] = &[State::Parked, State::Moving];

impl Kind {
    /// What is fixed about the kind.
    pub fn traits(self) -> Traits {
        use Zone::{Ground, Person, Sky, Wall};
        let (plural, zone, (width, height), colours, states) = match self {
            Self::Man => ("men", Ground, (0.24, 0.60), CLOTHES, PERSON),
            Self::Woman => ("women", Ground, (0.24, 0.58), CLOTHES, PERSON),
            Self::Dog => ("dogs", Ground, (0.28, 0.24), FUR, PET),
            Self::Cat => ("cats", Ground, (0.25, 0.23), FUR, PET),
            Self::Bird => ("birds", Ground, (0.24, 0.20), ANY, BIRD),
            Self::Horse => ("horses", Ground, (0.36, 0.36), FUR, GRAZER),
            Self::Cow => ("cows", Ground, (0.38, 0.30), FUR, GRAZER),
            Self::Sheep => (
                "sheep",
                Ground,
                (0.30, 0.25),
                &[Colour::White, Colour::Black][..],
                GRAZER,
            ),
            Self::Car => ("cars", Ground, (0.46, 0.23), PAINT, VEHICLE),
            Self::Bus => ("buses", Ground, (0.56, 0.34), PAINT, VEHICLE),
            Self::Truck => ("trucks", Ground, (0.54, 0.32), PAINT, VEHICLE),
            Self::Bicycle => ("bicycles", Ground, (0.36, 0.26), PAINT, VEHICLE),
            Self::Boat => ("boats", Ground, (0.44, 0.40), PAINT, VEHICLE),
            Self::Chair => ("chairs", Ground, (0.22, 0.34), ANY, STILL),
            Self::Table => ("tables", Ground, (0.40, 0.24), ANY, STILL),
            Self::Sofa => ("sofas", Ground, (0.48, 0.25), ANY, STILL),
            Self::Bed => ("beds", Ground, (0.54, 0.27), ANY, STILL),
            Self::Lamp => ("lamps", Ground, (0.18, 0.46), ANY, STILL),
            Self::Plant => ("plants", Ground, (0.22, 0.34), NATURAL, STILL),
            Self::Television => ("televisions", Ground, (0.34, 0.33), NATURAL, STILL),
            Self::Bookcase => ("bookcases", Ground, (0.32, 0.50), NATURAL, STILL),
            Self::Fridge => ("fridges", Ground, (0.26, 0.52), WHITEWARE, STILL),
            Self::Oven => ("ovens", Ground, (0.28, 0.32), WHITEWARE, STILL),
            Self::Sink => ("sinks", Ground, (0.26, 0.34), WHITEWARE, STILL),
            Self::Toilet => ("toilets", Ground, (0.22, 0.34), WHITEWARE, STILL),
            Self::Bathtub => ("bathtubs", Ground, (0.50, 0.24), WHITEWARE, STILL),
            Self::Mirror => ("mirrors", Wall, (0.22, 0.30), NATURAL, STILL),
            Self::Window => ("windows", Wall, (0.30, 0.30), NATURAL, STILL),
            Self::Clock => ("clocks", Wall, (0.20, 0.20), ANY, STILL),
            Self::Painting => ("paintings", Wall, (0.30, 0.24), NATURAL, STILL),
            Self::Tree => ("trees", Ground, (0.34, 0.58), NATURAL, STILL),
            Self::Bench => ("benches", Ground, (0.42, 0.24), ANY, STILL),
            Self::Flower => ("flowers", Ground, (0.18, 0.30), PETALS, STILL),
            Self::Ball => ("balls", Ground, (0.17, 0.17), ANY, STILL),
            Self::House => ("houses", Ground, (0.46, 0.50), ANY, STILL),
            Self::Rock => ("rocks", Ground, (0.28, 0.19), NATURAL, STILL),
            Self::Hydrant => (
                "hydrants",
                Ground,
                (0.16, 0.26),
                &[Colour::Red, Colour::Yellow, Colour::Blue][..],
                STILL,
            ),
            Self::Tent => ("tents", Ground, (0.44, 0.32), ANY, STILL),
            Self::Sun => ("suns", Sky, (0.20, 0.20), NATURAL, STILL),
            Self::Cloud => ("clouds", Sky, (0.34, 0.16), NATURAL, STILL),
            Self::Kite => ("kites", Sky, (0.22, 0.28), PETALS, STILL),
            Self::Balloon => ("balloons", Sky, (0.17, 0.30), ANY, STILL),
            Self::Hat => ("hats", Person, (0.20, 0.10), ANY, STILL),
            Self::Glasses => ("glasses", Person, (0.13, 0.05), NATURAL, STILL),
            Self::Umbrella => ("umbrellas", Person, (0.34, 0.40), ANY, STILL),
            Self::Bag => ("bags", Person, (0.11, 0.15), ANY, STILL),
        };
        Traits {
            plural,
            zone,
            width,
            height,
            colours,
            states,
        }
    }

    /// Whether it is a man or a woman.
    pub fn is_person(self) -> bool {
        matches!(self, Self::Man | Self::Woman)
    }

    /// Whether it is an animal.
    pub fn is_animal(self) -> bool {
        matches!(
            self,
            Self::Dog | Self::Cat | Self::Bird | Self::Horse | Self::Cow | Self::Sheep
        )
    }

    /// Whether it is a vehicle.
    pub fn is_vehicle(self) -> bool {
        matches!(
            self,
            Self::Car | Self::Bus | Self::Truck | Self::Bicycle | Self::Boat
        )
    }
}

impl Place {
    /// Whether it has walls.
    pub fn indoors(self) -> bool {
        matches!(
            self,
            Self::Room | Self::Kitchen | Self::Bathroom | Self::Bedroom | Self::Office
        )
    }

    /// The words before the place's name in a caption, without the article: "in", "on".
    pub fn preposition(self) -> &'static str {
        match self {
            Self::Street | Self::Beach | Self::Farm => "on",
            _ => "in",
        }
    }

    /// What is likely there, with weights.
    pub fn likely(self) -> &'static [(Kind, f32)] {
        use Kind::*;
        match self {
            Self::Room => &[
                (Chair, 3.),
                (Sofa, 3.),
                (Table, 3.),
                (Lamp, 2.),
                (Plant, 2.),
                (Television, 2.),
                (Bookcase, 2.),
                (Cat, 1.5),
                (Dog, 1.),
                (Man, 1.5),
                (Woman, 1.5),
                (Window, 4.),
                (Painting, 3.),
                (Clock, 2.),
            ],
            Self::Kitchen => &[
                (Fridge, 3.),
                (Oven, 3.),
                (Sink, 2.),
                (Table, 3.),
                (Chair, 3.),
                (Plant, 1.),
                (Cat, 1.),
                (Man, 1.5),
                (Woman, 1.5),
                (Window, 4.),
                (Clock, 3.),
            ],
            Self::Bathroom => &[
                (Toilet, 3.),
                (Sink, 3.),
                (Bathtub, 3.),
                (Plant, 1.5),
                (Cat, 1.),
                (Man, 0.7),
                (Woman, 0.7),
                (Mirror, 5.),
                (Window, 3.),
            ],
            Self::Bedroom => &[
                (Bed, 5.),
                (Lamp, 3.),
                (Chair, 2.),
                (Bookcase, 2.),
                (Plant, 1.),
                (Cat, 1.5),
                (Dog, 1.),
                (Man, 1.),
                (Woman, 1.),
                (Window, 3.),
                (Painting, 3.),
                (Mirror, 2.),
                (Clock, 1.),
            ],
            Self::Office => &[
                (Table, 3.),
                (Chair, 3.),
                (Bookcase, 3.),
                (Lamp, 2.),
                (Plant, 2.),
                (Television, 1.5),
                (Man, 2.),
                (Woman, 2.),
                (Clock, 4.),
                (Window, 3.),
                (Painting, 1.5),
            ],
            Self::Street => &[
                (Car, 4.),
                (Bus, 2.5),
                (Truck, 2.),
                (Bicycle, 2.5),
                (Hydrant, 2.),
                (House, 2.),
                (Man, 2.),
                (Woman, 2.),
                (Dog, 1.),
                (Tree, 1.),
                (Sun, 2.),
                (Cloud, 3.),
            ],
            Self::Park => &[
                (Tree, 3.),
                (Bench, 3.),
                (Dog, 2.5),
                (Bird, 2.),
                (Ball, 2.),
                (Bicycle, 1.5),
                (Flower, 1.5),
                (Man, 2.),
                (Woman, 2.),
                (Sun, 2.),
                (Cloud, 2.),
                (Kite, 3.),
                (Balloon, 2.),
            ],
            Self::Beach => &[
                (Boat, 2.5),
                (Ball, 3.),
                (Rock, 2.),
                (Tent, 1.5),
                (Chair, 2.),
                (Bird, 2.),
                (Dog, 2.),
                (Man, 2.5),
                (Woman, 2.5),
                (Sun, 4.),
                (Cloud, 2.),
                (Kite, 2.5),
            ],
            Self::Garden => &[
                (Flower, 4.),
                (Tree, 2.5),
                (Bench, 2.),
                (Chair, 1.5),
                (Table, 1.),
                (Cat, 2.),
                (Bird, 2.),
                (House, 1.5),
                (Man, 1.5),
                (Woman, 1.5),
                (Sun, 3.),
                (Cloud, 2.),
                (Balloon, 1.),
            ],
            Self::Farm => &[
                (Cow, 3.5),
                (Horse, 3.),
                (Sheep, 3.),
                (House, 2.5),
                (Truck, 2.),
                (Tree, 1.),
                (Dog, 1.),
                (Bird, 1.),
                (Man, 1.5),
                (Woman, 1.5),
                (Sun, 3.),
                (Cloud, 3.),
            ],
            Self::Forest => &[
                (Tree, 4.),
                (Rock, 3.),
                (Tent, 2.5),
                (Bird, 2.5),
                (Horse, 1.),
                (Dog, 1.),
                (Flower, 1.5),
                (Man, 1.5),
                (Woman, 1.5),
                (Sun, 2.),
                (Cloud, 2.),
            ],
            Self::Harbor => &[
                (Boat, 5.),
                (Bird, 2.5),
                (Truck, 1.5),
                (House, 1.5),
                (Bench, 1.5),
                (Bicycle, 1.),
                (Man, 2.),
                (Woman, 2.),
                (Sun, 2.),
                (Cloud, 3.),
                (Balloon, 1.),
            ],
        }
    }
}
