//! Whole architectures: each published name must become the name that diffusers' own conversion
//! functions give it. The lists are made by `eval/parity/checkpoint.py`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

use flate2::read::GzDecoder;
use negkit_nn::TensorSource;

use crate::naming::{Naming, compvis};
use crate::source::Bytes;
use crate::{Checkpoint, ElementType, Format, TensorView};

/// Published name, today's name, published shape, today's shape.
type Pair = (String, String, Vec<usize>, Vec<usize>);

fn pairs(name: &str) -> Vec<Pair> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../eval/parity/fixtures/checkpoint/naming")
        .join(name);
    serde_json::from_reader(GzDecoder::new(File::open(path).unwrap())).unwrap()
}

/// A tensor of any shape in four bytes of its own, to be recognised by.
fn token(shape: &[usize]) -> TensorView {
    let strides = vec![0; shape.len()];
    let storage = Bytes::owned(vec![0; 4]);
    TensorView::new(storage, ElementType::F32, shape.to_vec(), strides, 0).unwrap()
}

fn published<'a>(names: impl IntoIterator<Item = (&'a str, &'a [usize])>) -> Checkpoint {
    let names = names.into_iter();
    let tensors: BTreeMap<_, _> = names
        .map(|(name, shape)| (name.to_owned(), token(shape)))
        .collect();
    Checkpoint {
        tensors,
        files: Vec::new(),
        format: Format::Memory,
        metadata: BTreeMap::new(),
        origin: "a list of names".to_owned(),
    }
}

fn old_names(pairs: &[Pair]) -> impl Iterator<Item = (&str, &[usize])> {
    pairs
        .iter()
        .map(|(old, _, shape, _)| (old.as_str(), shape.as_slice()))
}

/// `converted` has exactly the names and shapes of `pairs`, each from the right tensor of `source`.
fn assert_paired(converted: &Checkpoint, source: &Checkpoint, pairs: &[Pair]) {
    let mut names: Vec<&String> = pairs.iter().map(|(_, new, _, _)| new).collect();
    names.sort();
    assert_eq!(converted.names().iter().collect::<Vec<_>>(), names);
    for (old, new, _, shape) in pairs {
        let view = converted.get(new).unwrap();
        assert_eq!(view.shape(), shape, "{new}");
        let origin = source.get(old).unwrap();
        assert!(view.shares_elements_with(origin), "{new} is not {old}");
    }
}

fn check_single_file(stem: &str, unet_tensors: usize, vae_tensors: usize) {
    let unet = pairs(&format!("{stem}-unet.json.gz"));
    let vae = pairs(&format!("{stem}-vae.json.gz"));
    assert_eq!((unet.len(), vae.len()), (unet_tensors, vae_tensors));
    let text = "cond_stage_model.transformer.text_model.final_layer_norm.weight";
    let rest: [(&str, &[usize]); 4] = [
        (text, &[768]),
        ("alphas_cumprod", &[1000]),
        ("model_ema.decay", &[]),
        (
            "model_ema.diffusion_modelinput_blocks00weight",
            &[320, 4, 3, 3],
        ),
    ];
    let file = published(old_names(&unet).chain(old_names(&vae)).chain(rest));
    assert_eq!(Naming::detect(&file), Naming::CompVis);
    let split = compvis::split(&file).unwrap();
    assert!(split.unknown.is_empty(), "{:?}", split.unknown);
    assert_paired(&split.unet.unwrap(), &file, &unet);
    assert_paired(&split.vae.unwrap(), &file, &vae);
    let text_encoder = split.text_encoder.unwrap();
    assert_eq!(text_encoder.names(), ["text_model.final_layer_norm.weight"]);
}

#[test]
fn stable_diffusion_1_4_is_renamed_as_diffusers_renames_it() {
    check_single_file("sd-1.4", 686, 248);
}

#[test]
fn other_numbers_of_blocks_and_layers_are_told_by_the_tensors() {
    let unet = pairs("tiny-unet.json.gz").len();
    let vae = pairs("tiny-vae.json.gz").len();
    assert!(unet > 100 && vae > 50);
    check_single_file("tiny", unet, vae);
}

#[test]
fn an_autoencoder_alone_is_renamed_the_same() {
    let vae = pairs("sd-1.4-vae.json.gz");
    let loss: (&str, &[usize]) = ("loss.discriminator.main.0.weight", &[64, 3, 4, 4]);
    let prefixed = published(old_names(&vae));
    let bare = prefixed.strip_prefix("first_stage_model.");
    let mut file = bare.clone();
    file.tensors.extend(published([loss]).tensors);
    assert_eq!(Naming::detect(&file), Naming::CompVis);
    let split = compvis::split(&file).unwrap();
    assert!(split.unet.is_none() && split.text_encoder.is_none() && split.unknown.is_empty());
    assert_paired(&split.vae.unwrap(), &prefixed, &vae);
}

#[test]
fn the_text_encoder_of_stable_diffusion_2_loses_its_last_layer() {
    let text = pairs("sd-2-text.json.gz");
    assert_eq!(text.len(), 4 + 23 * 16);
    let prefix = "cond_stage_model.model.";
    let last = |name: &str| name.replace("resblocks.22.", "resblocks.23.");
    let mut file = published(old_names(&text));
    let layer: Vec<_> = old_names(&text)
        .filter(|(name, _)| name.contains(".resblocks.22."))
        .map(|(name, shape)| (last(name), token(shape)))
        .collect();
    assert!(!layer.is_empty());
    file.tensors.extend(layer);
    for name in ["text_projection", "logit_scale", "attn_mask"] {
        file.tensors
            .insert(format!("{prefix}{name}"), token(&[8, 8]));
    }
    let split = compvis::split(&file).unwrap();
    assert_paired(&split.text_encoder.unwrap(), &file, &text);
}
