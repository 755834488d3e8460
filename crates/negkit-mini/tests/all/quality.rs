//! Models that learned nothing are measured as those that did: everything runs, a run that was
//! killed goes on where it stopped, and bars are missed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use negkit_mini::export::{ExportOptions, export};
use negkit_mini::quality::sheet::{SheetOptions, write_sheet};
use negkit_mini::quality::{
    HeldOut, JSON_FILE, PAGE_FILE, Painting, QualityOptions, Section, measure,
};
use negkit_mini::{MiniError, Workshop};
use serde_json::Value;

use crate::untrained::trained;

const PAINTING: Painting = Painting {
    scheduler: None,
    steps: 2,
    guidance: 3.,
    at_a_time: 32,
};

fn options(sections: &[Section]) -> QualityOptions {
    QualityOptions {
        sections: sections.to_vec(),
        encoders: vec!["stock".to_owned(), "negationclip".to_owned()],
        held_out: HeldOut::Test,
        fast: true,
        painting: PAINTING,
    }
}

fn exported(shop: &Workshop, weights: &Path) {
    let options = ExportOptions {
        quality: PathBuf::from("none"),
        pictures: false,
    };
    export(shop, weights, &options).unwrap();
}

fn json(out: &Path) -> Value {
    serde_json::from_slice(&fs::read(out.join(JSON_FILE)).unwrap()).unwrap()
}

/// When the file of every part was written.
fn parts(out: &Path) -> BTreeMap<String, SystemTime> {
    let entries = fs::read_dir(out.join(".parts")).unwrap();
    let times = entries.map(|entry| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        (name, entry.metadata().unwrap().modified().unwrap())
    });
    times.filter(|(name, _)| name != ".gitignore").collect()
}

#[test]
fn everything_is_measured_and_a_run_that_was_killed_goes_on() {
    let work = tempfile::tempdir().unwrap();
    let shop = trained(&work.path().join("run"));
    let (weights, out) = (work.path().join("mini"), work.path().join("results"));
    exported(&shop, &weights);
    let all = options(&Section::ALL);
    let quality = measure(&weights, &out, &all).unwrap();

    assert_eq!(quality.bars.len(), 8);
    let met: Vec<_> = quality.bars.iter().filter(|b| b.verdict.is_met()).collect();
    // Who knows nothing is blind to negation, too.
    assert!(met.iter().all(|bar| bar.what.contains("blind")), "{met:?}");
    let found = json(&out);
    assert_eq!(found["fast"], true);
    for model in [
        "clip",
        "negationclip",
        "negationclip-rand-p1",
        "conclip",
        "sd",
        "clipseg",
        "vqa",
        "detector",
    ] {
        assert!(found[model].is_object(), "{model}");
        assert!(found["weights"][model].is_object(), "{model}");
    }
    let recall = &found["clip"]["recall_at_5"];
    assert_eq!(recall["items"], 40);
    let mean = recall["mean"].as_f64().unwrap();
    let end = |i: usize| recall["interval"][i].as_f64().unwrap();
    assert!(end(0) <= mean && mean <= end(1), "{recall}");
    let (asked, through) = (&found["vqa"], &found["vqa"]["through_autoencoder"]);
    assert_eq!(through["accuracy"]["items"], asked["accuracy"]["items"]);
    let swapped = &found["negationclip"]["swapped_in"];
    assert!(swapped["neg_score"]["against_stock"]["mean"].is_number());
    assert!(swapped["miou"]["negated"]["against_stock"]["p_value"].is_number());
    assert!(found["clip"]["swapped_in"]["neg_score"]["against_stock"].is_null());
    assert!(
        found["conclip"]["swapped_in"].is_null(),
        "was not asked for"
    );
    assert_eq!(found["swap"]["prompts"].as_array().unwrap().len(), 4);
    let page = fs::read_to_string(out.join(PAGE_FILE)).unwrap();
    for part in [
        "A fast run",
        "| mini-sd |",
        "**fail**",
        "The paper's direction",
        "Through mini-sd's autoencoder",
    ] {
        assert!(page.contains(part), "{part:?} is not in\n{page}");
    }

    // Killed before the end: what was measured stays, and the rest comes out the same.
    let before = parts(&out);
    fs::remove_file(out.join(JSON_FILE)).unwrap();
    fs::remove_file(out.join(".parts/sd.fast.json")).unwrap();
    measure(&weights, &out, &all).unwrap();
    let after = parts(&out);
    for (name, time) in &before {
        assert_eq!(after[name] == *time, name != "sd.fast.json", "{name}");
    }
    let mut again = json(&out);
    again["seconds"] = found["seconds"].clone();
    assert_eq!(again, found);

    // Another mini-detector: its parts alone are measured again, and with one section the others
    // are still reported.
    let detector = weights.join("detector/config.json");
    let config = fs::read_to_string(&detector).unwrap();
    fs::write(
        &detector,
        config.replace("\"min_cells\": 2", "\"min_cells\": 1"),
    )
    .unwrap();
    fs::remove_file(weights.join("SHA256SUMS")).unwrap();
    measure(&weights, &out, &options(&[Section::Vqa])).unwrap();
    let last = parts(&out);
    let renewed: Vec<&str> = after
        .iter()
        .filter(|(name, time)| last[*name] != **time)
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(
        renewed,
        ["detector-scenes.fast.json", "vqa-painted.fast.json"]
    );
    assert_eq!(json(&out)["clip"], found["clip"]);

    // Without mini-detector, there is no agreement to report.
    fs::remove_dir_all(weights.join("detector")).unwrap();
    let error = measure(&weights, &out, &options(&[Section::Vqa])).unwrap_err();
    assert!(matches!(error, MiniError::NoModel { .. }), "{error}");
    let quality = measure(&weights, &out, &options(&[Section::Clip])).unwrap();
    let (vqa, detector) = quality.vqa.unwrap();
    assert!(vqa.agreement.is_none() && detector.is_none());
    assert_eq!(quality.bars.len(), 7);

    let sheet = work.path().join("new/sheet.png");
    let options = SheetOptions {
        prompts: vec!["a white cat".to_owned(), "a red ball".to_owned()],
        each: 3,
        encoder: "negationclip".to_owned(),
        painting: PAINTING,
        ..SheetOptions::default()
    };
    write_sheet(&weights, &options, &sheet).unwrap();
    let picture = image::open(&sheet).unwrap();
    assert!(picture.width() > 3 * 256 && picture.height() > 2 * 256);
    let unknown = SheetOptions {
        encoder: "bert".to_owned(),
        ..options
    };
    let error = write_sheet(&weights, &unknown, &sheet).unwrap_err();
    assert!(error.to_string().contains("negationclip-p1"), "{error}");
}
