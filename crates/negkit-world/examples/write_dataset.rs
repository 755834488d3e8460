//! Writes a dataset of drawn scenes in the published formats:
//! `cargo run -p negkit-world --example write_dataset -- FOLDER [SEED [TRAIN [VAL [SIDE]]]]`.

use std::path::PathBuf;

use negkit_world::datasets::{Counts, write_all};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("name the folder to write into")?);
    let mut number = |default: u64| -> Result<u64, std::num::ParseIntError> {
        arguments.next().map_or(Ok(default), |text| text.parse())
    };
    let (seed, train, val, side) = (number(0)?, number(200)?, number(50)?, number(256)?);
    let counts = Counts {
        train,
        val,
        tifa: 100,
    };
    let dataset = write_all(
        &folder,
        seed,
        counts,
        u32::try_from(side)?,
        &mut |progress| {
            println!(
                "{:>6} of {} {}",
                progress.done, progress.total, progress.what
            );
        },
    )?;
    println!("{} files in {}", dataset.files.len(), folder.display());
    Ok(())
}
