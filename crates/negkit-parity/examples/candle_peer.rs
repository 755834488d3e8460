//! candle-transformers' own models on a parity case, timed: the `candle` engine of
//! `eval/bench/compare.sh`.
//!
//! ```sh
//! cargo run --release -p negkit-parity --example candle_peer -- CASE --repeat 3
//! ```
//!
//! Reads the same weight files and inputs as the other engines and prints one line of JSON. f32 only:
//! candle has no bf16 products on a CPU. With the features of this workspace, so that its products
//! use AVX-512 where there is, and with our allocator: better than it comes.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use candle_core::{DType, Device, Module, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::clip::text_model::Activation;
use candle_transformers::models::clip::vision_model::{ClipVisionConfig, ClipVisionTransformer};
use candle_transformers::models::stable_diffusion::clip as text;
use candle_transformers::models::stable_diffusion::unet_2d::{
    UNet2DConditionModel, UNet2DConditionModelConfig,
};
use candle_transformers::models::stable_diffusion::vae::{AutoEncoderKL, AutoEncoderKLConfig};
use negkit_parity::{Case, CaseKind};
use serde_json::{Value, json};

// As in the command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A model with its inputs, ready to run.
type Run = Box<dyn Fn() -> candle_core::Result<Tensor>>;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [case, flag, repeat] = arguments.as_slice() else {
        bail!("usage: candle_peer CASE --repeat N");
    };
    if flag != "--repeat" {
        bail!("expected --repeat, found '{flag}'");
    }
    let repeat: usize = repeat.parse().context("--repeat expects a number")?;
    let case = Case::open(&PathBuf::from(case))?;
    let start = Instant::now();
    let (output, run) = load(&case)?;
    let loading = start.elapsed().as_secs_f64();
    let found = run()?;
    let expected = case.expected(output)?;
    let difference = (found.reshape(expected.dims())? - &expected)?;
    let norm = |x: &Tensor| x.sqr()?.sum_all()?.to_scalar::<f32>().map(f32::sqrt);
    let mut seconds = Vec::with_capacity(repeat);
    for _ in 0..repeat {
        let start = Instant::now();
        run()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    let report = json!({
        "engine": "candle-transformers 0.11",
        "seconds": seconds,
        "loading": loading,
        "relative_l2": norm(&difference)? / norm(&expected)?,
        "notes": "gemm with AVX-512 where there is, mimalloc",
    });
    println!("{report}");
    Ok(())
}

/// The weights in the one safetensors file of `folder` that is not a variant, memory-mapped.
#[allow(unsafe_code, reason = "candle's way to map a file")]
fn weights(folder: &Path) -> anyhow::Result<VarBuilder<'static>> {
    let names = ["diffusion_pytorch_model.safetensors", "model.safetensors"];
    let file = names.map(|name| folder.join(name));
    let Some(file) = file.into_iter().find(|file| file.is_file()) else {
        bail!(
            "{} holds no weights: expected one of {names:?}",
            folder.display()
        );
    };
    // SAFETY: the file lies in the comparison's work folder, which nothing writes to meanwhile.
    Ok(unsafe { VarBuilder::from_mmaped_safetensors(&[file], DType::F32, &Device::Cpu)? })
}

fn load(case: &Case) -> anyhow::Result<(&'static str, Run)> {
    let vb = weights(&case.model)?;
    let input = |name: &str| case.input(name, &Device::Cpu);
    match case.kind {
        CaseKind::Unet => {
            let config = UNet2DConditionModelConfig {
                cross_attention_dim: 768,
                ..UNet2DConditionModelConfig::default()
            };
            let model = UNet2DConditionModel::new(vb, 4, 4, false, config)?;
            let (sample, states) = (input("sample")?, input("encoder_hidden_states")?);
            // It takes one time step for all samples.
            let step = input("timestep")?.to_dtype(DType::F64)?.to_vec1::<f64>()?[0];
            Ok((
                "sample",
                Box::new(move || model.forward(&sample, step, &states)),
            ))
        }
        CaseKind::VaeDecode => {
            let config = AutoEncoderKLConfig {
                block_out_channels: vec![128, 256, 512, 512],
                layers_per_block: 2,
                ..AutoEncoderKLConfig::default()
            };
            let model = AutoEncoderKL::new(vb, 3, 3, config)?;
            let latents = input("latents")?;
            Ok(("image", Box::new(move || model.decode(&latents))))
        }
        CaseKind::ClipText => {
            let model = text::ClipTextTransformer::new(vb, &text::Config::v1_5())?;
            let ids = input("input_ids")?.to_dtype(DType::U32)?;
            let rows = ids.chunk(ids.dim(0)?, 0)?;
            // It takes one row at a time.
            let run = move || {
                let rows: Vec<Tensor> = rows
                    .iter()
                    .map(|row| model.forward(row))
                    .collect::<Result<_, _>>()?;
                Tensor::cat(&rows, 0)
            };
            Ok(("last_hidden_state", Box::new(run)))
        }
        CaseKind::ClipVision => {
            let config = vision_config(&case.model)?;
            let projection = candle_nn::linear_no_bias(
                config.embed_dim,
                config.projection_dim,
                vb.pp("visual_projection"),
            )?;
            let model = ClipVisionTransformer::new(vb.pp("vision_model"), &config)?;
            let pixels = input("pixel_values")?;
            let run = move || projection.forward(&model.forward(&pixels)?);
            Ok(("image_embeds", Box::new(run)))
        }
        other => bail!("candle-transformers has no model for a case of kind {other:?}"),
    }
}

fn vision_config(folder: &Path) -> anyhow::Result<ClipVisionConfig> {
    let file = folder.join("config.json");
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("cannot read {}", file.display()))?;
    let all: Value = serde_json::from_str(&text)?;
    let size = |name: &str| -> anyhow::Result<usize> {
        let found = all["vision_config"][name].as_u64();
        let found = found.with_context(|| format!("{}: no {name}", file.display()))?;
        Ok(usize::try_from(found)?)
    };
    Ok(ClipVisionConfig {
        embed_dim: size("hidden_size")?,
        activation: Activation::QuickGelu,
        intermediate_size: size("intermediate_size")?,
        num_hidden_layers: size("num_hidden_layers")?,
        num_attention_heads: size("num_attention_heads")?,
        projection_dim: size("projection_dim")?,
        num_channels: 3,
        image_size: size("image_size")?,
        patch_size: size("patch_size")?,
    })
}
