//! `negkit txt2img`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use image::RgbImage;
use negkit::image::{GenerationParameters, PARAMETERS_KEY, read_png_text};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::bench::{Bench, Ran, difference, fixture, picture, weights, write_npy};

/// Runs on the tiny pipeline, two steps and 24 x 16 pixels unless `arguments` say otherwise.
fn txt2img(bench: &Bench, prompts: &[&str], arguments: &str) -> Ran {
    txt2img_of(&weights("sd"), bench, prompts, arguments)
}

fn txt2img_of(model: &Path, bench: &Bench, prompts: &[&str], arguments: &str) -> Ran {
    let mut line = vec!["txt2img".to_owned(), "--offline".to_owned()];
    line.extend(prompts.iter().map(|prompt| (*prompt).to_owned()));
    line.extend(["--model".to_owned(), model.display().to_string()]);
    for (flag, value) in [("--steps", "2"), ("--width", "24"), ("--height", "16")] {
        if !arguments.contains(flag) {
            line.extend([flag.to_owned(), value.to_owned()]);
        }
    }
    line.extend(arguments.split_whitespace().map(str::to_owned));
    bench.run(line)
}

/// The pictures in `folder`, without the sheet and previews, by name.
fn pictures(folder: &Path) -> Vec<(String, RgbImage)> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".png") && name.contains("-seed"))
        .collect();
    names.sort();
    names
        .into_iter()
        .map(|name| (name.clone(), picture(&folder.join(name))))
        .collect()
}

/// The only picture of a run.
#[track_caller]
fn only_picture(bench: &Bench, out: &str) -> RgbImage {
    let mut all = pictures(&bench.path(out));
    assert_eq!(all.len(), 1);
    all.remove(0).1
}

#[track_caller]
fn assert_same_picture(a: &RgbImage, b: &RgbImage, what: &str) {
    let (largest, mean) = difference(a, b);
    assert!(largest <= 1, "{what}: {largest} of 255, mean {mean}");
}

fn spread(picture: &RgbImage) -> u8 {
    let samples = picture.as_raw();
    samples.iter().max().unwrap() - samples.iter().min().unwrap()
}

