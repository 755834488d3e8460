//! `negkit encoders`, `negkit download` and `negkit parity`.

use std::fs;
use std::path::Path;

use crate::bench::{Bench, Ran, edit_safetensors, fixture, weights, write_tokenizer};

fn inspect(bench: &Bench, path: &Path, arguments: &str) -> Ran {
    let line = format!("encoders inspect --offline {arguments}");
    bench.run_line(&line, &[path.as_os_str()])
}

#[test]
fn every_naming_is_inspected() {
    let bench = Bench::new();
    // Path, format, naming, hidden size, projection; layers and sizes are those in the fixtures'
    // configurations, which the state dicts in OpenAI's naming do not have.
    for (name, format, naming, hidden_size, projection) in [
        ("clip-hf", "safetensors", "transformers CLIP", 24, Some(20)),
        (
            "clip-hf-bin",
            "PyTorch archive",
            "transformers CLIP",
            24,
            Some(20),
        ),
        (
            "clip-hf-sharded",
            "sharded safetensors",
            "transformers CLIP",
            24,
            Some(20),
        ),
        (
            "clip-text-prefix",
            "safetensors",
            "transformers CLIP",
            20,
            None,
        ),
        (
            "clip-text-no-prefix",
            "safetensors",
            "transformers CLIP",
            20,
            None,
        ),
        (
            "clip-text-projection",
            "safetensors",
            "transformers CLIP",
            20,
            Some(20),
        ),
        (
            "clipseg-rd64",
            "safetensors",
            "transformers CLIPSeg",
            16,
            Some(12),
        ),
        (
            "openai/bare.pth",
            "PyTorch archive",
            "OpenAI CLIP",
            64,
            Some(20),
        ),
        (
            "openai/trainer-f16.pt",
            "PyTorch archive",
            "OpenAI CLIP",
            64,
            Some(20),
        ),
        (
            "openai/torchscript-f16.pt",
            "TorchScript archive",
            "OpenAI CLIP",
            64,
            Some(20),
        ),
        (
            "open-clip-quick",
            "safetensors",
            "OpenAI CLIP",
            28,
            Some(20),
        ),
        ("sd", "safetensors", "transformers CLIP", 16, None),
        (
            "sd-single-file/sd.ckpt",
            "PyTorch archive",
            "CompVis",
            16,
            None,
        ),
        (
            "sd-single-file/sd.safetensors",
            "safetensors",
            "CompVis",
            16,
            None,
        ),
    ] {
        let path = weights(name);
        let json = inspect(&bench, &path, "--json").good().json();
        assert_eq!(json["format"], format, "{name}");
        assert_eq!(json["naming"], naming, "{name}");
        let tower = &json["text_tower"];
        assert_eq!(tower["hidden_size"], hidden_size, "{name}");
        assert_eq!(tower["projection_dim"].as_u64(), projection, "{name}");
        let vocabulary = if hidden_size == 16 && projection.is_none() {
            560
        } else {
            67
        };
        assert_eq!(tower["vocab_size"], vocabulary, "{name}");
        let tensors = json["tensors"].as_array().unwrap();
        let elements: u64 = tensors
            .iter()
            .map(|t| {
                let sides = t["shape"].as_array().unwrap().iter();
                sides.map(|side| side.as_u64().unwrap()).product::<u64>()
            })
            .sum();
        assert_eq!(json["elements"], elements, "{name}");
        assert_eq!(json["sha256"].as_str().unwrap().len(), 64, "{name}");

        let text = inspect(&bench, &path, "").good().stdout;
        for part in [naming, &format!("hidden size {hidden_size}")] {
            assert!(text.contains(part), "{name}: {part} is not in {text}");
        }
        let listed = inspect(&bench, &path, "--tensors").good().stdout;
        assert_eq!(listed.lines().count(), text.lines().count() + tensors.len());
    }
}

#[test]
fn what_has_no_text_tower_is_inspected_too() {
    let bench = Bench::new();
    let decoder = weights("clipseg-original/rd64-uni.pth");
    let json = inspect(&bench, &decoder, "--json").good().json();
    assert_eq!(json["naming"], "original CLIPSeg");
    assert!(json["text_tower"].is_null());
    let why = json["text_tower_error"].as_str().unwrap();
    assert!(why.contains("no CLIP text tower"), "{why}");
}

