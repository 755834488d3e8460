//! What is done when no model is named: the small ones of `weights/mini` are taken.

use image::RgbImage;

use crate::bench::{Bench, picture, weights, write_tokenizer};

#[test]
fn the_small_pipeline_paints_with_its_own_settings() {
    let bench = Bench::new();
    bench.copy(&weights("sd"), "weights/mini/sd");
    bench.copy(&weights("clipseg-rd64"), "weights/mini/negationclip");
    write_tokenizer(&bench.path("weights/mini/negationclip"));
    let line = "txt2img x --offline -e stock -e negationclip --save-json --json --out out";
    let saved = bench.run_line(line, &[]).good().json();
    let records = saved["pictures"].as_array().unwrap();
    assert_eq!(records.len(), 2);
    for (record, encoder) in records.iter().zip(["stock", "negationclip"]) {
        assert_eq!(record["model"], "mini-sd");
        assert_eq!(record["text_encoder"], encoder);
        assert_eq!(record["steps"], 20);
        assert_eq!(record["guidance_scale"], negkit::mini::GUIDANCE_SCALE);
        // Latents of 8 x 8, and eight pixels each.
        let made = picture(&bench.path(record["file"].as_str().unwrap()));
        assert_eq!(made.dimensions(), (64, 64));
    }
    assert_ne!(
        records[0]["text_encoder_sha256"],
        records[1]["text_encoder_sha256"]
    );

    // Flags still decide, and the folder can be elsewhere.
    std::fs::rename(bench.path("weights"), bench.path("elsewhere")).unwrap();
    let line = "txt2img x --offline --weights elsewhere --steps 2 --guidance-scale 1 --width 16 \
                --height 24 --json --out out";
    let saved = bench.run_line(line, &[]).good().json();
    let record = &saved["pictures"][0];
    assert_eq!(record["steps"], 2);
    assert_eq!(record["guidance_scale"], 1.);
    assert_eq!(
        (&record["width"], &record["height"]),
        (&16.into(), &24.into())
    );

    // A model that is named has the settings that such models usually have.
    let line = "txt2img x --offline --json --out out --model";
    let named = bench.path("elsewhere/mini/sd");
    let saved = bench.run_line(line, &[named.as_os_str()]).good().json();
    assert_eq!(saved["pictures"][0]["steps"], 50);
    assert_eq!(saved["pictures"][0]["guidance_scale"], 7.5);
    assert_eq!(saved["pictures"][0]["width"], 64);
}

#[test]
fn the_small_clipseg_marks() {
    let bench = Bench::new();
    for folder in ["weights/mini/clipseg", "weights/mini/conclip"] {
        bench.copy(&weights("clipseg-rd64"), folder);
        write_tokenizer(&bench.path(folder));
    }
    RgbImage::new(40, 40).save(bench.path("photo.png")).unwrap();
    let line = "segment photo.png -p dog -e stock -e conclip --offline --json --out out";
    let saved = bench.run_line(line, &[]).good().json();
    let records = saved["segmentations"].as_array().unwrap();
    assert_eq!(records.len(), 2);
    // The same weights.
    assert_eq!(records[0]["segmentation"], records[1]["segmentation"]);

    bench
        .run_line("segment photo.png -p dog -e negationclip --offline", &[])
        .refused(&[
            "'negationclip' is not here",
            "weights/mini/negationclip",
            "clipseg, conclip",
        ]);
}

#[test]
fn without_small_models_the_error_says_where_they_belong() {
    let bench = Bench::new();
    let expected = [
        "no model is named",
        "weights/mini",
        "eval/mini/train.sh",
        "sd-1.4",
    ];
    bench
        .run_line("txt2img x --offline", &[])
        .refused(&expected);
    RgbImage::new(40, 40).save(bench.path("photo.png")).unwrap();
    bench
        .run_line("segment photo.png -p dog --offline", &[])
        .refused(&expected);
    std::fs::create_dir_all(bench.path("weights/mini/sd")).unwrap();
    bench
        .run_line("txt2img x --offline", &[])
        .refused(&["small model 'sd' is not here", "weights/mini/sd"]);
}