#[test]
fn a_picture_says_what_it_was_made_with() {
    let bench = Bench::new();
    let prompt = "a room, with \"no\" chairs: Ünïcödé";
    let arguments = "--seed 7 --guidance-scale 3.5 --scheduler euler --negative-prompt blurry \
                     --save-json --out out";
    let ran = txt2img(&bench, &[prompt], arguments).good();
    let out = bench.path("out");
    let all = pictures(&out);
    let [(name, made)] = &all[..] else {
        panic!("{} pictures", all.len());
    };
    assert_eq!(made.dimensions(), (24, 16));
    assert!(spread(made) > 10, "the picture is of one colour");
    assert_eq!(name, "000-a-room-with-no-chairs-ünïcödé-seed7-stock.png");
    assert!(ran.stdout.contains(name), "{}", ran.stdout);
    assert!(!out.join("sheet.png").exists(), "a sheet of one picture");

    let text = read_png_text(out.join(name)).unwrap();
    let text = text.iter().find(|(key, _)| key == PARAMETERS_KEY).unwrap();
    let read = GenerationParameters::parse(&text.1);
    assert_eq!(read.prompt, prompt);
    assert_eq!(read.negative_prompt, "blurry");
    assert_eq!(read.steps, Some(2));
    assert_eq!(read.seed, Some(7));
    assert_eq!(read.cfg_scale, Some(3.5));
    assert_eq!(read.size, Some((24, 16)));
    assert_eq!(read.sampler.as_deref(), Some("euler"));
    let encoder = ("Text encoder".to_owned(), "stock".to_owned());
    assert!(read.extra.contains(&encoder), "{:?}", read.extra);

    let record = fs::read(out.join(name).with_extension("json")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(record["prompt"], prompt);
    assert_eq!(record["seed"], 7);
    assert_eq!(record["truncated"], Value::Null);
    let hash = record["unet_sha256"].as_str().unwrap();
    assert_eq!(hash.len(), 64);
    assert!(hash.starts_with(read.model_hash.as_deref().unwrap()));
}

#[test]
fn prompts_seeds_and_encoders_stand_side_by_side() {
    let bench = Bench::new();
    // A text tower as wide as the pipeline's own, with another context length.
    let other = bench.copy_with_tokenizer("clipseg-rd64");
    let arguments = format!(
        "-e stock -e {} -e {} -n 2 --seed 3 --json --out out",
        other.display(),
        weights("sd").display()
    );
    let ran = txt2img(&bench, &["a cat", "no dog"], &arguments).good();
    let saved = ran.json();
    let records = saved["pictures"].as_array().unwrap();
    assert_eq!(records.len(), 12);
    assert_eq!(pictures(&bench.path("out")).len(), 12);
    let shown: Vec<_> = records[..4]
        .iter()
        .map(|r| (r["prompt"].as_str().unwrap(), r["seed"].as_u64().unwrap()))
        .collect();
    assert_eq!(
        shown,
        [("a cat", 3), ("a cat", 4), ("no dog", 3), ("no dog", 4)]
    );
    let made: Vec<RgbImage> = records
        .iter()
        .map(|r| picture(&bench.path(r["file"].as_str().unwrap())))
        .collect();
    for i in 0..4 {
        let (largest, _) = difference(&made[i], &made[i + 4]);
        assert!(largest > 1, "another encoder made the same picture");
        // The pipeline's folder as the encoder is the pipeline's own encoder.
        assert_eq!(made[i], made[i + 8]);
    }
    let different: BTreeSet<_> = made[..8].iter().map(|made| made.as_raw()).collect();
    assert_eq!(different.len(), 8);
    let sheet = picture(&bench.path(saved["sheet"].as_str().unwrap()));
    assert!(sheet.width() > 3 * 24 && sheet.height() > 4 * 16);
}

#[test]
fn encoders_with_like_names_do_not_overwrite_each_other() {
    let bench = Bench::new();
    let long = "a-folder-whose-name-is-longer-than-the-part-of-a-file-name-that-is-left-for-it";
    let one = bench.copy_with_tokenizer("clipseg-rd64");
    let paths = ["first", "second"].map(|name| format!("{name}/{long}"));
    for path in &paths {
        bench.copy(&one, path);
    }
    let arguments = format!("-e {} -e {} --out out", paths[0], paths[1]);
    txt2img(&bench, &["x"], &arguments).good();
    assert_eq!(pictures(&bench.path("out")).len(), 2);
}

#[test]
fn prompts_come_from_a_file_too() {
    let bench = Bench::new();
    fs::write(bench.path("prompts.txt"), "no dog\r\n\n  \na tree\n").unwrap();
    let ran = txt2img(&bench, &["a cat"], "--prompts-file prompts.txt --json").good();
    let saved = ran.json();
    let prompts = saved["pictures"].as_array().unwrap().iter();
    let prompts: Vec<_> = prompts.map(|r| r["prompt"].as_str().unwrap()).collect();
    assert_eq!(prompts, ["a cat", "no dog", "a tree"]);

    fs::write(bench.path("blank.txt"), "\n\n").unwrap();
    txt2img(&bench, &[], "--prompts-file blank.txt").refused(&["blank.txt holds no prompt"]);
    txt2img(&bench, &[], "--prompts-file none.txt").refused(&["none.txt"]);
    txt2img(&bench, &[], "").refused(&["PROMPT"]);
}

#[test]
fn the_same_seed_gives_the_same_file() {
    let bench = Bench::new();
    for (out, seed) in [("a", 1), ("b", 1), ("c", 2)] {
        txt2img(&bench, &["a cat"], &format!("--seed {seed} --out {out}")).good();
    }
    let name = "000-a-cat-seed1-stock.png";
    let read = |out: &str| fs::read(bench.path(out).join(name)).unwrap();
    assert_eq!(read("a"), read("b"));
    let (largest, _) = difference(&only_picture(&bench, "a"), &only_picture(&bench, "c"));
    assert!(largest > 1, "another seed made the same picture");
}

#[test]
fn a_picture_does_not_depend_on_its_batch() {
    let bench = Bench::new();
    for size in ["1", "2", "5"] {
        // A scheduler that draws noise at every step: each picture must have its own.
        let arguments = format!("-n 3 --batch-size {size} --scheduler euler-a --out {size}");
        txt2img(&bench, &["a cat"], &arguments).good();
    }
    let one = pictures(&bench.path("1"));
    assert_eq!(one.len(), 3);
    for size in ["2", "5"] {
        for ((_, one), (name, many)) in one.iter().zip(pictures(&bench.path(size))) {
            assert_same_picture(one, &many, &name);
        }
    }
}

#[test]
fn latents_go_in_and_out() {
    let bench = Bench::new();
    // diffusers' own noise for seeds 5 and 6, as a file, is what the seeds give.
    let case = fs::read(fixture("txt2img-batch").join("io.safetensors")).unwrap();
    let case = SafeTensors::deserialize(&case).unwrap();
    let noise = case.tensor("in.latents").unwrap();
    assert_eq!(noise.shape(), [2, 4, 2, 3]);
    write_npy(&bench.path("noise.npy"), "(2, 4, 2, 3)", noise.data());
    let prompts = ["a cat"];
    let arguments = "-n 2 --seed 5 --save-latents seeds.npy --out seeds";
    txt2img(&bench, &prompts, arguments).good();
    let arguments = "-n 2 --seed 99 --latents noise.npy --save-latents file.npy --out file";
    txt2img(&bench, &prompts, arguments).good();
    let pairs = pictures(&bench.path("seeds"))
        .into_iter()
        .zip(pictures(&bench.path("file")));
    for ((name, seed), (_, file)) in pairs {
        assert_same_picture(&seed, &file, &name);
    }

    // What was written can be read: from the same latents, the same picture.
    for (out, seed) in [("again", 1), ("again-2", 2)] {
        let arguments = format!("-n 2 --seed {seed} --latents seeds.npy --out {out}");
        txt2img(&bench, &prompts, &arguments).good();
    }
    let (a, b) = (bench.path("again"), bench.path("again-2"));
    for ((_, a), (_, b)) in pictures(&a).into_iter().zip(pictures(&b)) {
        assert_eq!(a, b);
    }
    assert_eq!(latents_header(&bench.path("seeds.npy")), "(2,4,2,3,)");
    assert!(!bench.path("seeds.npy.partial").exists());

    txt2img(&bench, &prompts, "--latents seeds.npy").refused(&["[2, 4, 2, 3]", "[1, 4, 2, 3]"]);
    txt2img(&bench, &prompts, "-e stock -e stock --save-latents x.npy")
        .refused(&["one text encoder, 2"]);
}

fn latents_header(path: &PathBuf) -> String {
    let bytes = fs::read(path).unwrap();
    let text = String::from_utf8_lossy(&bytes[..128]).into_owned();
    let (_, shape) = text.split_once("'shape': ").unwrap();
    format!("{})", shape.split_once(')').unwrap().0)
}

#[test]
fn broken_latents_are_errors() {
    let bench = Bench::new();
    let latents = |name: &str, part: &str| {
        txt2img(&bench, &["x"], &format!("--latents {name}")).refused(&[name, part]);
    };
    latents("missing.npy", "No such file");
    for (name, bytes) in [
        ("garbage.npy", &b"hello, this is not it"[..]),
        ("empty.npy", b""),
    ] {
        fs::write(bench.path(name), bytes).unwrap();
        latents(name, "cannot be read as a NumPy array of floats");
    }
    // More than any machine has, and more than a number holds.
    for shape in [
        "(1152921504606846976,)",
        "(4294967296, 4294967296, 4294967296)",
    ] {
        write_npy(&bench.path("huge.npy"), shape, &[]);
        latents("huge.npy", "huge.npy");
    }
    write_npy(&bench.path("short.npy"), "(1, 4, 2, 3)", &[0; 7]);
    latents("short.npy", "96 bytes, and there are 7");
    write_npy(&bench.path("long.npy"), "(1, 4, 2, 3)", &[0; 97]);
    latents("long.npy", "there are more");
    // NaN must not become a black picture.
    write_npy(&bench.path("nan.npy"), "(1, 4, 2, 3)", &[0xff; 96]);
    txt2img(&bench, &["x"], "--latents nan.npy --out nan").refused(&["not finite", "seed 0"]);
    assert!(!bench.path("nan").exists(), "a picture of NaN was saved");
}

#[test]
fn previews_are_of_every_picture() {
    let bench = Bench::new();
    let arguments = "--steps 4 --scheduler ddim --preview-every 2 -n 3 --batch-size 2 --out out";
    txt2img(&bench, &["a cat"], arguments).good();
    for (index, (_, made)) in pictures(&bench.path("out")).iter().enumerate() {
        let preview = |step: usize| {
            let name = format!("preview-{index:03}-encoder0-step{step:03}.png");
            picture(&bench.path("out").join(name))
        };
        assert_eq!(preview(2).dimensions(), (24, 16));
        // After the last step the preview is the picture.
        assert_same_picture(&preview(4), made, "the last preview");
    }
    let previews = fs::read_dir(bench.path("out")).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with("preview")
    });
    assert_eq!(previews.count(), 6);
}

