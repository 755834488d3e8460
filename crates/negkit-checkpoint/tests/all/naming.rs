//! Conversions between naming schemes, value by value on small models.

use candle_core::{DType, Device, Tensor};
use negkit_checkpoint::naming::{Naming, clip, clipseg, compvis, diffusers_vae};
use negkit_checkpoint::{Checkpoint, CheckpointError};
use negkit_nn::TensorSource;

use crate::support::{assert_same, open};

/// The same tensors under other names; `None` leaves one out.
fn renamed(checkpoint: &Checkpoint, name: impl Fn(&str) -> Option<String>) -> Checkpoint {
    let tensors = checkpoint.iter().filter_map(|(old, _)| {
        let tensor = checkpoint.load(old, DType::F32, &Device::Cpu).unwrap();
        Some((name(old)?, tensor))
    });
    Checkpoint::from_tensors(tensors).unwrap()
}

fn of_shapes(tensors: &[(&str, &[usize])]) -> Checkpoint {
    let tensors = tensors.iter().map(|(name, shape)| {
        let zeros = Tensor::zeros(*shape, DType::F32, &Device::Cpu).unwrap();
        ((*name).to_owned(), zeros)
    });
    Checkpoint::from_tensors(tensors).unwrap()
}

fn openai_clip() -> Checkpoint {
    open("naming/clip-openai.pth")
}

fn transformers_clip() -> Checkpoint {
    open("naming/clip-transformers.safetensors")
}

#[test]
fn openai_clip_becomes_transformers() {
    let openai = openai_clip();
    assert_eq!(Naming::detect(&openai), Naming::OpenAiClip);
    assert_same(
        &clip::to_transformers(&openai).unwrap(),
        &transformers_clip(),
    );
}

#[test]
fn transformers_clip_becomes_openai_and_a_pytorch_archive() {
    let load = |checkpoint: &Checkpoint| -> Vec<(String, Tensor)> {
        let names = checkpoint.names().into_iter();
        names
            .map(|name| {
                let tensor = checkpoint.load(&name, DType::F32, &Device::Cpu).unwrap();
                (name, tensor)
            })
            .collect()
    };
    let renamed = clip::to_openai(load(&transformers_clip())).unwrap();
    let published = Checkpoint::from_tensors(load(&openai_clip())).unwrap();
    assert_same(
        &Checkpoint::from_tensors(renamed.clone()).unwrap(),
        &published,
    );

    // As `torch.save` would write it, read again; types other than f32 and a scalar as well.
    let half = Tensor::new(&[1f32, -2.5], &Device::Cpu).unwrap();
    let more = [
        ("half", half.to_dtype(DType::F16).unwrap()),
        ("brain", half.to_dtype(DType::BF16).unwrap()),
        ("long", Tensor::new(&[[1i64 << 40]], &Device::Cpu).unwrap()),
        (
            "empty",
            Tensor::zeros((0, 3), DType::F32, &Device::Cpu).unwrap(),
        ),
    ];
    let more = more.map(|(name, tensor)| (name.to_owned(), tensor));
    let all: Vec<(String, Tensor)> = renamed.into_iter().chain(more).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.pth");
    let borrowed = || all.iter().map(|(name, tensor)| (name.as_str(), tensor));
    let file = std::fs::File::create(&path).unwrap();
    negkit_checkpoint::write_state_dict(file, borrowed()).unwrap();
    assert_same(
        &Checkpoint::open(&path).unwrap(),
        &Checkpoint::from_tensors(all.clone()).unwrap(),
    );
    let mut again = std::io::Cursor::new(Vec::new());
    negkit_checkpoint::write_state_dict(&mut again, borrowed()).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), again.into_inner());

    let without_keys = load(&transformers_clip())
        .into_iter()
        .filter(|(name, _)| !name.ends_with("layers.0.self_attn.k_proj.weight"));
    let error = clip::to_openai(without_keys).unwrap_err().to_string();
    assert!(error.contains("resblocks.0.attn.in_proj_weight"), "{error}");
}

/// What the authors of other encoders save: NegCLIP is a checkpoint of open_clip's trainer,
/// CoN-CLIP has the model beside its optimiser and a class with the arguments, TNG-CLIP the CLIP
/// as a member of the class in training. `eval/parity/checkpoint.py` writes them so.
#[test]
fn checkpoints_of_other_encoders_become_transformers() {
    for name in [
        "negclip.pt",
        "conclip.pt",
        "tngclip.pth",
        "tngclip-inner.pth",
    ] {
        let found = open(&format!("naming/{name}"));
        assert_eq!(Naming::detect(&found), Naming::OpenAiClip, "{name}");
        assert_same(
            &clip::to_transformers(&found).unwrap(),
            &transformers_clip(),
        );
    }
}

