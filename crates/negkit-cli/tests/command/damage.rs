//! Damaged weight files: the error names all that is wrong.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::bench::{Bench, Ran, Stored, edit_safetensors, weights};

const TEXT: &str = "text_encoder/model.safetensors";
const UNET: &str = "unet/diffusion_pytorch_model.safetensors";
const VAE: &str = "vae/diffusion_pytorch_model.safetensors";

fn txt2img(bench: &Bench, model: &Path) -> Ran {
    let line = "txt2img x --offline --steps 1 --width 16 --height 16 --out out --model";
    bench.run_line(line, &[model.as_os_str()])
}

/// A pipeline with a part of it changed.
fn pipeline(
    bench: &Bench,
    part: &str,
    edit: impl FnOnce(&mut BTreeMap<String, Stored>),
) -> PathBuf {
    let model = bench.copy(&weights("sd"), "model");
    edit_safetensors(&model.join(part), edit);
    model
}

/// Takes one tensor away, adds one, and turns one and another round.
fn damage(tensors: &mut BTreeMap<String, Stored>) -> Vec<String> {
    let matrices = tensors.iter().filter(|(name, tensor)| {
        let is_square = tensor.shape.len() < 2 || tensor.shape[0] == tensor.shape[1];
        // A buffer that no model reads.
        !is_square && !name.ends_with("position_ids")
    });
    let names: Vec<String> = matrices.map(|(name, _)| name.clone()).take(4).collect();
    let [missing, turned, short, ..] = &names[..] else {
        panic!("only {names:?} can be damaged");
    };
    tensors.remove(missing);
    let turned_tensor = tensors.get_mut(turned).unwrap();
    turned_tensor.shape.swap(0, 1);
    let short_tensor = tensors.get_mut(short).unwrap();
    let row = short_tensor.bytes.len() / short_tensor.shape[0];
    short_tensor.bytes.truncate(short_tensor.bytes.len() - row);
    short_tensor.shape[0] -= 1;
    let extra = "lora_a.weight".to_owned();
    let copy = tensors[turned].clone();
    tensors.insert(extra.clone(), copy);
    vec![
        format!("missing     {missing}"),
        format!("misshapen   {turned}"),
        format!("misshapen   {short}"),
        format!("extra       {extra}"),
    ]
}

#[test]
fn an_undamaged_copy_is_taken() {
    let bench = Bench::new();
    let model = pipeline(&bench, UNET, |_| {});
    txt2img(&bench, &model).good();
}

#[test]
fn all_offending_tensors_are_named_at_once() {
    for (part, model_name) in [
        (TEXT, "CLIP text tower"),
        (UNET, "the UNet"),
        (VAE, "the VAE"),
    ] {
        let bench = Bench::new();
        let mut expected = Vec::new();
        let model = pipeline(&bench, part, |tensors| expected = damage(tensors));
        let mut parts: Vec<&str> = expected.iter().map(String::as_str).collect();
        parts.extend([part, model_name, "4 tensor(s) do not fit"]);
        txt2img(&bench, &model).refused(&parts);
        assert!(!bench.path("out").exists());
    }
}

#[test]
fn damaged_clipseg_and_encoders_are_refused() {
    let bench = Bench::new();
    let photo = bench.path("photo.png");
    image::RgbImage::new(40, 40).save(&photo).unwrap();
    let folder = bench.copy_with_tokenizer("clipseg-rd64");
    edit_safetensors(&folder.join("model.safetensors"), |tensors| {
        tensors.remove("decoder.film_mul.bias").unwrap();
        tensors.remove("decoder.reduces.1.weight").unwrap();
        tensors
            .get_mut("decoder.reduces.0.weight")
            .unwrap()
            .shape
            .swap(0, 1);
    });
    let line = "segment -p dog --offline --model";
    bench
        .run_line(line, &[folder.as_os_str(), photo.as_os_str()])
        .refused(&[
            "CLIPSeg",
            "missing     decoder.film_mul.bias",
            "missing     decoder.reduces.1.weight",
            "misshapen   decoder.reduces.0.weight",
            "3 tensor(s)",
        ]);

    let clip = bench.copy_with_tokenizer("clip-hf");
    edit_safetensors(&clip.join("model.safetensors"), |tensors| {
        tensors.remove("text_model.final_layer_norm.bias").unwrap();
        tensors
            .remove("text_model.encoder.layers.1.mlp.fc2.weight")
            .unwrap();
    });
    let line = "encoders compare --offline";
    bench
        .run_line(line, &[clip.as_os_str(), clip.as_os_str()])
        .refused(&[
            "missing     text_model.final_layer_norm.bias",
            "missing     text_model.encoder.layers.1.mlp.fc2.weight",
        ]);
}

