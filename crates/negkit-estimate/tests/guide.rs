//! The tables of docs/negationclip.md are what `negkit estimate` prints.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use negkit_estimate::{Estimate, Inputs, Models};

#[test]
fn the_guide_shows_the_estimate_of_today() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/negationclip.md");
    let guide = std::fs::read_to_string(path).unwrap();
    let models = Models::of_paper("ViT-B/32").unwrap();
    let estimate = Estimate::new(&Inputs::default(), &models).to_string();
    for table in estimate.split("\n\n") {
        assert!(
            guide.contains(table.trim_end()),
            "docs/negationclip.md lacks this table of `negkit estimate`:\n{table}"
        );
    }
}
