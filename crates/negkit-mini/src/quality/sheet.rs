//! Pictures by mini-sd, for people to look at.

use std::fs;
use std::path::Path;

use negkit_image::{Panel, Sheet, write_png};

use super::painter::{Painting, paint, request};
use super::tree::{STOCK, Tree};
use crate::MiniError;

/// What is painted when nothing else is asked for.
pub const PROMPTS: [&str; 8] = [
    "a room with a blue sofa",
    "a kitchen with a white fridge",
    "a street with a yellow bus",
    "a park with a green bench",
    "a white cat in a garden",
    "a black dog running on a beach",
    "a man with a red hat",
    "a boat in a harbor",
];

/// What is painted, and how.
#[derive(Debug, Clone)]
pub struct SheetOptions {
    /// A row each.
    pub prompts: Vec<String>,
    /// Pictures of each.
    pub each: usize,
    /// Seed of the first one's noise; the same for all rows.
    pub seed: u64,
    /// The text encoder: [`STOCK`], or one of [`encoder_names`](super::encoder_names).
    pub encoder: String,
    /// How it is painted.
    pub painting: Painting,
}

impl Default for SheetOptions {
    fn default() -> Self {
        Self {
            prompts: PROMPTS.map(str::to_owned).to_vec(),
            each: 4,
            seed: 0,
            encoder: STOCK.to_owned(),
            painting: Painting::default(),
        }
    }
}

/// Paints prompts with mini-sd of the folder `weights`: a row a prompt, a column a seed. None is
/// chosen.
///
/// # Errors
/// When a model is missing, the encoder is not known, or nothing is asked for.
pub fn paint_sheet(weights: &Path, options: &SheetOptions) -> Result<Sheet, MiniError> {
    let tree = Tree::open(weights)?;
    super::tree::check_names(std::slice::from_ref(&options.encoder))?;
    let model = tree.sd(&options.encoder)?;
    let seeds = || (options.seed..).take(options.each);
    let requests: Vec<_> = options
        .prompts
        .iter()
        .flat_map(|prompt| seeds().map(move |seed| request(prompt, seed)))
        .collect();
    let mut pictures = paint(&model, &requests, &options.painting)?.into_iter();
    let rows = options.prompts.iter().fold(Sheet::new(), |sheet, prompt| {
        let panels = seeds().zip(pictures.by_ref()).map(|(seed, image)| Panel {
            image,
            caption: format!("seed {seed}"),
        });
        sheet.row_with_heading(prompt, panels.collect())
    });
    Ok(rows)
}

/// Paints as [`paint_sheet`] does and writes the sheet as a PNG, its folder too.
///
/// # Errors
/// As there, and when the file cannot be written.
pub fn write_sheet(weights: &Path, options: &SheetOptions, path: &Path) -> Result<(), MiniError> {
    let sheet = paint_sheet(weights, options)?.render()?;
    if let Some(folder) = path.parent().filter(|folder| *folder != Path::new("")) {
        fs::create_dir_all(folder).map_err(MiniError::io(folder, "create"))?;
    }
    Ok(write_png(path, &sheet, &[])?)
}
