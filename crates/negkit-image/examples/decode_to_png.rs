//! Decodes pictures of any format as the models see them: upright 8-bit RGB, saved as PNG.
//!
//! `cargo run -p negkit-image --example decode_to_png -- FOLDER PICTURE…`

use std::error::Error;
use std::path::PathBuf;

use negkit_image::{Limits, open_rgb, write_png};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let folder = arguments
        .next()
        .ok_or("usage: decode_to_png FOLDER PICTURE…")?;
    std::fs::create_dir_all(&folder)?;
    for path in arguments {
        let picture = open_rgb(&path, &Limits::default())?;
        let name = path.with_extension("png");
        let name = name.file_name().ok_or("a picture without a file name")?;
        write_png(folder.join(name), &picture, &[])?;
    }
    Ok(())
}