#[test]
fn every_scheduler_makes_a_picture_of_its_own() {
    let bench = Bench::new();
    let names = [
        "pndm",
        "ddim",
        "euler",
        "euler-a",
        "dpm++2m",
        "dpm++2m-karras",
        "unipc",
    ];
    let mut seen = BTreeSet::new();
    for name in names {
        let arguments = format!("--steps 5 --scheduler {name} --json --out {name}");
        let ran = txt2img(&bench, &["a cat"], &arguments).good();
        assert_eq!(ran.json()["pictures"][0]["scheduler"], name);
        seen.insert(only_picture(&bench, name).into_raw());
    }
    assert_eq!(seen.len(), names.len());
    // Every name is in the help, and the model's own is PNDM.
    let help = bench.run(["txt2img", "--help"]).good().stdout;
    for name in names {
        assert!(help.contains(name), "{name} is not in the help");
    }
    txt2img(&bench, &["a cat"], "--steps 5 --out own").good();
    assert_eq!(only_picture(&bench, "own"), only_picture(&bench, "pndm"));
    txt2img(&bench, &["x"], "--scheduler heun").refused(&["heun", "dpm++2m-karras"]);
}

#[test]
fn requests_that_contradict_themselves_are_refused() {
    let bench = Bench::new();
    for (arguments, parts) in [
        ("--width 20", &["20 x 16", "multiples of 8"][..]),
        ("--height 0", &["24 x 0", "multiples of 8"]),
        ("--width 18446744073709551608", &["too many elements"]),
        ("--steps 0", &["0 steps", "1 to 1000"]),
        ("--steps 1001", &["1001 steps", "1 to 1000"]),
        ("--batch-size 0", &["batch size 0"]),
        ("-n 0", &["no picture to make"]),
        ("--guidance-scale nan", &["guidance scale NaN", "finite"]),
        ("--guidance-scale inf", &["guidance scale inf", "finite"]),
        ("--seed=-1", &["--seed"]),
        ("--dtype f8", &["f8", "bf16"]),
        ("--device tpu", &["tpu", "cuda"]),
        ("-e nowhere.pth", &["nowhere.pth"]),
    ] {
        txt2img(&bench, &["x"], &format!("{arguments} --out out")).refused(parts);
        assert!(!bench.path("out").exists(), "{arguments} left a folder");
    }
}