#[test]
fn what_is_no_weight_file_is_refused() {
    let bench = Bench::new();
    fs::write(bench.path("notes.txt"), "hello").unwrap();
    fs::write(bench.path("empty.pth"), "").unwrap();
    fs::create_dir(bench.path("folder")).unwrap();
    for (name, parts) in [
        (
            "notes.txt",
            &["notes.txt is no weight file", "safetensors"][..],
        ),
        ("empty.pth", &["empty.pth is no weight file"]),
        ("folder", &["no weights in", "model.safetensors"]),
        ("nowhere.pth", &["nowhere.pth"]),
    ] {
        inspect(&bench, &bench.path(name), "").refused(parts);
    }
    // A name that is known, and one that is not.
    bench
        .run_line("encoders inspect negationclip --offline", &[])
        .refused(&["negationclip", "not on"]);
    bench
        .run_line("encoders inspect clipp --offline", &[])
        .refused(&["clipp"]);
}

#[test]
fn known_models_are_listed() {
    let bench = Bench::new();
    let json = bench
        .run_line("encoders list --json --offline", &[])
        .good()
        .json();
    let rows = json.as_array().unwrap();
    let text = bench.run_line("encoders list --offline", &[]).good().stdout;
    for name in [
        "stock",
        "negationclip",
        "con-clip",
        "sd-1.4",
        "sd-1.5",
        "clipseg-rd64",
        "clipseg-rd64-refined",
    ] {
        assert!(rows.iter().any(|row| row["name"] == name), "{name}");
        assert!(text.contains(name), "{name}");
    }
    assert!(rows.iter().all(|row| row["local"].is_null()));

    // What lies in the folder of weights is found.
    bench.copy(&weights("sd"), "models/sd-1.4");
    let line = "encoders list --json --offline --weights models";
    let json = bench.run_line(line, &[]).good().json();
    let rows = json.as_array().unwrap().iter();
    let here: Vec<_> = rows.filter(|row| !row["local"].is_null()).collect();
    assert!(here.iter().any(|row| row["name"] == "sd-1.4"), "{here:?}");
}

#[test]
fn encoders_are_compared() {
    let bench = Bench::new();
    let a = bench.copy_with_tokenizer("clip-hf");
    let b = bench.copy_with_tokenizer("clip-hf-bin");
    let changed = bench.copy(&a, "changed");
    edit_safetensors(&changed.join("model.safetensors"), |tensors| {
        // Other positions: the prompts look another way.
        let name = "text_model.embeddings.position_embedding.weight";
        let positions = tensors.get_mut(name).unwrap();
        positions.bytes.rotate_left(64);
    });
    let compare = |a: &Path, b: &Path, arguments: &str| {
        let line = format!("encoders compare --offline {arguments}");
        bench.run_line(&line, &[a.as_os_str(), b.as_os_str()])
    };
    // The same weights in two formats, then other ones.
    let same = compare(&a, &b, "--json -p cat -p dog").good().json();
    let other = compare(&a, &changed, "--json --prompt cat -p dog -p x")
        .good()
        .json();
    assert_eq!(same["prompts"].as_array().unwrap().len(), 2);
    assert_eq!(other["prompts"].as_array().unwrap().len(), 3);
    assert_eq!(other["pairs"].as_array().unwrap().len(), 3);
    for key in ["pooled", "projected", "hidden_states"] {
        for row in same["prompts"].as_array().unwrap() {
            let cosine = row[key].as_f64().unwrap();
            assert!((cosine - 1.).abs() < 1e-5, "{key}: {cosine}");
        }
        for row in other["prompts"].as_array().unwrap() {
            let cosine = row[key].as_f64().unwrap();
            assert!(cosine < 0.999, "{key}: {cosine}");
        }
    }
    let pair = &same["pairs"][0];
    let (in_a, in_b) = (pair["a"].as_f64().unwrap(), pair["b"].as_f64().unwrap());
    assert!((in_a - in_b).abs() < 1e-5 && in_a < 0.99999, "{pair}");
    let text = compare(&a, &changed, "-p cat -p dog").good().stdout;
    assert!(text.contains("cat | dog"), "{text}");

    // In OpenAI's naming, with a tokenizer beside the file.
    let openai = bench.copy(&weights("openai"), "openai");
    write_tokenizer(&openai);
    let files = ["bare.pth", "trainer-f16.pt", "torchscript-f16.pt"].map(|f| openai.join(f));
    let half = compare(&files[1], &files[2], "--json").good().json();
    assert!(half["prompts"][0]["projected"].as_f64().is_some());
    compare(&files[0], &a, "").refused(&["64", "24"]);
    compare(&weights("clip-hf"), &a, "").refused(&["brings no tokenizer", "67"]);
}