#[test]
fn broken_files_are_refused() {
    let bench = Bench::new();
    for part in [TEXT, UNET, VAE] {
        let whole = fs::read(weights("sd").join(part)).unwrap();
        let header = u64::from_le_bytes(whole[..8].try_into().unwrap());
        let with_header = |length: u64| {
            let mut bytes = whole.clone();
            bytes[..8].copy_from_slice(&length.to_le_bytes());
            bytes
        };
        let mut edited = whole.clone();
        let position = edited
            .windows(12)
            .position(|w| w == b"data_offsets")
            .unwrap();
        edited[position + 15] = b'9';
        let mut longer = whole.clone();
        longer.extend([0; 16]);
        let broken: [(&str, Vec<u8>); 9] = [
            ("empty", Vec::new()),
            ("8 bytes", whole[..8].to_vec()),
            ("within the header", whole[..100].to_vec()),
            ("within the tensors", whole[..whole.len() - 7].to_vec()),
            ("header of no length", with_header(0)),
            ("header beyond the file", with_header(1 << 40)),
            ("header of all lengths", with_header(u64::MAX)),
            ("header that ends early", with_header(header - 1)),
            ("another offset", edited),
        ];
        for (what, bytes) in broken.into_iter().chain([("bytes after the end", longer)]) {
            let model = bench.copy(&weights("sd"), "model");
            fs::write(model.join(part), bytes).unwrap();
            println!("{part}: {what}");
            txt2img(&bench, &model).refused(&[part]);
        }
    }
}

#[test]
fn broken_configurations_are_refused() {
    let bench = Bench::new();
    for (file, text, why) in [
        ("unet/config.json", "{", "EOF"),
        (
            "unet/config.json",
            r#"{"block_out_channels": "many"}"#,
            "\"many\"",
        ),
        ("vae/config.json", "[]", "sequence"),
        (
            "scheduler/scheduler_config.json",
            r#"{"_class_name": "LMSDiscreteScheduler"}"#,
            "LMSDiscreteScheduler",
        ),
        ("scheduler/scheduler_config.json", "", "EOF"),
        ("text_encoder/config.json", r#"{"hidden_size": -1}"#, "-1"),
        ("tokenizer/vocab.json", r#"{"a": "b"}"#, "\"b\""),
        (
            "tokenizer/merges.txt",
            "#version: 0.2\na b c d\n",
            "a b c d",
        ),
    ] {
        let model = bench.copy(&weights("sd"), "model");
        fs::write(model.join(file), text).unwrap();
        let error = txt2img(&bench, &model).refused(&[why]);
        // A class that is not known is found when the scheduler is built, after its file is read.
        if !text.contains("LMS") {
            assert!(error.contains(file), "{file} is not in {error}");
        }
        assert_eq!(error.matches(why).count(), 1, "said twice: {error}");
        fs::remove_dir_all(&model).unwrap();
    }
    for file in [
        UNET,
        VAE,
        TEXT,
        "unet/config.json",
        "vae/config.json",
        "tokenizer/vocab.json",
    ] {
        let model = bench.copy(&weights("sd"), "model");
        fs::remove_file(model.join(file)).unwrap();
        let name = Path::new(file).parent().unwrap().to_str().unwrap();
        txt2img(&bench, &model).refused(&[name]);
        fs::remove_dir_all(&model).unwrap();
    }
}