#[test]
fn open_clip_with_a_text_tower_of_its_own_becomes_transformers() {
    let custom = renamed(&openai_clip(), |name| {
        let bare = name.starts_with("visual.") || name == "logit_scale";
        Some(if bare {
            name.to_owned()
        } else {
            format!("text.{name}")
        })
    });
    assert!(custom.get("text.text_projection").is_some());
    assert_eq!(Naming::detect(&custom), Naming::OpenAiClip);
    assert_same(
        &clip::to_transformers(&custom).unwrap(),
        &transformers_clip(),
    );
}

#[test]
fn todays_names_stay() {
    let today = transformers_clip();
    assert_eq!(Naming::detect(&today), Naming::TransformersClip);
    assert_same(&clip::to_transformers(&today).unwrap(), &today);
}

#[test]
fn a_tower_of_transformers_5_gets_its_prefix() {
    for tower in ["text_model.", "vision_model."] {
        let flat = transformers_clip().strip_prefix(tower);
        assert_eq!(Naming::detect(&flat), Naming::TransformersClip);
        let expected = flat.with_prefix(tower);
        assert_same(&clip::to_transformers(&flat).unwrap(), &expected);
        // A projection beside the tower has no prefix in any version.
        let name = if tower == "text_model." {
            "text_projection"
        } else {
            "visual_projection"
        };
        let projection = of_shapes(&[(&format!("{name}.weight"), &[5, 6])]);
        let both = clip::to_transformers(&flat.merge(&projection).unwrap()).unwrap();
        assert_same(&both, &expected.merge(&projection).unwrap());
    }
}

#[test]
fn clip_is_taken_out_of_clipseg() {
    let decoder = open("naming/clipseg-transformers.safetensors");
    let clipseg = transformers_clip()
        .with_prefix("clip.")
        .merge(&decoder)
        .unwrap();
    assert_eq!(Naming::detect(&clipseg), Naming::TransformersClipSeg);
    let expected = transformers_clip().merge(&decoder).unwrap();
    assert_same(&clip::to_transformers(&clipseg).unwrap(), &expected);
    assert_same(&clipseg::to_transformers(&clipseg).unwrap(), &clipseg);
}

#[test]
fn buffers_and_constants_are_dropped_and_unknown_names_kept() {
    let extra = of_shapes(&[
        ("input_resolution", &[]),
        ("context_length", &[]),
        ("vocab_size", &[]),
        ("attn_mask", &[7, 7]),
        ("transformer.resblocks.0.attn_mask", &[7, 7]),
        ("visual.attn_pool.query", &[2, 2]),
        ("transformer.resblocks.0.ls_1.gamma", &[6]),
        ("ln_finality", &[6]),
    ]);
    let converted = clip::to_transformers(&openai_clip().merge(&extra).unwrap()).unwrap();
    let kept = [
        "ln_finality",
        "transformer.resblocks.0.ls_1.gamma",
        "visual.attn_pool.query",
    ];
    let expected = transformers_clip().merge(&renamed(&extra, |name| {
        kept.contains(&name).then(|| name.to_owned())
    }));
    assert_same(&converted, &expected.unwrap());

    let ids = of_shapes(&[("text_model.embeddings.position_ids", &[1, 7])]);
    let with_ids = transformers_clip().merge(&ids).unwrap();
    assert_same(
        &clip::to_transformers(&with_ids).unwrap(),
        &transformers_clip(),
    );
}

#[test]
fn misshapen_and_doubled_tensors_are_errors_that_name_them() {
    let block = "transformer.resblocks.0.attn.in_proj_weight";
    for (name, shape) in [
        (block, &[10, 4][..]),
        (block, &[]),
        ("text_projection", &[6]),
        ("visual.proj", &[6, 5, 1]),
    ] {
        let anchor = of_shapes(&[("transformer.resblocks.0.ln_1.bias", &[4])]);
        let bad = anchor.merge(&of_shapes(&[(name, shape)])).unwrap();
        let error = clip::to_transformers(&bad).unwrap_err();
        assert!(
            matches!(error, CheckpointError::Misshapen { .. }),
            "{error}"
        );
        assert!(error.to_string().contains(name), "{error}");
    }
    let doubled = of_shapes(&[
        ("ln_final.weight", &[4]),
        ("text.ln_final.weight", &[4]),
        ("transformer.resblocks.0.ln_1.bias", &[4]),
    ]);
    let error = clip::to_transformers(&doubled).unwrap_err();
    assert!(
        matches!(error, CheckpointError::Duplicate { .. }),
        "{error}"
    );
    assert!(
        error.to_string().contains("text.ln_final.weight"),
        "{error}"
    );
}