#[test]
fn a_download_without_a_network_says_which_files_go_where() {
    let bench = Bench::new();
    for (model, files) in [
        (
            "sd-1.4",
            &["unet/config.json", "vae/config.json", "merges.txt"][..],
        ),
        ("clipseg-rd64-refined", &["config.json"]),
        ("clipseg-rd64", &["config.json"]),
    ] {
        let ran = bench.run_line(&format!("download {model} --offline"), &[]);
        let error = ran.refused(&[model, "huggingface.co", "weights/"]);
        for file in files {
            assert!(error.contains(file), "{file} is not in {error}");
        }
    }
    bench
        .run_line("download someone/model --offline", &[])
        .refused(&["--for"]);
    bench
        .run_line("download sd-1.4 --size huge --offline", &[])
        .refused(&["huge", "ViT-L/14"]);
    bench
        .run_line("download --offline", &[])
        .refused(&["MODEL"]);
}

#[test]
fn parity_ends_with_0_only_when_every_output_is_within_its_bound() {
    let bench = Bench::new();
    let parity = |folder: &Path, arguments: &str| {
        bench.run_line(&format!("parity {arguments}"), &[folder.as_os_str()])
    };
    let cases = fixture("");
    let ran = parity(&cases, "--only clip-text --only unet-linear").good();
    assert!(
        ran.stdout.contains("cases within their bounds"),
        "{}",
        ran.stdout
    );
    assert!(!ran.stdout.contains("FAIL"), "{}", ran.stdout);
    let json = parity(&cases, "--only clipseg --json").good().json();
    assert!(json["cases"].as_array().unwrap().len() >= 3);
    assert_eq!(json["not_run"].as_array().unwrap().len(), 0);
    parity(&cases, "--only txt2img-euler --pictures pictures").good();
    assert!(bench.path("pictures/txt2img-euler.png").is_file());

    // One number of the reference a little off.
    let name = "clip-text-projection";
    let case = bench.copy(&fixture(name), &format!("cases/{name}"));
    bench.copy(&weights(name), &format!("cases/weights/{name}"));
    parity(&bench.path("cases"), "").good();
    edit_safetensors(&case.join("io.safetensors"), |tensors| {
        let output = tensors.get_mut("out.text_embeds").unwrap();
        let first: [u8; 4] = output.bytes[..4].try_into().unwrap();
        let off = f32::from_le_bytes(first) + 0.01;
        output.bytes[..4].copy_from_slice(&off.to_le_bytes());
    });
    let ran = parity(&bench.path("cases"), "");
    assert_eq!(ran.code, Some(1), "{}", ran.stdout);
    assert!(ran.stdout.contains("FAIL text_embeds"), "{}", ran.stdout);
    assert!(ran.stdout.contains("0 of 1 cases"), "{}", ran.stdout);
    let ran = parity(&bench.path("cases"), "--json");
    assert_eq!(ran.code, Some(1));
    assert_eq!(
        ran.json()["cases"][0]["comparisons"]
            .as_array()
            .unwrap()
            .len(),
        3
    );

    // A case that cannot be run counts as failed; so does no case at all.
    fs::remove_file(
        bench
            .path("cases/weights")
            .join(name)
            .join("model.safetensors"),
    )
    .unwrap();
    let ran = parity(&bench.path("cases"), "");
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains(name), "{}", ran.stderr);
    assert_eq!(parity(&cases, "--only no-such-case").code, Some(1));
    parity(&bench.path("pictures"), "").refused(&["no case.json"]);
}