#[test]
#[cfg(not(feature = "cuda"))]
fn cuda_in_a_cpu_build_is_a_clear_error() {
    let bench = Bench::new();
    for device in ["cuda", "cuda:3"] {
        let arguments = format!("--device {device} --out out");
        txt2img(&bench, &["x"], &arguments).refused(&[device, "--features cuda", "--device cpu"]);
    }
    txt2img(&bench, &["x"], "--device cpu").good();
}

#[test]
fn a_prompt_that_is_too_long_is_cut_with_a_warning() {
    let bench = Bench::new();
    // The tiny vocabulary spells every word out, so 75 tokens are soon full.
    let prompt = format!("{} the end", "elephant ".repeat(40));
    let ran = txt2img(&bench, &[&prompt], "--out out --save-json").good();
    assert!(ran.stderr.contains("too long"), "{}", ran.stderr);
    assert!(ran.stderr.contains("the end"), "{}", ran.stderr);
    let json = fs::read_dir(bench.path("out")).unwrap().find_map(|entry| {
        let path = entry.unwrap().path();
        path.extension()
            .is_some_and(|e| e == "json")
            .then_some(path)
    });
    let record: Value = serde_json::from_slice(&fs::read(json.unwrap()).unwrap()).unwrap();
    assert!(record["truncated"].as_str().unwrap().ends_with("the end"));
    assert_eq!(record["prompt"], prompt);

    let ran = txt2img(&bench, &["short"], "--out out").good();
    assert!(!ran.stderr.contains("too long"), "{}", ran.stderr);
}