#[test]
fn the_original_clipseg_decoder_becomes_transformers() {
    for name in ["clipseg", "clipseg-refined"] {
        let original = open(&format!("naming/{name}-original.pth"));
        assert_eq!(Naming::detect(&original), Naming::OriginalClipSeg);
        assert!(original.get("reduce.weight").is_some());
        let expected = open(&format!("naming/{name}-transformers.safetensors"));
        assert_same(&clipseg::to_transformers(&original).unwrap(), &expected);
    }
}

#[test]
fn an_original_clipseg_with_its_clip_becomes_transformers() {
    let original = open("naming/clipseg-original.pth");
    let vision = openai_clip().strip_prefix("visual.").with_prefix("model.");
    let whole = original
        .merge(&openai_clip().with_prefix("clip_model."))
        .unwrap();
    let whole = whole.merge(&vision).unwrap();
    let expected = transformers_clip().with_prefix("clip.");
    let decoder = open("naming/clipseg-transformers.safetensors");
    let expected = expected.merge(&decoder).unwrap();
    assert_same(&clipseg::to_transformers(&whole).unwrap(), &expected);

    // Without the other copy nothing may vanish.
    let alone = clipseg::to_transformers(&original.merge(&vision).unwrap()).unwrap();
    assert_same(&alone, &decoder.merge(&vision).unwrap());
}

#[test]
fn old_attention_names_of_the_vae_become_todays() {
    let old = of_shapes(&[
        ("decoder.mid_block.attentions.0.group_norm.weight", &[4]),
        ("decoder.mid_block.attentions.0.key.bias", &[4]),
        ("decoder.mid_block.attentions.0.key.weight", &[4, 4]),
        (
            "decoder.mid_block.attentions.0.proj_attn.weight",
            &[4, 4, 1, 1],
        ),
        ("decoder.mid_block.attentions.0.query.weight", &[4, 4, 1, 1]),
        ("decoder.mid_block.attentions.0.value.weight", &[4, 4]),
        (
            "decoder.mid_block.resnets.0.conv_shortcut.weight",
            &[4, 2, 1, 1],
        ),
        ("quant_conv.weight", &[8, 8, 1, 1]),
    ]);
    assert_eq!(Naming::detect(&old), Naming::DiffusersVae);
    let today = diffusers_vae::to_current(&old).unwrap();
    let expected = of_shapes(&[
        ("decoder.mid_block.attentions.0.group_norm.weight", &[4]),
        ("decoder.mid_block.attentions.0.to_k.bias", &[4]),
        ("decoder.mid_block.attentions.0.to_k.weight", &[4, 4]),
        ("decoder.mid_block.attentions.0.to_out.0.weight", &[4, 4]),
        ("decoder.mid_block.attentions.0.to_q.weight", &[4, 4]),
        ("decoder.mid_block.attentions.0.to_v.weight", &[4, 4]),
        (
            "decoder.mid_block.resnets.0.conv_shortcut.weight",
            &[4, 2, 1, 1],
        ),
        ("quant_conv.weight", &[8, 8, 1, 1]),
    ]);
    assert_same(&today, &expected);
    assert_same(&diffusers_vae::to_current(&today).unwrap(), &expected);
}

#[test]
fn a_single_file_names_what_belongs_to_no_model() {
    let file = of_shapes(&[
        ("betas", &[3]),
        (
            "cond_stage_model.transformer.text_model.embeddings.position_ids",
            &[1, 7],
        ),
        (
            "cond_stage_model.transformer.text_model.final_layer_norm.bias",
            &[4],
        ),
        ("control_model.conv_in.bias", &[4]),
        ("model.diffusion_model.mystery", &[1]),
        ("model.diffusion_model.out.2.bias", &[4]),
        ("model_ema.diffusion_modelout2bias", &[4]),
    ]);
    assert_eq!(Naming::detect(&file), Naming::CompVis);
    let split = compvis::split(&file).unwrap();
    assert_eq!(split.unknown, ["control_model.conv_in.bias"]);
    assert!(split.vae.is_none());
    assert_eq!(split.unet.unwrap().names(), ["conv_out.bias", "mystery"]);
    let text = split.text_encoder.unwrap();
    assert_eq!(text.names(), ["text_model.final_layer_norm.bias"]);
}