#[test]
fn an_encoder_of_another_width_is_refused_with_both_numbers() {
    let bench = Bench::new();
    let other = bench.copy_with_tokenizer("clip-hf");
    // Nothing is made before every encoder is known to fit.
    let arguments = format!("-e stock -e {} --out out", other.display());
    txt2img(&bench, &["x"], &arguments).refused(&[
        "does not fit the Stable Diffusion UNet",
        "hidden size is 24",
        "cross_attention_dim is 16",
    ]);
    assert!(!bench.path("out").exists());
}

#[test]
fn half_precision_gives_nearly_the_same_picture() {
    let bench = Bench::new();
    for dtype in ["f32", "f16", "bf16"] {
        let arguments = format!("--dtype {dtype} --steps 4 --out {dtype}");
        txt2img(&bench, &["a cat"], &arguments).good();
    }
    let exact = only_picture(&bench, "f32");
    // f16 has 11 bits of significand and bf16 8, and guidance multiplies an error by 7.5.
    for (dtype, tolerance) in [("f16", 1.), ("bf16", 6.)] {
        let (largest, mean) = difference(&exact, &only_picture(&bench, dtype));
        println!("{dtype}: mean {mean:.3} of 255, largest {largest}");
        assert!(mean <= tolerance, "{dtype}: mean {mean} of 255");
    }
}

#[test]
fn small_memory_costs_no_pictures() {
    let bench = Bench::new();
    let size = "--width 128 --height 96 --steps 1";
    let options = ["", "--attention-memory 0", "--vae-tiling"];
    for (out, option) in ["all", "attention", "tiling"].iter().zip(options) {
        txt2img(&bench, &["a cat"], &format!("{size} {option} --out {out}")).good();
    }
    let all = only_picture(&bench, "all");
    assert_same_picture(&all, &only_picture(&bench, "attention"), "attention");
    // Group norms see a tile and not the whole, so a tiled picture is a little different.
    let (_, mean) = difference(&all, &only_picture(&bench, "tiling"));
    println!("tiling: mean {mean:.3} of 255");
    assert!(mean > 0., "tiling did nothing");
    assert!(mean < 16., "tiling: mean {mean} of 255");
    // Beyond what a number holds.
    let most = format!("--attention-memory {}", u64::MAX);
    txt2img(&bench, &["a cat"], &most).good();
}

#[test]
fn a_single_file_gives_the_pictures_of_the_folder() {
    let bench = Bench::new();
    txt2img(&bench, &["a cat"], "--out folder").good();
    let folder = only_picture(&bench, "folder");
    let config = format!("--config {}", weights("sd").display());
    for name in ["sd.safetensors", "sd.ckpt"] {
        let file = weights("sd-single-file").join(name);
        let arguments = format!("{config} --out {name}");
        txt2img_of(&file, &bench, &["a cat"], &arguments).good();
        assert_same_picture(&folder, &only_picture(&bench, name), name);
    }
}

#[test]
fn what_is_no_pipeline_is_refused() {
    let bench = Bench::new();
    let model = |path: &Path, parts: &[&str]| txt2img_of(path, &bench, &["x"], "").refused(parts);
    model(&weights("clip-hf"), &["clip-hf", "model_index.json"]);
    model(
        &weights("openai/bare.pth"),
        &["no Stable Diffusion model", "OpenAI CLIP"],
    );
    model(&bench.path("nowhere"), &["nowhere"]);
    // A known name that is not here: which files go where.
    let error = model(Path::new("sd-1.4"), &["sd-1.4", "not on this machine"]);
    assert!(error.contains("unet/diffusion_pytorch_model.safetensors"));
}
